"""What librdkafka reports about itself.

Goal: health is truthful, a wrong password ends a start but not a restart of the broker, and the log
is neither flooded nor leaky.
Method: feed errors and log lines by hand, with a clock that a test moves.
"""

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from k2i_core.errors import ConfigError
from k2i_core.kafka.reports import LOG_PAUSE_SECONDS, REFUSED_SECONDS_MAX, ClientReports
from k2i_core.kafka.settings import Secrets
from tests.fakes.time_and_ids import ScriptedClock

DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
REFUSED = KafkaError(KafkaError._AUTHENTICATION, "wrong password hunter2")


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(100.0)


@pytest.fixture
def reports(clock: ScriptedClock) -> ClientReports:
    return ClientReports(clock, Secrets({"sasl.password": "hunter2"}))


def test_unreachable_until_first_heard(reports: ClientReports) -> None:
    assert not reports.health().reachable
    assert reports.silent_seconds() is None

    reports.heard()

    assert reports.health().reachable


def test_all_brokers_down_shows_until_one_is_heard(reports: ClientReports) -> None:
    reports.heard()
    reports.on_error(DOWN)
    during = reports.health()
    reports.heard()

    assert not during.reachable
    assert during.last_error is not None
    assert "_ALL_BROKERS_DOWN" in during.last_error
    assert reports.health().reachable
    assert reports.health().last_error is None


def test_one_lost_connection_is_a_doubt_and_no_outage(reports: ClientReports) -> None:
    reports.heard()
    reports.on_error(KafkaError(KafkaError._TRANSPORT))

    assert reports.health().reachable
    assert reports.is_in_doubt


def test_an_unanswered_question_is_an_outage(reports: ClientReports) -> None:
    reports.heard()
    reports.lost("timed out with hunter2")

    assert not reports.health().reachable
    assert reports.health().last_error == "timed out with ***"


def test_silence_is_measured(reports: ClientReports, clock: ScriptedClock) -> None:
    reports.heard()
    clock.seconds += 12

    assert reports.silent_seconds() == 12


def test_refused_from_the_start_is_a_config_error_without_the_password(
    reports: ClientReports,
) -> None:
    reports.on_error(REFUSED)

    with pytest.raises(ConfigError, match="_AUTHENTICATION") as caught:
        reports.raise_if_refused("reading")
    assert "hunter2" not in str(caught.value)


def test_refused_after_it_worked_is_an_outage_first(
    reports: ClientReports, clock: ScriptedClock
) -> None:
    reports.heard()
    reports.on_error(REFUSED)
    reports.raise_if_refused("reading")
    health = reports.health()
    clock.seconds += REFUSED_SECONDS_MAX
    reports.on_error(REFUSED)

    assert not health.reachable
    with pytest.raises(ConfigError):
        reports.raise_if_refused("reading")


def test_a_sign_of_life_forgives_a_refusal(reports: ClientReports, clock: ScriptedClock) -> None:
    reports.heard()
    reports.on_error(REFUSED)
    reports.heard()
    clock.seconds += REFUSED_SECONDS_MAX

    reports.raise_if_refused("reading")


def test_a_repeated_log_line_is_counted_not_printed(
    reports: ClientReports, clock: ScriptedClock
) -> None:
    with capture_logs() as lines:
        for _ in range(50):
            reports.log(40, "%s [%s] %s", "FAIL", "k2i#consumer-1", "connection refused")
        clock.seconds += LOG_PAUSE_SECONDS
        reports.log(40, "%s [%s] %s", "FAIL", "k2i#consumer-1", "connection refused")

    assert [line["left_out_count"] for line in lines] == [0, 49]
    assert {line["log_level"] for line in lines} == {"warning"}


def test_a_log_line_keeps_no_secret(reports: ClientReports) -> None:
    with capture_logs() as lines:
        reports.log(40, "%s [%s] %s", "CONFWARN", "k2i", "sasl.password=hunter2")
        reports.log(20, "%s [%s] %s", "INIT", "k2i", "sasl.password=hunter2")
        reports.on_error(REFUSED)

    assert len(lines) == 3
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    ],
)
def test_a_topic_that_may_be_gone_is_told_once(reports: ClientReports, code: int) -> None:
    before = reports.take_topic_doubt()
    reports.on_error(KafkaError(code))
    reports.heard()

    assert not before
    assert reports.take_topic_doubt()
    assert not reports.take_topic_doubt()
