"""k2i as measured child processes: processor time, peak memory, and what their logs say.

A worker is `k2i ingest` as a user starts it. Its total processor time is the kernel's own account
of the ended process. Where there is a /proc, a sample is also taken ten times a second, so that
what the start costs can be told from what a row costs, and librdkafka's threads from the polling
thread; elsewhere these figures are missing.

Peak memory is the high-water mark that the kernel keeps for the process, as of its last sample. The
account of the ended process would say too much: a new process starts with its parent's mark, and
this one has read tables. It is used only where there is no /proc.
"""

import json
import os
import re
import signal
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.machine import ROOT
from k2i_core.clock import Clock

K2I = (sys.executable, "-m", "k2i_core.cli")
FEED = (sys.executable, "-m", "benchmarks.feed")

SAMPLE_SECONDS = 0.1
"""Larger blurs where the start ends; smaller takes processor time from what is measured."""

SHORT_SAMPLE_SECONDS = 0.02
"""Between the samples of a process whose seconds count: it ends this much earlier than is seen."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PEAK_LINE = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class ChildFailedError(Exception):
    """A measured process ended with a failure, or not at all; there is no figure."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor seconds of a living process at one moment."""

    wall_ms: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What an ended process took."""

    exit_code: int
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class FlushLine:
    """One canonical line of a worker's log."""

    wall_ms: float
    snapshot_id: int
    row_count: int
    file_count: int
    commit_ms: float


