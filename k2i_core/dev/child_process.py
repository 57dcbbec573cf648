"""One server process that belongs to a home directory, and to one parent at a time.

A server is the leader of a process group of its own, and what it starts belongs to it: stop and
kill end all of them.

Two things outlive a crashed parent and are dealt with when the home is claimed again:

- `lock` is held by the living parent. The kernel frees it however the parent dies, so a busy lock
  means that another parent is alive, and the claim is refused.
- `pid` names the server. If that process still runs *this* home, a crashed parent left it behind
  and it is stopped. A process that got the same number by chance does not have the home's own path
  among its arguments and is left alone.
"""

import atexit
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.interrupts import interrupts_held_back

_STOP_SECONDS_MAX = 30.0
"""Larger: Ctrl-C of a hanging server takes longer. Smaller: a busy server is killed before it has
written its clean-shutdown mark, and its next start is slower."""
_KILL_SECONDS_MAX = 10.0
_PROCESS_GROUP_FIELD = 2
"""Of what stands behind the name in /proc/PID/stat; the state is the first."""
_POLL_SECONDS = 0.02
_READY_POLL_SECONDS = 0.1
"""Larger: a start is noticed later; smaller: asking slows the start down."""


class ChildProcess:
    """Starts, stops and kills the one server of a home directory."""

    def __init__(
        self,
        name: str,
        home: Path,
        signature: str,
        clock: Clock,
        *,
        stop_seconds_max: float = _STOP_SECONDS_MAX,
    ) -> None:
        """Describe the process; nothing is started or written yet.

        Args:
            name: What to call the server in messages.
            home: Directory that belongs to it alone.
            signature: One whole command-line argument that no other process has.
            clock: For the waits.
            stop_seconds_max: How long it may take to end when it is asked to.
        """
        self.log_path = home / "server.log"
        self.name = name
        self._home = home
        self._signature = signature
        self._clock = clock
        self._stop_seconds_max = stop_seconds_max
        self._pid_path = home / "pid"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._group: int | None = None

    @property
    def pid(self) -> int | None:
        """The running server's process id; None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """How the last server ended; negative for a signal, None while it runs or never did."""
        return self._process.poll() if self._process else None

    def claim(self) -> None:
        """Take the home for this parent and stop what a crashed one left running in it.

        Raises:
            ConfigError: Another living process uses the home. Stop it, or choose another home.
            UnavailableError: The server left behind cannot be stopped.
        """
        if self._lock is not None:
            return
        self._home.mkdir(parents=True, exist_ok=True)
        lock = (self._home / "lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            message = (
                f"{self.name} is in use by another process home={self._home}: "
                "stop that one, or choose another directory"
            )
            raise ConfigError(message) from error
        self._lock = lock
        self._stop_left_behind()

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the server; its output goes to `log_path`, the one before to `server.log.1`."""
        assert self._lock is not None
        assert self.pid is None
        assert self._signature in command
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        # Uninterrupted, because a process that nobody has noted would never be ended.
        with interrupts_held_back(), self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._home,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal reaches only the parent, which stops its parts in order.
                start_new_session=True,
            )
            self._group = self._process.pid
            atexit.register(self.kill)
            self._pid_path.write_text(json.dumps({"pid": self._process.pid}), encoding="utf-8")

    def wait_until(self, is_ready: Callable[[], bool], deadline: float) -> None:
        """Wait until the server that was launched is ready.

        Args:
            is_ready: Asks it, and waits for its answer for a moment only.
            deadline: On the clock's boot time.

        Raises:
            UnavailableError: It ended, or was not ready in time; its log has the reason.
        """
        while not is_ready():
            problem = ""
            if self.pid is None:
                problem = f"ended while starting exit_code={self.exit_code}"
            elif self._clock.boot_seconds() >= deadline:
                problem = "did not get ready in time"
            if problem:
                error = UnavailableError(f"{self.name} {problem} log={self.log_path}")
                error.add_note(self.last_log_lines())
                raise error
            self._clock.sleep(_READY_POLL_SECONDS)

    def stop(self) -> None:
        """Ask the server and what it started to end, then make them; safe when it does not run."""
        if self._group is not None:
            deadline = self._clock.boot_seconds() + self._stop_seconds_max
            _signal_group(self._group, signal.SIGTERM)
            # A frozen server does not hear anything else.
            _signal_group(self._group, signal.SIGCONT)
            while _has_living_members(self._group) and self._clock.boot_seconds() < deadline:
                self._clock.sleep(_POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the server at once, as a power cut would; safe when it does not run."""
        if self._group is not None:
            # Also after the server's own end: what it started may still run.
            _signal_group(self._group, signal.SIGKILL)
        self._release()

    def suspend(self) -> None:
        """Freeze the server (SIGSTOP): its connections stay open and nothing answers."""
        assert self._group is not None
        _signal_group(self._group, signal.SIGSTOP)
        # Until every thread has stopped; before that, one may still answer.
        os.waitid(os.P_PID, self._group, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a frozen server go on."""
        assert self._group is not None
        _signal_group(self._group, signal.SIGCONT)

    def last_log_lines(self, line_count: int = 20) -> str:
        """Return the end of the server's log, for a note on an error."""
        if not self.log_path.exists():
            return ""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-line_count:])

    def _release(self) -> None:
        if self._process is not None:
            self._process.wait(_KILL_SECONDS_MAX)
            self._group = None
        if self._lock is None:
            return
        # Before the lock, because after it the file may be another parent's.
        self._pid_path.unlink(missing_ok=True)
        self._lock.close()
        self._lock = None
        atexit.unregister(self.kill)

    def _stop_left_behind(self) -> None:
        pid = _read_pid(self._pid_path)
        if pid is None:
            return
        if not self._runs_this_home(pid):
            self._pid_path.unlink(missing_ok=True)
            return
        for signal_number, seconds in (
            (signal.SIGTERM, self._stop_seconds_max),
            (signal.SIGKILL, _KILL_SECONDS_MAX),
        ):
            deadline = self._clock.boot_seconds() + seconds
            _signal_group(pid, signal_number)
            while _has_living_members(pid):
                if self._clock.boot_seconds() >= deadline:
                    break
                self._clock.sleep(_POLL_SECONDS)
            else:
                self._pid_path.unlink(missing_ok=True)
                return
        message = f"an earlier {self.name} does not end pid={pid} home={self._home}: kill it"
        raise UnavailableError(message)

    def _runs_this_home(self, pid: int) -> bool:
        if sys.platform == "linux":
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                return False
            return os.fsencode(self._signature) in arguments
        listed = subprocess.run(
            ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            check=False,
            timeout=_KILL_SECONDS_MAX,
        )
        return os.fsencode(self._signature) in listed.stdout


def _signal_group(leader: int, signal_number: signal.Signals) -> None:
    # macOS says the second when all that is left of the group waits to be waited for.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal_number)


def _has_living_members(leader: int) -> bool:
    """Tell whether a process of this group runs; one that nobody has waited for does not."""
    if sys.platform != "linux":
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name stands in brackets and may itself hold spaces and brackets.
            fields = path.read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[_PROCESS_GROUP_FIELD]) == leader and fields[0] not in b"ZX":
            return True
    return False


def _read_pid(path: Path) -> int | None:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        # Torn by a crash while it was written: then the server had only just been started, and
        # its own lock on its files makes the next start fail with a clear line in its log.
        return None
    pid = found.get("pid") if isinstance(found, dict) else None
    return pid if isinstance(pid, int) and pid > 1 else None
