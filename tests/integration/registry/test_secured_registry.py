"""A real registry behind TLS, which answers only those whom it knows.

Goal: every way of saying who we are is understood by a registry; what is wrong is refused with the
settings to check, and no secret is shown. Method: a registry with TLS, users, and the key that its
tokens are signed with; in front of it a proxy that wants certificates, as companies have one; the
wiring's own question after a new table's columns.
"""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from k2i_core.clock import SystemClock
from k2i_core.config.load import parse_pipeline
from k2i_core.dev.ports import reserve_port
from k2i_core.dev.registry_server import RegistryServer
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.wiring.formats import Formats
from tests.services.faults import FaultProxy
from tests.services.tls import Certificates, make_certificates
from tests.unit.transform.chains import PIPELINE

USER = {"username": "reader", "password": "open sesame"}
ORDER = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}


class Signer:
    """Signs tokens, as an identity provider does."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def public_key(self) -> str:
        key = self._key.public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def token(self, *, seconds: int = 300) -> str:
        now = int(time.time())
        claims = {"iss": "test", "sub": "reader", "iat": now - 600, "exp": now + seconds}
        parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        signed = b".".join(map(_url_text, parts))
        signature = self._key.sign(signed, PKCS1v15(), SHA256())
        return b".".join([signed, _url_text(signature)]).decode()


def _url_text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass(frozen=True)
class Secured:
    """One registry with two doors: its own, and one that also wants a certificate."""

    url: str
    strict_url: str
    certificates: Certificates
    signer: Signer

    def columns(self, **settings: Any) -> list[str] | None:
        """Ask for a new table's columns, with these settings of `schema_registry`."""
        where = {"url": self.url, "ca_file": str(self.certificates.authority), "retry_for": "0s"}
        format_ = {"value": "avro", "schema_registry": {**where, **settings}}
        formats = Formats(parse_pipeline({**PIPELINE, "format": format_}), SystemClock())
        known = formats.known_row_schema()
        return None if known is None else known.names


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, registry_program: Path) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    certificates, signer = make_certificates(directory), Signer()
    tls_port = reserve_port()
    settings = {
        "quarkus.http.ssl-port": str(tls_port.number),
        "quarkus.http.ssl.certificate.files": str(certificates.server),
        "quarkus.http.ssl.certificate.key-files": str(certificates.server),
        "quarkus.http.auth.basic": "true",
        "quarkus.security.users.embedded.plain-text": "true",
        f"quarkus.security.users.embedded.users.{USER['username']}": USER["password"],
        "quarkus.oidc.tenant-enabled": "true",
        "quarkus.oidc.public-key": signer.public_key,
    }
    strict = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.authority)
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_cert_chain(certificates.server)
    home = directory / "registry"
    with RegistryServer(home, program=registry_program, settings=settings) as server:
        parts = urlsplit(server.url)
        assert parts.port is not None
        url = f"https://127.0.0.1:{tls_port.number}{parts.path}"
        known = {"ssl.ca.location": str(certificates.authority)}
        pair = f"{USER['username']}:{USER['password']}"
        with SchemaRegistryClient({"url": url, **known, "basic.auth.user.info": pair}) as client:
            client.register_schema("orders-value", Schema(json.dumps(ORDER), "AVRO"))
        with FaultProxy(parts.port, tls=strict) as proxy:
            yield Secured(url, f"https://{proxy.address}{parts.path}", certificates, signer)
    tls_port.release()


def test_a_password_or_a_token_is_understood(secured: Secured) -> None:
    assert secured.columns(**USER) == ["id"]
    assert secured.columns(bearer_token=secured.signer.token()) == ["id"]


def test_whoever_is_not_known_is_told_what_to_check_and_no_secret(secured: Secured) -> None:
    refused: list[dict[str, str]] = [
        {},
        {**USER, "password": "open barley"},
        {"bearer_token": Signer().token()},
        {"bearer_token": secured.signer.token(seconds=-60)},
    ]
    for who in refused:
        with pytest.raises(ConfigError, match="status=401: check username and pass") as raised:
            secured.columns(**who)
        assert not any(secret in str(raised.value) for secret in who.values())


def test_a_registry_of_an_authority_that_is_not_ours_is_not_trusted(
    secured: Secured, tmp_path: Path
) -> None:
    for authority in (None, str(make_certificates(tmp_path).authority)):
        with pytest.raises(ConfigError, match="a certificate that is not trusted: set ca_file"):
            secured.columns(ca_file=authority, **USER)


def test_a_registry_that_wants_a_certificate_gets_ours(secured: Secured, tmp_path: Path) -> None:
    strict = {**USER, "url": secured.strict_url}
    certificate = secured.certificates.client
    locked = tmp_path / "locked.key"
    key = load_pem_private_key(certificate.read_bytes(), None)
    lock = BestAvailableEncryption(b"simsim")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    ours = {**strict, "certificate_file": str(certificate), "key_file": str(locked)}
    assert secured.columns(**ours, key_password="simsim") == ["id"]
    with pytest.raises(ConfigError, match="check its file, and key_password"):
        secured.columns(**ours, key_password="barley")

    stranger = str(make_certificates(tmp_path / "stranger").client)
    strangers = {**strict, "certificate_file": stranger, "key_file": stranger}
    for wrong in (strict, strangers):
        # What the registry says may be lost with the connection that it closes.
        with pytest.raises((ConfigError, UnavailableError), match="certificate_file"):
            secured.columns(**wrong)
