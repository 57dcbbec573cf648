"""All workers of a pipeline as processes of one `k2i ingest`: started, watched, stopped together.

A worker that ends with a failure stops the others, because a pipeline that silently reads only
some of its Kafka partitions is worse than one that is down. Every worker flushes before it ends.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import structlog

from k2i_core.clock import SystemClock

LOOK_SECONDS = 0.2
"""How often the processes are looked at. Larger notices an end later."""

STOP_SECONDS_MAX = 600.0
"""How long workers may flush after a stop; longer than a commit's own limit."""

log = structlog.get_logger(__name__)


def run_worker_processes(worker_count: int, arguments: Sequence[str]) -> None:
    """Run `k2i ARGUMENTS --worker i/n` for every i until all have ended.

    Raises:
        SystemExit: With the exit code of the first worker that failed.

    """
    command = [sys.executable, "-m", "k2i_core.cli", *arguments]
    processes = [
        # In a session of its own, because Ctrl-C must reach a worker once, through us.
        subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            [*command, "--worker", f"{worker}/{worker_count}"], start_new_session=True
        )
        for worker in range(worker_count)
    ]

    stop = threading.Event()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        stop.set()
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = _watch(processes)
    finally:
        for number, handler in before.items():
            # Ignored after a stop, as in a worker: a late Ctrl-C must not spoil a clean end.
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
    if code:
        raise SystemExit(code)


def _watch(processes: "list[subprocess.Popen[bytes]]") -> int:
    """Wait for all; returns the first failure's exit code, or 0."""
    first_failure = 0
    clock = SystemClock()
    while running := [process for process in processes if process.poll() is None]:
        failed = [p.returncode for p in processes if p.returncode not in (None, 0)]
        if failed and not first_failure:
            first_failure = _exit_code(failed[0])
            log.error("a worker failed, stopping the others", exit_code=first_failure)
            _stop(running)
        clock.sleep(LOOK_SECONDS)
    failed = [p.returncode for p in processes if p.returncode]
    return first_failure or (_exit_code(failed[0]) if failed else 0)


def _stop(running: "list[subprocess.Popen[bytes]]") -> None:
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            log.error("a worker did not stop, killing it", pid=process.pid)  # noqa: TRY400 - not our failure
            process.kill()


def _exit_code(returncode: int) -> int:
    """Turn death by signal n into 128 + n, as shells do."""
    return 128 - returncode if returncode < 0 else returncode
