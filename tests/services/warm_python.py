"""Programs of k2i as processes of a test that do not import everything anew.

More than a second of processor time of every program is imports, and the end-to-end tests start
programs by the hundred. So one process imports them once, for all tests of a session, and forks for
each program that is asked for. What comes out is a process of its own, as real as any other: it
runs the module as `python -m` would, and can be killed, frozen and waited for.

    program = warm_python().start("k2i_core.cli", "ingest", path, output=log)
    program.send_signal(signal.SIGSTOP)
    assert program.wait(60) == 0

Where forking is not safe for libraries (macOS) each program is a new Python. That a new one works,
too, is shown by the demo, by the workers of `k2i ingest` without `--worker`, and by Dagster's.
"""

import array
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

from k2i_core.cli.without_pandas import without_pandas

ROOT = Path(__file__).parents[2]
LENGTH_BYTES = 4
FORKS = sys.platform == "linux"


class Program(Protocol):
    """What tests do with a running program, whoever its parent is."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


class ForkedProgram:
    """A child of the process that forks, which tells over a connection how each child ended."""

    def __init__(self, connection: socket.socket, command: list[str]) -> None:
        self._connection = connection
        self._command = command
        self.returncode: int | None = None
        self.pid = _read_number(connection)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = _read_number(self._connection)
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._command, timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        # Not to one that has ended: its number may be another's by now.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """Starts modules as programs."""

    def __init__(self) -> None:
        if not FORKS:
            return
        # A name and not a pair of sockets, because tests start programs from several threads.
        self._address = Path(tempfile.mkdtemp(prefix="k2i-warm-")) / "programs"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._address))
            listener.listen()
            # It ends when its standard input does, which is when this process ends, however.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno())],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def start(
        self,
        module: str,
        *arguments: str,
        output: IO[bytes] | int = subprocess.DEVNULL,
        errors: IO[bytes] | None = None,
        cwd: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `python -m MODULE ARGUMENTS`; errors go where the output goes, unless told."""
        streams = (subprocess.DEVNULL, output, errors or output)
        return self._start([module, *arguments], streams, cwd, environment)

    def run(
        self,
        module: str,
        *arguments: str,
        typed: str = "",
        timeout: float = 180,
        cwd: Path = ROOT,
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE ARGUMENTS` to its end, with something typed into it."""
        command = [module, *arguments]
        with (
            tempfile.TemporaryFile() as typing,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            typing.write(typed.encode())
            typing.seek(0)
            program = self._start(command, (typing, output, errors), cwd, None)
            try:
                code = program.wait(timeout)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
                raise
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(command, code, *texts)

    def _start(
        self,
        command: list[str],
        streams: tuple[IO[bytes] | int, ...],
        cwd: Path,
        environment: Mapping[str, str] | None,
    ) -> Program:
        variables = {**os.environ, **(environment or {})}
        if not FORKS:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=cwd,
                env=variables,
                **dict(zip(("stdin", "stdout", "stderr"), streams, strict=True)),
            )
        asked = {"command": command, "directory": str(cwd), "environment": variables}
        request = json.dumps(asked).encode()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))
        with Path(os.devnull).open("r+b") as nothing:
            files = [nothing if one == subprocess.DEVNULL else one for one in streams]
            numbers = [one if isinstance(one, int) else one.fileno() for one in files]
            socket.send_fds(connection, [len(request).to_bytes(LENGTH_BYTES, "big")], numbers)
            connection.sendall(request)
            # The files may be closed once the child has them, which is when it has a number.
            return ForkedProgram(connection, command)


@cache
def warm_python() -> WarmPython:
    """The one of this process."""
    return WarmPython()


def _read_number(connection: socket.socket) -> int:
    numbers = array.array("i", _read(connection, 4))
    return numbers[0]


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        assert more, "the process that starts programs is gone; its standard error says why"
        found += more
    return found


class _Forker:
    """The other side: imports, then forks until nobody is there to ask for more."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: dict[int, socket.socket] = {}
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> list[str] | None:
        """Return a command in each child, and None in the parent when it is over."""
        while True:
            ready, _, _ = select.select([sys.stdin, self._woken, self._listener], [], [])
            if sys.stdin in ready:
                return None
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._tell_who_ended()
            if self._listener in ready:
                command = self._fork()
                if command is not None:
                    return command

    def _fork(self) -> list[str] | None:
        connection, _ = self._listener.accept()
        length, streams, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 3)
        request: dict[str, Any] = json.loads(_read(connection, int.from_bytes(length, "big")))
        pid = os.fork()
        if pid:
            for stream in streams:
                os.close(stream)
            self._children[pid] = connection
            connection.sendall(array.array("i", [pid]).tobytes())
            return None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._listener, connection, *self._children.values()):
            one.close()
        os.close(self._woken)
        # Safe because nothing was read from the standard streams yet, and nothing written to them.
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        return request["command"]

    def _tell_who_ended(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                with self._children.pop(pid) as connection, suppress(ConnectionError):
                    connection.sendall(array.array("i", [code]).tobytes())


def _import_what_most_need() -> None:
    with without_pandas():
        for name in ("ingest", "status", "table", "verify"):
            import_module(f"k2i_core.cli.{name}")
    # Its import starts a thread, and a child that lacks that thread hangs or ends with an abort.
    # Nor should a worker that starts again after a crash wait for what only queries need.
    assert "duckdb" not in sys.modules, "import duckdb where it is used: ingest starts without it"


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        _import_what_most_need()
        # A child that searched these for garbage would copy the pages they lie in.
        gc.freeze()
        command = _Forker(listener).serve()
        if command is None:
            shutil.rmtree(Path(listener.getsockname()).parent)
    if command is not None:
        sys.argv[1:] = command[1:]
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
