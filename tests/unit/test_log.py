"""Log set-up.

Goal: one stream of one shape for k2i and its libraries, and no secret in it.
Method: configure onto a text buffer and read the lines; the set-up before is put back afterwards.
"""

import io
import json
import logging
import re
import warnings

import pytest
import structlog

from k2i_core.errors import ConfigError
from k2i_core.log import configure_logging, redact_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, json=None, stream=stream)
    return stream


def test_an_event_is_one_json_line_when_nobody_watches():
    stream = configured()
    structlog.get_logger("k2i.test").info("flush committed", row_count=3, table="sales.orders")

    (line,) = lines(stream)
    assert (line["event"], line["row_count"], line["table"]) == (
        "flush committed",
        3,
        "sales.orders",
    )
    assert (line["level"], line["logger"]) == ("info", "k2i.test")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


def test_a_terminal_gets_lines_for_people():
    stream = Terminal()
    configure_logging("info", json=None, stream=stream)
    structlog.get_logger().info("flush committed", row_count=3)

    assert "flush committed" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_json_can_be_asked_for_on_a_terminal():
    stream = Terminal()
    configure_logging("info", json=True, stream=stream)
    structlog.get_logger().info("flush committed")

    assert lines(stream)[0]["event"] == "flush committed"


def test_what_is_below_the_level_is_left_out():
    stream = configured("warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_libraries_share_the_stream_and_only_their_warnings_are_heard():
    stream = configured("debug")
    logging.getLogger("pyiceberg.io").info("chatter")
    logging.getLogger("urllib3.connectionpool").warning("retrying %s", "GET")
    logging.getLogger("some.library").info("heard")

    assert [line["event"] for line in lines(stream)] == ["retrying GET", "heard"]


def test_python_warnings_are_log_lines():
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)

    assert "old call" in lines(stream)[0]["event"]


def test_values_bound_once_are_on_every_line():
    stream = configured()
    structlog.contextvars.bind_contextvars(worker="0/2")
    structlog.get_logger().info("flush committed")

    assert lines(stream)[0]["worker"] == "0/2"


def test_secrets_are_masked_wherever_they_stand():
    stream = configured()
    structlog.get_logger().info(
        "connecting to https://user:hunter2@registry:8081/subjects",
        sasl_password="hunter2",
        properties={"sasl.password": "hunter2", "s3.secret-access-key": "hunter2", "acks": "all"},
        uris=["postgresql+psycopg2://k2i:hunter2@db/lake"],
        header="Authorization: Bearer hunter2hunter2",
        note="sasl.password=hunter2, retries=3",
    )

    assert "hunter2" not in stream.getvalue()
    (line,) = lines(stream)
    assert line["event"] == "connecting to https://***@registry:8081/subjects"
    assert line["properties"]["acks"] == "all"
    assert line["note"].endswith("retries=3")


def test_secrets_are_masked_in_tracebacks_and_in_libraries_messages():
    stream = configured()
    try:
        int("https://u:hunter2@host/")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("lib").exception("token=%s", "hunter2")

    assert "hunter2" not in stream.getvalue()
    assert "ValueError" in lines(stream)[0]["exception"]
    assert "ValueError" in lines(stream)[1]["exception"]


@pytest.mark.parametrize(
    "text",
    [
        "flush committed",
        "s3://bucket/warehouse/sales/orders/data/a.parquet",
        "offset=12 topic=orders key=null",
        "file:///tmp/k2i/metadata.json",
        "mail me@example.org",
    ],
)
def test_text_without_secrets_is_left_as_it_is(text):
    assert redact_text(text) == text


def test_a_second_call_replaces_the_first():
    first, second = configured(), configured()
    structlog.get_logger().info("once")

    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_an_unknown_level_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="debug, info, warning, error"):
        configured("loud")
