"""Encrypted and authenticated connections, given as librdkafka properties.

Goal: whatever a company's Kafka asks for can be written in the pipeline file, and a refusal is one
quick message that names no secret.
Method: one broker with a listener for client certificates and one for users, real certificates.
"""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.ports import reserve_port
from k2i_core.dev.produce import create_topic
from k2i_core.errors import ConfigError, K2iError
from k2i_core.kafka.source import KafkaSource
from k2i_core.offsets import TopicPartition
from tests.integration.kafka.source_driver import admin_of, opened, poll_for, produce, read_to_end
from tests.services.tls import (
    Certificates,
    add_scram_user,
    broker_properties,
    make_certificates,
    sasl_client,
    secure_listeners,
    ssl_client,
)

PASSWORD = "correct-horse-battery"  # the broker of this file alone knows it
WRONG = "wrong-horse-battery"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure_kafka(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_runtime: KafkaRuntime,
    certificates: Certificates,
) -> Iterator[KafkaServer]:
    ports = reserve_port(), reserve_port()
    server = KafkaServer(
        tmp_path_factory.mktemp("secure_kafka"),
        runtime=kafka_runtime,
        listeners=secure_listeners(ports[0].number, ports[1].number),
        properties={
            **broker_properties(certificates, {"reader": PASSWORD}),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:reader;User:CN=client",
        },
    )
    for port in ports:
        port.release()
    with server:
        add_scram_user(server.bootstrap_servers, "reader", PASSWORD)
        add_scram_user(server.bootstrap_servers, "stranger", PASSWORD)
        create_topic(server.bootstrap_servers, "orders", 1)
        produce(server.bootstrap_servers, "orders", [b"1", b"2", b"3"])
        yield server


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_user_with_a_password_reads(
    secure_kafka: KafkaServer, certificates: Certificates, mechanism: str
) -> None:
    properties = sasl_client(certificates, "reader", PASSWORD, mechanism)

    with opened(secure_kafka.bootstrap_of("SASL_SSL"), "orders", properties=properties) as source:
        assert len(source.cluster_id()) == 22
        assert read_to_end(source).values == [b"1", b"2", b"3"]


def test_a_client_certificate_reads(secure_kafka: KafkaServer, certificates: Certificates) -> None:
    with opened(
        secure_kafka.bootstrap_of("SSL"), "orders", properties=ssl_client(certificates)
    ) as source:
        assert read_to_end(source).values == [b"1", b"2", b"3"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_a_quick_config_error_without_the_password(
    secure_kafka: KafkaServer,
    certificates: Certificates,
    mechanism: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    properties = sasl_client(certificates, "reader", WRONG, mechanism)
    address = secure_kafka.bootstrap_of("SASL_SSL")
    started = time.monotonic()

    with opened(address, "orders", properties=properties, call_timeout_seconds=60) as source:
        with pytest.raises(ConfigError) as caught:
            source.topic_ids()
        health = source.health()

    printed = capfd.readouterr()
    assert time.monotonic() - started < 30
    assert "_AUTHENTICATION" in str(caught.value)
    for text in (str(caught.value), repr(caught.value), str(health), printed.out, printed.err):
        assert WRONG not in text
    assert "%3|" not in printed.err, "librdkafka wrote to stderr by itself"


def test_an_unknown_authority_is_a_config_error(
    secure_kafka: KafkaServer, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_certificates(tmp_path_factory.mktemp("other"))
    properties = {
        **ssl_client(certificates),
        "ssl.ca.location": str(other.authority),
    }

    with (
        opened(secure_kafka.bootstrap_of("SSL"), "orders", properties=properties) as source,
        pytest.raises(ConfigError, match="certificate"),
    ):
        source.topic_ids()


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
def test_without_a_client_certificate_of_our_authority_nothing_is_told(
    secure_kafka: KafkaServer,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
    whose: str,
) -> None:
    properties = {"security.protocol": "SSL"}
    if whose == "a stranger's":
        properties = ssl_client(make_certificates(tmp_path_factory.mktemp("strangers")))
    properties["ssl.ca.location"] = str(certificates.authority)

    with (
        opened(
            secure_kafka.bootstrap_of("SSL"),
            "orders",
            properties=properties,
            call_timeout_seconds=3,
        ) as source,
        pytest.raises(K2iError, match=r"127\.0\.0\.1|certificate"),
    ):
        source.topic_ids()


def test_a_user_without_rights_is_a_config_error_that_names_the_topic(
    secure_kafka: KafkaServer, certificates: Certificates
) -> None:
    properties = sasl_client(certificates, "stranger", PASSWORD, "SCRAM-SHA-512")

    with (
        opened(secure_kafka.bootstrap_of("SASL_SSL"), "orders", properties=properties) as source,
        pytest.raises(ConfigError, match="TOPIC_AUTHORIZATION_FAILED") as caught,
    ):
        source.topic_ids()

    assert "orders" in str(caught.value)


def test_rights_taken_away_while_reading_end_the_poll_and_the_group_is_not_needed(
    secure_kafka: KafkaServer, certificates: Certificates
) -> None:
    properties = sasl_client(certificates, "stranger", PASSWORD, "SCRAM-SHA-512")
    admin = admin_of(secure_kafka.bootstrap_servers)
    allowed = (ResourceType.TOPIC, "orders", ResourcePatternType.LITERAL, "User:stranger", "*")
    operations = (AclOperation.DESCRIBE, AclOperation.READ)
    bindings = [AclBinding(*allowed, o, AclPermissionType.ALLOW) for o in operations]
    for made in admin.create_acls(bindings).values():
        made.result(10)

    with opened(secure_kafka.bootstrap_of("SASL_SSL"), "orders", properties=properties) as source:
        deadline = time.monotonic() + 10
        while not can_describe(source):
            assert time.monotonic() < deadline
        taken = read_to_end(source)
        source.mirror({TopicPartition("orders", 0): 1})
        poll_for(source, taken, 1)
        filters = [AclBindingFilter(*allowed, o, AclPermissionType.ALLOW) for o in operations]
        for gone in admin.delete_acls(filters).values():
            gone.result(10)
        with pytest.raises(ConfigError, match="TOPIC_AUTHORIZATION_FAILED"):
            poll_for(source, taken, 20)

    assert taken.values == [b"1", b"2", b"3"]


def can_describe(source: KafkaSource) -> bool:
    try:
        source.topic_ids()
    except ConfigError:
        return False
    return True
