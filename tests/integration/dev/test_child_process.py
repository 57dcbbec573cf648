"""A server process belongs to one home, and a home to one parent.

Goal: no orphan, no stranger killed, no two owners. Method: small Python programs in the place of a
server, with every kind of parent that dies.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from k2i_core.clock import SystemClock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.errors import ConfigError

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
IGNORES_TERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildProcess]:
    child = _child(tmp_path)
    yield child
    child.kill()


def _child(home: Path, stop_seconds_max: float = 30.0) -> ChildProcess:
    return ChildProcess(
        "the server",
        home,
        f"--home={home}",
        SystemClock(),
        stop_seconds_max=stop_seconds_max,
    )


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _launch(child: ChildProcess, home: Path, program: str = SLEEPS) -> int:
    child.claim()
    child.launch([sys.executable, "-c", program, f"--home={home}"], {"PATH": os.defpath})
    assert child.pid is not None
    return child.pid


def test_a_server_ends_with_stop_and_with_kill(tmp_path: Path, child: ChildProcess) -> None:
    for end, signal_number in ((child.stop, signal.SIGTERM), (child.kill, signal.SIGKILL)):
        pid = _launch(child, tmp_path)
        end()
        assert child.exit_code == -signal_number
        assert not psutil.pid_exists(pid)
        assert not (tmp_path / "pid").exists()
    child.stop()


STARTS_A_WORKER = f"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {IGNORES_TERM!r}], stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, flush=True)
"""


@pytest.mark.parametrize("ends_itself", [True, False])
def test_what_a_server_started_ends_with_it(tmp_path: Path, ends_itself: bool) -> None:
    child = _child(tmp_path, stop_seconds_max=1.0)
    _launch(child, tmp_path, STARTS_A_WORKER + ("" if ends_itself else "worker.wait()"))
    _wait_until(lambda: child.last_log_lines().isdigit())
    worker = psutil.Process(int(child.last_log_lines()))
    if ends_itself:
        _wait_until(lambda: child.exit_code == 0)
    child.stop()
    _wait_until(lambda: _has_ended(worker))


def test_a_frozen_server_hears_the_stop(tmp_path: Path, child: ChildProcess) -> None:
    pid = _launch(child, tmp_path)
    child.suspend()
    _wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    child.stop()
    assert child.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("program", [SLEEPS, IGNORES_TERM], ids=["polite", "deaf"])
def test_what_a_crashed_parent_left_behind_is_stopped(tmp_path: Path, program: str) -> None:
    child = _child(tmp_path, stop_seconds_max=1.0)
    # A grandchild, so that its end leaves no zombie of ours behind, as with a parent that died.
    launcher = f"""
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {program!r}, "--home={tmp_path}"],
    stdout=subprocess.PIPE,
    start_new_session=True,
)
child.stdout.readline()
print(child.pid)
"""
    printed = subprocess.run([sys.executable, "-c", launcher], stdout=subprocess.PIPE, check=True)
    left_behind = psutil.Process(int(printed.stdout))
    (tmp_path / "pid").write_text(json.dumps({"pid": left_behind.pid}))
    child.claim()
    _wait_until(lambda: _has_ended(left_behind))
    assert not (tmp_path / "pid").exists()
    child.stop()


def test_a_process_that_only_has_the_same_number_is_left_alone(
    tmp_path: Path, child: ChildProcess
) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS, f"--home={tmp_path}-other"]) as bystander:
        (tmp_path / "pid").write_text(json.dumps({"pid": bystander.pid}))
        child.claim()
        assert bystander.poll() is None
        child.stop()
        bystander.kill()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', '{"pid": -5}'])
def test_a_torn_or_odd_pid_file_is_ignored(
    tmp_path: Path, child: ChildProcess, content: str
) -> None:
    (tmp_path / "pid").write_text(content)
    child.claim()
    child.stop()


def test_a_home_has_one_owner_until_the_server_is_ended(
    tmp_path: Path, child: ChildProcess
) -> None:
    second = _child(tmp_path)
    pid = _launch(child, tmp_path)
    with pytest.raises(ConfigError, match="in use by another process"):
        second.claim()
    assert child.pid == pid
    child.stop()
    second.claim()
    second.stop()


def test_the_log_before_the_last_start_is_kept(tmp_path: Path, child: ChildProcess) -> None:
    for text in ("first", "second"):
        child.claim()
        child.launch([sys.executable, "-c", f"print('{text}')", f"--home={tmp_path}"], {})
        child._release()
    assert child.last_log_lines() == "second"
    assert (tmp_path / "server.log.1").read_text() == "first\n"