@dataclass(slots=True)
class Child:
    """One measured process; `await_end` collects it."""

    process: "subprocess.Popen[bytes]"
    log_path: Path
    started_wall_ms: float
    samples: list[Sample] = field(default_factory=list[Sample])
    thread_cpu_seconds: dict[str, float] = field(default_factory=dict[str, float])
    peak_bytes: int | None = None
    usage: Usage | None = None

    def log_lines(self) -> list[Mapping[str, Any]]:
        """Return the whole log lines so far that are JSON."""
        text = self.log_path.read_text("utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def event_lines(self, event: str) -> list[Mapping[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.log_lines() if line.get("event") == event]

    def flushes(self) -> list[FlushLine]:
        """Return the committed flushes, in order."""
        return [
            FlushLine(
                wall_ms(line),
                line["snapshot_id"],
                line["row_count"],
                line["file_count"],
                line["commit_ms"],
            )
            for line in self.event_lines("flush committed")
        ]

    def row_flushes(self) -> list[FlushLine]:
        """Return the flushes that brought rows."""
        return [flush for flush in self.flushes() if flush.row_count]

    def took_over_wall_ms(self) -> float | None:
        """Return when reading began: what comes before is the start."""
        lines = self.event_lines("took over")
        return wall_ms(lines[0]) if lines else None

    def lane_cpu_seconds(self) -> Mapping[str, float]:
        """Return lane → processor seconds, from the worker's last line about them."""
        lines = self.event_lines("lanes stopped")
        suffix = "_cpu_seconds"
        last = lines[-1] if lines else {}
        return {key.removesuffix(suffix): v for key, v in last.items() if key.endswith(suffix)}

    def cpu_seconds_at(self, moment_wall_ms: float) -> float | None:
        """Return the processor seconds used until then; None without samples around it."""
        times = [sample.wall_ms for sample in self.samples]
        after = bisect_left(times, moment_wall_ms)
        if not 0 < after < len(times):
            return None
        one, other = self.samples[after - 1], self.samples[after]
        share = (moment_wall_ms - one.wall_ms) / max(other.wall_ms - one.wall_ms, 1e-9)
        return one.cpu_seconds + share * (other.cpu_seconds - one.cpu_seconds)

    def sample(self, clock: Clock) -> None:
        """Note processor time and peak memory so far; nothing where there is no /proc."""
        process_path = Path("/proc") / str(self.process.pid)
        try:
            fields = (process_path / "stat").read_text("utf-8").rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            self.samples.append(Sample(clock.now_ms(), ticks / TICKS_PER_SECOND))
            status = (process_path / "status").read_text("utf-8")
            if peak := PEAK_LINE.search(status):
                self.peak_bytes = int(peak[1]) * 1024
            for thread in (process_path / "task").iterdir():
                name = (thread / "comm").read_text("utf-8").strip()
                nanoseconds = int((thread / "schedstat").read_text("utf-8").split()[0])
                key = "main" if thread.name == str(self.process.pid) else name
                self.thread_cpu_seconds[f"{key}/{thread.name}"] = nanoseconds / 1e9
        except (OSError, IndexError, ValueError):
            return  # Safe because a process may end meanwhile, and not every system has these.

    def threads_cpu_seconds(self, prefix: str) -> float | None:
        """Return the processor seconds of threads whose name begins so, at the last sample."""
        found = [v for k, v in self.thread_cpu_seconds.items() if k.startswith(prefix)]
        return sum(found) if found else None

    def collect(self, flags: int = 0) -> bool:
        """Take the kernel's account if the process has ended; tells whether it has."""
        if self.usage is not None:
            return True
        pid, status, used = os.wait4(self.process.pid, flags)
        if pid == 0:
            return False
        code = os.waitstatus_to_exitcode(status)
        self.process.returncode = code
        cpu_seconds = used.ru_utime + used.ru_stime
        self.usage = Usage(code, cpu_seconds, self.peak_bytes or used.ru_maxrss * RSS_UNIT)
        return True

    def kill(self) -> None:
        """End at once, as a power cut would; safe when it has ended."""
        if not self.collect(os.WNOHANG):
            self.process.kill()
            self.collect()

    def ask_to_stop(self) -> None:
        """Ask for a last flush."""
        self.process.send_signal(signal.SIGTERM)

    def fail(self, why: str) -> NoReturn:
        """Raise an error with the end of the log."""
        tail = self.log_path.read_text("utf-8", errors="replace")[-3_000:]
        message = f"{self.process.args}: {why}\n{tail}"
        raise ChildFailedError(message)


def wall_ms(line: Mapping[str, Any]) -> float:
    """Return when a log line was written, in milliseconds since 1970."""
    return datetime.fromisoformat(line["timestamp"]).timestamp() * 1000


def start(arguments: Sequence[str], log_path: Path, clock: Clock) -> Child:
    """Start a process of this interpreter's environment; its whole output goes to a file."""
    with log_path.open("wb") as output:
        began = clock.now_ms()
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    return Child(process, log_path, began)


def start_worker(
    pipeline_path: Path, clock: Clock, *options: str, worker: int = 0, workers: int = 1
) -> Child:
    """Start `k2i ingest` for one worker's share, with a log of its own."""
    directory = pipeline_path.parent
    log_number = len(list(directory.glob("worker-*.log")))
    return start(
        (*K2I, "ingest", str(pipeline_path), f"--worker={worker}/{workers}", "--port=0", *options),
        directory / f"worker-{log_number}.log",
        clock,
    )


def await_end(children: Collection[Child], clock: Clock, *, seconds_max: float) -> None:
    """Sample all of them until they have ended well.

    Raises:
        ChildFailedError: One failed or is not done in time; all are ended.
    """
    deadline = clock.boot_seconds() + seconds_max
    try:
        while running := [child for child in children if not child.collect(os.WNOHANG)]:
            for child in running:
                child.sample(clock)
            if len(running) < len(children):
                _check_ended(children)
            if clock.boot_seconds() >= deadline:
                running[0].fail(f"not done in seconds={seconds_max:.0f}")
            clock.sleep(SAMPLE_SECONDS)
        _check_ended(children)
    finally:
        for child in children:
            child.kill()


def _check_ended(children: Collection[Child]) -> None:
    for child in children:
        if child.usage is not None and child.usage.exit_code != 0:
            child.fail(f"exit_code={child.usage.exit_code}")


def await_true(
    is_there: Callable[[], bool], child: Child, clock: Clock, *, seconds_max: float = 120.0
) -> None:
    """Wait for something that a living child does.

    Raises:
        ChildFailedError: It ended, or time is up.
    """
    deadline = clock.boot_seconds() + seconds_max
    while not is_there():
        if child.collect(os.WNOHANG):
            child.fail("ended early")
        if clock.boot_seconds() >= deadline:
            child.kill()
            child.fail(f"nothing happened in seconds={seconds_max:.0f}")
        clock.sleep(0.02)


def run_to_end(arguments: Sequence[str], log_path: Path, clock: Clock) -> tuple[Child, float]:
    """Run a process; returns it with the seconds it took.

    Raises:
        ChildFailedError: It failed.
    """
    began = clock.boot_seconds()
    child = start(arguments, log_path, clock)
    while not child.collect(os.WNOHANG):
        child.sample(clock)
        clock.sleep(SHORT_SAMPLE_SECONDS)
    seconds = clock.boot_seconds() - began
    _check_ended([child])
    return child, seconds


def prove(
    pipeline_path: Path, clock: Clock, *options: str, row_count: int | None = None
) -> tuple[Child, float]:
    """Run `k2i verify`; returns it with the seconds it took.

    Raises:
        ChildFailedError: Rows are lost or doubled, or there are not `row_count` of them.

    """
    log_path = pipeline_path.with_name("verify.log")
    command = (*K2I, "verify", str(pipeline_path), "--json", *options)
    child, seconds = run_to_end(command, log_path, clock)
    answer = json_answer(child)
    if not answer["holds"] or row_count not in (None, answer["rows"]):
        child.fail(f"the proof does not hold, rows={answer['rows']} of {row_count}")
    return child, seconds


def json_answer(child: Child) -> Mapping[str, Any]:
    """Return what an ended command answered to --json."""
    # The answer is indented JSON; log lines around it are whole objects.
    lines = child.log_path.read_text("utf-8").splitlines()
    return json.loads("\n".join(line for line in lines if not line.startswith('{"')))


def intervals(moments: Sequence[float]) -> list[float]:
    """Return the differences of consecutive moments."""
    return [later - earlier for earlier, later in pairwise(moments)]
