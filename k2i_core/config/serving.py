"""Section `serve`: who may read the table over Arrow Flight SQL, and how much at once."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr

from k2i_core.config.redaction import STARS
from k2i_core.config.settings import Section
from k2i_core.config.units import GIB, MIB, bounded_count, bounded_duration, bounded_size

MINUTE = 60.0

TOKEN_LENGTH_MIN = 16
"""Shorter tokens can be guessed by whoever can ask often."""


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if len(text) < TOKEN_LENGTH_MIN:
        message = f"is too short; write at least {TOKEN_LENGTH_MIN} characters, drawn at random"
        raise ValueError(message)
    if not (text.isascii() and text.isprintable()) or " " in text:
        message = "must be printable ASCII without spaces, because it travels in a header"
        raise ValueError(message)
    return token


class Serve(Section):
    """Who may read the table over Arrow Flight SQL, and how much at once."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Any but this host's own needs token, certificate and "
        "certificate_key.",
        examples=["0.0.0.0"],  # noqa: S104 - an example
    )
    port: Annotated[int, bounded_count(0, 65_535)] = Field(
        default=8815, description="Port to listen on; 0 takes any free one.", examples=[8815]
    )
    token: Annotated[
        SecretStr | None,
        AfterValidator(lambda token: token and _check_token(token)),
        PlainSerializer(lambda token: token and STARS, when_used="json"),
    ] = Field(
        default=None,
        description="What a reader sends as bearer token, or as password. Default: none is asked "
        "for. Best kept out of the file.",
        examples=["${file:/run/secrets/k2i-token}"],
    )
    certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate chain; readers then connect with TLS.",
        examples=["/etc/k2i/tls.crt"],
    )
    certificate_key: Path | None = Field(
        default=None,
        description="PEM file with the certificate's private key.",
        examples=["/etc/k2i/tls.key"],
    )
    max_queries: Annotated[int, bounded_count(1, 256)] = Field(
        default=4, description="Queries that run at once; more are told to come back.", examples=[4]
    )
    max_duration: Annotated[float, bounded_duration("100ms", "24h")] = Field(
        default=MINUTE,
        description="How long one query may take, its rows' way to the reader included. In "
        "Python: seconds.",
        examples=["60s"],
    )
    max_rows: Annotated[int, bounded_count(1, 10**12)] = Field(
        default=10_000_000,
        description="Rows that one query may return; a larger result fails.",
        examples=[10_000_000],
    )
    max_bytes: Annotated[int, bounded_size("1KiB", "1TiB")] = Field(
        default=GIB,
        description="Bytes that one query may return; a larger result fails.",
        examples=["1GiB"],
    )
    max_memory_bytes: Annotated[int, bounded_size("64MiB", "1TiB")] = Field(
        default=512 * MIB, description="Memory that one query may take.", examples=["512MiB"]
    )
