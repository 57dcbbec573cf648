"""Health and metrics of one worker over HTTP, on loopback.

    /healthz  200 while the worker's loop turns, else 503: restart it
    /readyz   200 while it also owns its partitions and broker and catalog answer, else 503
    /metrics  Prometheus text

Health is truthful: a check that nobody renewed within its limit fails, whatever it said last, and
a check that is renewed recovers by itself.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypedDict

import structlog

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError
from k2i_core.metrics import CONTENT_TYPE

LOOPBACK = "127.0.0.1"

REQUEST_SECONDS_MAX = 5.0
"""Larger lets a silent client hold a thread longer; smaller cuts off a slow scrape."""

REQUESTS_AT_ONCE_MAX = 8
"""Larger lets a broken client start more threads; smaller refuses a second scraper."""

_ACCEPT_POLL_SECONDS = 0.1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One thing that must be true.

    Attributes:
        name: As shown, such as `loop`, `owner`, `broker`, `catalog`.
        stale_seconds_max: A report older than this counts as a failure; None never goes stale.
        decides_liveness: Whether its failure means that only a restart helps.
    """

    name: str
    stale_seconds_max: float | None
    decides_liveness: bool = False


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check, judged now."""

    name: str
    ok: bool
    detail: str
    age_seconds: float | None


class HealthJson(TypedDict):
    """The body of `/healthz` and `/readyz`."""

    ok: bool
    checks: dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class HealthOutcome:
    """All checks of one question, judged now."""

    checks: tuple[CheckOutcome, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every check passed."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> HealthJson:
        """Return plain values for `json.dumps`."""
        return {
            "ok": self.ok,
            "checks": {
                check.name: {
                    "ok": check.ok,
                    "detail": check.detail,
                    "age_seconds": None
                    if check.age_seconds is None
                    else round(check.age_seconds, 3),
                }
                for check in self.checks
            },
        }


@dataclass(frozen=True, slots=True)
class _Report:
    ok: bool
    detail: str
    at_boot_seconds: float
    stale_seconds_max: float | None = None


class Health:
    """The last report on each check; written by the worker, read by the server; thread-safe."""

    def __init__(self, checks: Iterable[HealthCheck], clock: Clock) -> None:
        self._clock = clock
        self._checks = {check.name: check for check in checks}
        self._lock = threading.Lock()
        started = clock.boot_seconds()
        # A loop that has not turned yet is given its limit before it counts as dead.
        self._reports = {
            check.name: _Report(ok=True, detail="starting", at_boot_seconds=started)
            for check in self._checks.values()
            if check.decides_liveness
        }

    def report(
        self,
        name: str,
        *,
        ok: bool,
        detail: str = "",
        at_boot_seconds: float | None = None,
        stale_seconds_max: float | None = None,
    ) -> None:
        """Renew one check.

        Args:
            name: One of the checks it was made with.
            ok: Whether it holds.
            detail: Why not, or what was seen; shown to whoever asks, so never a secret.
            at_boot_seconds: When it was seen; now, when None.
            stale_seconds_max: How long this report counts; as the check says, when None.

        """
        assert name in self._checks
        at = self._clock.boot_seconds() if at_boot_seconds is None else at_boot_seconds
        with self._lock:
            self._reports[name] = _Report(ok, detail, at, stale_seconds_max)

    def liveness(self) -> HealthOutcome:
        """Judge the checks whose failure only a restart cures."""
        return self._judge(c for c in self._checks.values() if c.decides_liveness)

    def readiness(self) -> HealthOutcome:
        """Judge all checks."""
        return self._judge(self._checks.values())

    def _judge(self, checks: Iterable[HealthCheck]) -> HealthOutcome:
        now = self._clock.boot_seconds()
        with self._lock:
            reports = dict(self._reports)
        return HealthOutcome(tuple(_judged(c, reports.get(c.name), now) for c in checks))


def _judged(check: HealthCheck, report: _Report | None, now: float) -> CheckOutcome:
    if report is None:
        return CheckOutcome(check.name, ok=False, detail="not reported yet", age_seconds=None)
    age = max(now - report.at_boot_seconds, 0.0)
    limit = report.stale_seconds_max or check.stale_seconds_max
    if limit is not None and age > limit:
        last = f"; last: {report.detail}" if report.detail else ""
        detail = f"no report for {age:.1f} s, limit {limit:.1f} s{last}"
        return CheckOutcome(check.name, ok=False, detail=detail, age_seconds=age)
    return CheckOutcome(check.name, report.ok, report.detail, age)


class _BoundedServer(ThreadingHTTPServer):
    """Answers a few requests at once and turns the rest away."""

    daemon_threads = True
    # Threads are few and end by themselves; a stuck client must not hold up the shutdown.
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._slots = threading.BoundedSemaphore(REQUESTS_AT_ONCE_MAX)
        super().__init__(address, handler)

    def process_request(
        self,
        request: socket.socket | tuple[bytes, socket.socket],
        client_address: object,
    ) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(
        self,
        request: socket.socket | tuple[bytes, socket.socket],
        client_address: object,
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(
        self,
        request: socket.socket | tuple[bytes, socket.socket],  # noqa: ARG002  the standard library's signature
        client_address: object,  # noqa: ARG002  likewise
    ) -> None:
        """Log what went wrong, unless it is only a client that hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            _log.warning("status request failed", exc_info=True)


