"""One question to a schema registry, answered within limits.

No library of the registry's maker: two kinds of GET need none, and this way no secret is printed,
no redirect carries a password elsewhere, and no answer is waited for without end.
"""

import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, UnavailableError

ANSWER_BYTES_MAX = 16 << 20
"""Larger: a wrong address may send for ever; smaller: a large schema does not fit."""

READ_BYTES = 64 << 10

_NOT_FOUND_CODES = frozenset({40401, 40402, 40403})
"""Subject, version, schema: the registry's own codes, which a wrong path does not send."""

_GUIDS = "schemas/guids/"
"""Questions that a registry of another maker or age may not know: what it answers is not that the
address is wrong."""

_UNKNOWN_QUESTION = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
)

_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

_HANG_UPS = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a connection ends when the other side goes down, or wants a certificate that it does not get.
"""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How the registry is reached.

    Attributes:
        url: Without a user.
        user: For basic authentication, with `password`.
        bearer_token: Instead of user and password.
        ca_file: Certificates to trust; None for the system's.
        certificate_file: Our own, with `key_file`.
        request_seconds_max: One question.
        seconds_max: All attempts at one question.
        cache_seconds: How long "there is no such schema" is believed.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    request_seconds_max: float = 10.0
    seconds_max: float = 60.0
    cache_seconds: float = 60.0


class NotInRegistryError(Exception):
    """The registry has no such schema, subject or version; never leaves the package."""


class RegistryClient:
    """Asks; may be used from any number of threads."""

    def __init__(self, settings: RegistrySettings, clock: Clock) -> None:
        """Read certificates; nothing is sent.

        Raises:
            ConfigError: A certificate cannot be read.

        """
        self._url = settings.url.rstrip("/")
        self._seconds_max = settings.request_seconds_max
        self._clock = clock
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if settings.bearer_token is not None:
            self._headers["Authorization"] = f"Bearer {settings.bearer_token}"
        elif settings.user is not None:
            pair = f"{settings.user}:{settings.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=_tls(settings)), _NoRedirects
        )

    def ask(self, *path: str) -> Any:  # noqa: ANN401 - JSON; the caller checks its shape
        """GET a path, given as unescaped parts.

        Returns:
            The JSON of the answer.

        Raises:
            NotInRegistryError: The registry does not have it.
            UnavailableError: No answer, or one that asks to try again. Try again.
            ConfigError: The registry refuses us, or the address is not that of a registry.

        """
        where = "/".join(urllib.parse.quote(part, safe="") for part in path)
        # Safe because the scheme was checked to be http or https when the settings were read.
        request = urllib.request.Request(f"{self._url}/{where}", headers=self._headers)  # noqa: S310
        deadline = self._clock.boot_seconds() + self._seconds_max
        try:
            with self._opener.open(request, timeout=self._seconds_max) as response:
                body = self._body(cast("HTTPResponse", response), deadline)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, where) from error
        except (OSError, HTTPException) as error:
            raise self._failure(error, where) from error
        try:
            return json.loads(body)
        except ValueError as error:
            message = f"{self._named(where)} answers with something else than JSON: check the url"
            raise ConfigError(message) from error

    def _body(self, response: HTTPResponse, deadline: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.read1(READ_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                message = f"schema registry sends more than bytes={ANSWER_BYTES_MAX}"
                raise ConfigError(message)
            # The socket's own limit begins anew with every byte that comes.
            if self._clock.boot_seconds() > deadline:
                raise TimeoutError
        return b"".join(pieces)

    def _named(self, where: str) -> str:
        return f"schema registry url={self._url} path={where}"

    def _refusal(self, error: urllib.error.HTTPError, where: str) -> Exception:
        named = self._named(where)
        with error:
            code = _registry_code(error)
        if where.startswith(_GUIDS) and error.code in _UNKNOWN_QUESTION:
            return NotInRegistryError(named)
        if error.code == HTTPStatus.NOT_FOUND:
            if code in _NOT_FOUND_CODES:
                return NotInRegistryError(named)
            return ConfigError(f"{named} is not found, and not by a registry: check the url")
        if error.code in _REFUSED:
            return ConfigError(
                f"{named} refuses us, status={error.code}: "
                "check username and password, or bearer_token"
            )
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in (
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.REQUEST_TIMEOUT,
        ):
            return UnavailableError(f"{named} does not answer now, status={error.code}")
        return ConfigError(f"{named} answers with status={error.code}: check the url")

    def _failure(self, error: OSError | HTTPException, where: str) -> Exception:
        named = self._named(where)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ConfigError(
                f"{named} has a certificate that is not trusted: set ca_file, or check the host"
            )
        hangs_up = isinstance(reason, _HANG_UPS)
        if isinstance(reason, ssl.SSLError) and not hangs_up:
            return ConfigError(
                f"{named}: TLS failed, reason={reason.reason}: "
                "check ca_file, certificate_file and key_file"
            )
        hint = ""
        if hangs_up and self._url.startswith("https:"):
            hint = "; if it wants a certificate, check certificate_file and key_file"
        return UnavailableError(f"{named} does not answer, error={type(reason).__name__}{hint}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none: the password is for the host in the settings only."""


def _registry_code(error: urllib.error.HTTPError) -> int | None:
    try:
        answer = json.loads(error.read(READ_BYTES))
    except (ValueError, OSError, HTTPException):
        return None
    if not isinstance(answer, Mapping):
        return None
    code = cast("Mapping[str, object]", answer).get("error_code")
    return code if isinstance(code, int) else None


def _tls(settings: RegistrySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            context.load_cert_chain(
                settings.certificate_file, settings.key_file, settings.key_password or ""
            )
    except (OSError, ValueError) as error:
        message = (
            "a certificate or key of the schema registry cannot be read: "
            "check its file, and key_password"
        )
        raise ConfigError(message) from error
    return context
