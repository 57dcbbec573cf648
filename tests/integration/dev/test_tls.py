"""Encrypted and authenticated listeners of the test broker let the right clients in, and no others.

Goal: tests of security settings stand on something. Method: one broker with all listeners; clients
with right and wrong certificates, users and passwords.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.ports import reserve_port
from tests.services.tls import (
    Certificates,
    add_scram_user,
    broker_properties,
    make_certificates,
    sasl_client,
    secure_listeners,
    ssl_client,
)


@dataclass(frozen=True)
class Secured:
    kafka: KafkaServer
    certificates: Certificates
    strangers: Certificates


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, kafka_runtime: KafkaRuntime
) -> Iterator[Secured]:
    folder: Path = tmp_path_factory.mktemp("secured")
    certificates = make_certificates(folder / "certificates")
    ports = reserve_port(), reserve_port()
    kafka = KafkaServer(
        folder / "kafka",
        runtime=kafka_runtime,
        listeners=secure_listeners(ports[0].number, ports[1].number),
        properties=broker_properties(certificates, {"ann": "ann-secret"}),
    )
    with kafka:
        add_scram_user(kafka.bootstrap_servers, "bob", "bob-secret")
        yield Secured(kafka, certificates, make_certificates(folder / "strangers"))
    for port in ports:
        port.release()


def _is_let_in(bootstrap_servers: str, client: dict[str, str]) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0, **client})
    try:
        admin.list_topics(timeout=3)
    except KafkaException:
        return False
    return True


def test_a_client_certificate_of_our_authority_is_let_in(secured: Secured) -> None:
    client = ssl_client(secured.certificates)
    assert _is_let_in(secured.kafka.bootstrap_of("SSL"), client)


def test_no_certificate_and_a_strangers_certificate_are_refused(secured: Secured) -> None:
    address = secured.kafka.bootstrap_of("SSL")
    known = ssl_client(secured.certificates)
    without = {
        key: value
        for key, value in known.items()
        if key.split(".")[1] not in {"certificate", "key"}
    }
    strange = ssl_client(secured.strangers) | {"ssl.ca.location": known["ssl.ca.location"]}
    assert not _is_let_in(address, without)
    assert not _is_let_in(address, strange)


@pytest.mark.parametrize(
    ("name", "password", "mechanism", "is_let_in"),
    [
        ("ann", "ann-secret", "PLAIN", True),
        ("ann", "wrong", "PLAIN", False),
        ("bob", "bob-secret", "SCRAM-SHA-512", True),
        ("bob", "wrong", "SCRAM-SHA-512", False),
    ],
)
def test_users_are_let_in_by_their_password(
    secured: Secured, name: str, password: str, mechanism: str, *, is_let_in: bool
) -> None:
    client = sasl_client(secured.certificates, name, password, mechanism)
    assert _is_let_in(secured.kafka.bootstrap_of("SASL_SSL"), client) == is_let_in


def test_a_broker_of_another_authority_is_not_trusted(secured: Secured) -> None:
    client = sasl_client(secured.strangers, "ann", "ann-secret")
    assert not _is_let_in(secured.kafka.bootstrap_of("SASL_SSL"), client)