class StatusServer:
    """Serves health and metrics from a thread of its own."""

    def __init__(
        self,
        health: Health,
        render_metrics: Callable[[], bytes],
        *,
        host: str = LOOPBACK,
        port: int = 0,
        port_file: Path | None = None,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            health: What the worker reports.
            render_metrics: Prometheus text.
            host: Address to listen on.
            port: 0 takes any free one.
            port_file: Where to write the port once it listens; removed at the end.

        """
        self._health = health
        self._render_metrics = render_metrics
        self._host = host
        self._port = port
        self._port_file = port_file
        self._server: _BoundedServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen, and answer from now on.

        Returns:
            The port.

        Raises:
            ConfigError: The address cannot be listened on.

        """
        assert self._server is None
        handler = _handler(self._routes())
        try:
            server = _BoundedServer((self._host, self._port), handler)
        except OSError as error:
            message = (
                f"cannot serve health on host={self._host} port={self._port}: {error.strerror}; "
                "free the port, choose another one, or use port=0 for any free one"
            )
            raise ConfigError(message) from error
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": _ACCEPT_POLL_SECONDS},
            name="k2i-status",
            daemon=True,
        )
        self._thread.start()
        port = int(server.server_address[1])
        if self._port_file is not None:
            _write_whole(self._port_file, f"{port}\n")
        return port

    def stop(self) -> None:
        """Stop listening; harmless when it never started."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(REQUEST_SECONDS_MAX)
        self._server = self._thread = None
        if self._port_file is not None:
            self._port_file.unlink(missing_ok=True)

    def _routes(self) -> "dict[str, Callable[[], _Answer]]":
        return {
            "/healthz": lambda: _health_answer(self._health.liveness()),
            "/readyz": lambda: _health_answer(self._health.readiness()),
            "/metrics": lambda: _Answer(
                HTTPStatus.OK,
                CONTENT_TYPE,
                self._render_metrics(),
            ),
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


def _health_answer(outcome: HealthOutcome) -> _Answer:
    status = HTTPStatus.OK if outcome.ok else HTTPStatus.SERVICE_UNAVAILABLE
    body = json.dumps(outcome.to_json(), indent=2).encode() + b"\n"
    return _Answer(status, "application/json", body)


def _handler(routes: dict[str, Callable[[], _Answer]]) -> type[BaseHTTPRequestHandler]:
    """Make the request class; the standard library wants a class, not an object."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS_MAX
        server_version = "k2i"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def _answer(self, *, send_body: bool) -> None:
            route = routes.get(self.path.partition("?")[0])
            if route is None:
                known = f"not found; try {', '.join(sorted(routes))}\n"
                answer = _Answer(HTTPStatus.NOT_FOUND, "text/plain", known.encode())
            else:
                answer = route()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if send_body:
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  inherited name
            """Keep scrapes out of the log."""

    return Handler


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the whole text or no file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)
