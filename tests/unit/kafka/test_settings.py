"""Properties given to librdkafka.

Goal: nobody can switch off what exactly-once depends on, memory stays bounded whatever the number
of Kafka partitions, and a secret is never printed.
Method: build the properties and look at them.
"""

import pytest
from confluent_kafka import Consumer

from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError
from k2i_core.kafka.settings import (
    OWNED_PROPERTIES,
    KafkaSettings,
    PropertyValue,
    Secrets,
    consumer_properties,
)
from k2i_core.wiring.settings import kafka_settings
from tests.unit.config.pipeline_texts import with_lines

MEBIBYTE = 1024 * 1024


def settings(
    properties: dict[str, PropertyValue] | None = None, fetch_buffer_bytes: int = 64 * MEBIBYTE
) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="127.0.0.1:1",
        group_id="orders",
        topics=("orders",),
        properties=properties or {},
        fetch_buffer_bytes=fetch_buffer_bytes,
    )


@pytest.mark.parametrize("name", sorted(OWNED_PROPERTIES))
def test_an_owned_property_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(ConfigError, match=OWNED_PROPERTIES[name]) as caught:
        settings({name: "x"})

    assert name in str(caught.value)


def test_the_users_property_wins_over_a_default() -> None:
    properties = consumer_properties(settings({"fetch.wait.max.ms": 7, "client.id": "mine"}), 1)

    assert properties["fetch.wait.max.ms"] == 7
    assert properties["client.id"] == "mine"


def test_positions_are_never_kept_or_reset_by_librdkafka() -> None:
    properties = consumer_properties(settings(), 1)

    assert properties["enable.auto.commit"] is False
    assert properties["enable.auto.offset.store"] is False
    assert properties["auto.offset.reset"] == "error"
    assert properties["isolation.level"] == "read_committed"


@pytest.mark.parametrize("partition_count", [1, 3, 64, 1_000])
def test_the_buffers_of_all_partitions_stay_within_the_limit(partition_count: int) -> None:
    properties = consumer_properties(settings(), partition_count)

    buffer_bytes = int(properties["queued.max.messages.kbytes"]) * 1024
    assert buffer_bytes * partition_count <= 64 * MEBIBYTE
    assert int(properties["fetch.message.max.bytes"]) <= buffer_bytes


@pytest.mark.parametrize("partition_count", [1, 4, 20_000])
@pytest.mark.parametrize("fetch_buffer_bytes", [1, MEBIBYTE, 1024 * MEBIBYTE])
def test_librdkafka_takes_the_properties(partition_count: int, fetch_buffer_bytes: int) -> None:
    properties = consumer_properties(
        settings(fetch_buffer_bytes=fetch_buffer_bytes), partition_count
    )

    Consumer({**properties, "log_level": 0}).close()


def test_settings_print_no_property() -> None:
    assert "hunter2" not in repr(settings({"sasl.password": "hunter2"}))


def test_secrets_are_taken_out_of_a_text_longest_first() -> None:
    secrets = Secrets({"sasl.password": "abc", "ssl.key.password": "abcdef", "client.id": "k2i"})

    assert secrets.removed_from("abcdef and abc of k2i") == "*** and *** of k2i"


def test_an_empty_password_changes_no_text() -> None:
    assert Secrets({"sasl.password": ""}).removed_from("as it is") == "as it is"


@pytest.mark.parametrize(
    ("limits", "poll_mebibytes"),
    [
        ({}, 8),
        ({"hot": "{max_bytes: 32MiB}"}, 2),
        ({"flush": "{max_bytes: 16MiB, max_buffered_bytes: 16MiB}"}, 1),
        ({"hot": "{max_bytes: 16GiB}", "flush": "{max_buffered_bytes: 16GiB}"}, 8),
    ],
)
def test_a_poll_is_small_beside_the_limits_that_it_may_overshoot(
    limits: dict[str, str], poll_mebibytes: int
) -> None:
    pipeline = read_pipeline(with_lines(**limits), "orders.yaml")

    assert kafka_settings(pipeline).poll_bytes_max == poll_mebibytes * MEBIBYTE
