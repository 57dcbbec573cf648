"""Throw-away certificates and the broker settings for encrypted and authenticated listeners.

One certificate authority signs one certificate for the server (localhost, 127.0.0.1) and one for
clients. Files are PEM, which Kafka and librdkafka both read, so no keytool and no openssl.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from k2i_core.dev.kafka_server import Listener

_VALID_DAYS = 7


@dataclass(frozen=True)
class Certificates:
    """Where the PEM files are; `server` and `client` hold key and chain in one file."""

    authority: Path
    server: Path
    client: Path


def make_certificates(directory: Path) -> Certificates:
    """Write a new authority and what it signed into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(*(directory / f"{name}.pem" for name in ("authority", "server", "client")))
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("k2i test authority", authority_key, authority_key, is_authority=True)
    authority_pem = authority.public_bytes(Encoding.PEM)
    made.authority.write_bytes(authority_pem)
    for path in (made.server, made.client):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(path.stem, key, authority_key, is_authority=False)
        # Kafka reads keys in no other format than PKCS#8.
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.touch(mode=0o600)
        path.write_bytes(key_pem + certificate.public_bytes(Encoding.PEM) + authority_pem)
    return made


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("k2i test authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, because the clocks of two processes may differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    return builder.sign(authority_key, SHA256())


def secure_listeners(ssl_port: int, sasl_port: int) -> tuple[Listener, Listener]:
    """`SSL` wants a client certificate, `SASL_SSL` a user and a password."""
    return Listener("SSL", ssl_port, "SSL"), Listener("SASL_SSL", sasl_port, "SASL_SSL")


def broker_properties(certificates: Certificates, users: Mapping[str, str]) -> dict[str, str]:
    """Settings that `secure_listeners` need.

    Args:
        certificates: From `make_certificates`.
        users: Name → password, for PLAIN. Users of SCRAM are made through the admin client, with
            `add_scram_user`.
    """
    plain = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    modules = "org.apache.kafka.common.security"
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f"{modules}.plain.PlainLoginModule required {plain};"
        ),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            f"{modules}.scram.ScramLoginModule required;"
        ),
    }


def ssl_client(certificates: Certificates) -> dict[str, str]:
    """librdkafka's settings for the `SSL` listener."""
    return {
        "security.protocol": "SSL",
        "ssl.ca.location": str(certificates.authority),
        "ssl.certificate.location": str(certificates.client),
        "ssl.key.location": str(certificates.client),
    }


def sasl_client(
    certificates: Certificates, name: str, password: str, mechanism: str = "PLAIN"
) -> dict[str, str]:
    """librdkafka's settings for the `SASL_SSL` listener."""
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(certificates.authority),
        "sasl.mechanism": mechanism,
        "sasl.username": name,
        "sasl.password": password,
    }


def add_scram_user(bootstrap_servers: str, name: str, password: str) -> None:
    """Create a SCRAM-SHA-512 user through the plaintext listener."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion(name, scram, password.encode())
    admin.alter_user_scram_credentials([change])[name].result(10)
