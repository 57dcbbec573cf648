"""`k2i ingest` as the demo's child process: started, watched over HTTP and its log, stopped.

It belongs to a home directory as the servers do, so a worker that a crashed demo left running is
stopped by the next one before anything else is started.
"""

import json
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import cast

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from k2i_core.clock import Clock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.dev.ports import LOOPBACK

STOP_SECONDS_MAX = 120.0
"""Larger: Ctrl-C with a catalog that is down takes longer. Smaller: a last flush on a busy machine
is cut off, and its rows come only with the next run."""

_ANSWER_SECONDS_MAX = 2.0
_POLL_SECONDS = 0.05
_FLUSHES_KEPT = 5
_LOG_LINES_READ = 10_000


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What the worker says of itself now; counts are of this process only.

    Attributes:
        resident_bytes: None where the system has no /proc.
        freshness_seconds: Age of the oldest record that is not committed.
        problems: What keeps it from being ready; empty when it is.
    """

    read_count: int
    row_count: int
    dead_letter_count: int
    lag_message_count: int
    freshness_seconds: float
    buffered_bytes: int
    resident_bytes: int | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """One canonical line of the worker's log."""

    time: str
    row_count: int
    dead_letter_count: int
    file_count: int
    byte_count: int
    commit_ms: int
    snapshot_id: int


class IngestProcess:
    """The one worker of a home directory."""

    def __init__(self, home: Path, log_path: Path, clock: Clock) -> None:
        """Describe it; nothing is started or written yet.

        Args:
            home: Directory of its own, an absolute path.
            log_path: Where it logs, as JSON lines; the log before goes beside it as `.log.1`.
            clock: For the waits.

        """
        self._port_file = home / "port"
        self._process = ChildProcess("the demo's worker", home, str(self._port_file), clock)
        self._process.log_path = log_path
        self._clock = clock
        self._log_position = 0
        self._flushes: deque[Flush] = deque(maxlen=_FLUSHES_KEPT)

    def claim(self) -> None:
        """Take the home and stop a worker that a crashed demo left running in it.

        Raises:
            ConfigError: Another living process uses the home.
            UnavailableError: The worker left behind cannot be stopped.

        """
        self._process.claim()

    def start(self, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run `k2i ingest` with further arguments and these environment variables."""
        self._port_file.unlink(missing_ok=True)
        self._log_position = 0
        program = [sys.executable, "-m", "k2i_core.cli", "--log-format", "json", "ingest"]
        status = ["--port", "0", "--port-file", str(self._port_file)]
        self._process.launch([*program, *status, *arguments], variables)

    @property
    def exit_code(self) -> int | None:
        """How it ended, as a shell says it: 128 + n for signal n; None while it runs."""
        code = self._process.exit_code
        return 128 - code if code is not None and code < 0 else code

    def stop(self) -> int | None:
        """Ask for a last flush and wait for the end; safe when it does not run.

        Returns:
            The exit code; None when it was never started.

        """
        if (pid := self._process.pid) is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = self._clock.boot_seconds() + STOP_SECONDS_MAX
            while self.exit_code is None and self._clock.boot_seconds() < deadline:
                self._clock.sleep(_POLL_SECONDS)
        self._process.stop()
        return self.exit_code

    def figures(self) -> WorkerFigures | None:
        """Ask the worker; None while it does not answer."""
        try:
            port = int(self._port_file.read_text(encoding="ascii"))
            metrics = self._get(port, "/metrics")
            readiness = json.loads(self._get(port, "/readyz"))
        except (OSError, HTTPException, ValueError):
            # Not started, or ended between two looks; the caller sees the exit code.
            return None
        checks = cast("dict[str, dict[str, object]]", readiness["checks"])
        problems = [f"{name}: {c['detail']}" for name, c in checks.items() if not c["ok"]]
        return _read_figures(text_string_to_metric_families(metrics), tuple(problems))

    def _get(self, port: int, path: str) -> str:
        connection = HTTPConnection(LOOPBACK, port, timeout=_ANSWER_SECONDS_MAX)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def recent_flushes(self) -> tuple[Flush, ...]:
        """Return the last flushes in its log, newest last."""
        with self._process.log_path.open("rb") as log:
            log.seek(self._log_position)
            new, line_end, _torn = log.read().rpartition(b"\n")
        self._log_position += len(new) + len(line_end)
        for line in new.splitlines():
            if b'"flush committed"' in line:
                self._flushes.append(_read_flush(json.loads(line)))
        return tuple(self._flushes)

    def last_words(self, line_count: int) -> tuple[str, ...]:
        """Return the end of its log for people, without the flushes that went well."""
        lines = self._process.last_log_lines(_LOG_LINES_READ).splitlines()
        telling = [line for line in lines if '"flush committed"' not in line]
        return tuple(map(_for_people, telling[-line_count:]))


def _for_people(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line  # a traceback, or the command line's own last sentence
    if not isinstance(event, dict):
        return line
    fields = cast("dict[str, object]", event)
    time, level, what = (str(fields.pop(key, "")) for key in ("timestamp", "level", "event"))
    fields.pop("logger", None)
    return " ".join([time[11:19], level, what, *(f"{key}={fields[key]}" for key in fields)])


def _read_figures(families: Iterable[Metric], problems: tuple[str, ...]) -> WorkerFigures:
    values: dict[str, list[float]] = {}
    for family in families:
        for sample in family.samples:
            values.setdefault(sample.name, []).append(sample.value)

    def total(name: str) -> int:
        return int(sum(values.get(name, ())))

    return WorkerFigures(
        read_count=total("k2i_records_read_total"),
        row_count=total("k2i_rows_committed_total"),
        dead_letter_count=total("k2i_dead_letters_total"),
        lag_message_count=total("k2i_lag_messages"),
        freshness_seconds=max(values.get("k2i_freshness_seconds", ()), default=0.0),
        buffered_bytes=total("k2i_buffered_bytes"),
        resident_bytes=total("process_resident_memory_bytes") or None,
        problems=problems,
    )


def _read_flush(line: Mapping[str, object]) -> Flush:
    def number(key: str) -> int:
        return int(cast("int", line[key]))

    return Flush(
        time=str(line["timestamp"])[11:19],
        row_count=number("row_count"),
        dead_letter_count=number("dead_letter_count"),
        file_count=number("file_count"),
        byte_count=number("byte_count"),
        commit_ms=number("commit_ms"),
        snapshot_id=number("snapshot_id"),
    )
