"""The status server over real sockets on loopback.

Goal: the three answers are right over HTTP, errors are clear, and a bad client harms nobody.
Method: start it on a free port, ask with the standard library's client.
"""

import http.client
import json
import socket
import threading

import pytest

from k2i_core.clock import SystemClock
from k2i_core.errors import ConfigError
from k2i_core.server import REQUESTS_AT_ONCE_MAX, Health, HealthCheck, StatusServer


@pytest.fixture
def health() -> Health:
    checks = (HealthCheck("loop", 60.0, decides_liveness=True), HealthCheck("broker", 60.0))
    return Health(checks, SystemClock())


@pytest.fixture
def port(health, tmp_path):
    server = StatusServer(health, lambda: b"k2i_up 1\n", port_file=tmp_path / "port")
    yield server.start()
    server.stop()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def test_ready_follows_the_reports_there_and_back(health, port):
    assert get(port, "/readyz")[0] == 503
    health.report("broker", ok=True)
    assert get(port, "/readyz")[0] == 200
    health.report("broker", ok=False, detail="no answer")
    status, content_type, body = get(port, "/readyz")

    assert (status, content_type) == (503, "application/json")
    assert json.loads(body)["checks"]["broker"]["detail"] == "no answer"
    assert get(port, "/healthz")[0] == 200


def test_metrics_are_prometheus_text(port):
    status, content_type, body = get(port, "/metrics")

    assert (status, body) == (200, b"k2i_up 1\n")
    assert content_type.startswith("text/plain; version=0.0.4")


def test_head_has_no_body_and_other_paths_and_methods_are_refused(port):
    assert get(port, "/healthz", "HEAD")[2] == b""
    assert get(port, "/metrics?name=x")[0] == 200
    status, _, body = get(port, "/etc/passwd")
    assert (status, b"/readyz" in body) == (404, True)
    assert get(port, "/healthz", "POST")[0] == 501


def test_it_listens_on_loopback_only(port):
    # Not even another address of loopback: a server on every address would answer here.
    with pytest.raises(OSError):  # noqa: PT011  refused or unreachable, as the system has it
        socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_port_in_use_says_what_to_do(health, port):
    with pytest.raises(ConfigError, match=rf"port={port}.*port=0"):
        StatusServer(health, bytes, port=port).start()


def test_the_port_file_names_the_port_and_goes_away(health, tmp_path):
    port_file = tmp_path / "status.port"
    server = StatusServer(health, bytes, port_file=port_file)
    port = server.start()

    assert port_file.read_text() == f"{port}\n"
    server.stop()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    server.stop()


def test_silent_clients_are_bounded_and_do_not_hold_up_the_stop(health):
    server = StatusServer(health, bytes)
    port = server.start()
    before = threading.active_count()
    silent = [
        socket.create_connection(("127.0.0.1", port)) for _ in range(REQUESTS_AT_ONCE_MAX + 3)
    ]

    # Sooner than the server gives up on a silent client, which would also close this one.
    silent[-1].settimeout(2)
    # The server has seen all of them once it turns one away: it accepts in order.
    assert silent[-1].recv(1) == b""
    assert threading.active_count() - before <= REQUESTS_AT_ONCE_MAX
    server.stop()
    for client in silent:
        client.close()


def test_a_failing_metric_does_not_end_the_server(health):
    def broken() -> bytes:
        message = "no metrics"
        raise RuntimeError(message)

    server = StatusServer(health, broken)
    port = server.start()
    with pytest.raises(http.client.HTTPException):
        get(port, "/metrics")

    assert get(port, "/healthz")[0] == 200
    server.stop()
