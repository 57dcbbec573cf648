"""Who may ask: a bearer token, or the same token as the password of a log-in.

Some drivers send `Authorization: Bearer` themselves; others log in with name and password, are
given the token in the answer, and send it from then on.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from pyarrow import flight

from k2i_core.errors import ConfigError
from k2i_core.flight.refusals import answered

_HEADER = "authorization"

_CREDENTIALS_LENGTH_MAX = 8_192
"""Longer than any token; what is longer is not looked at."""


class NoHandshake(flight.ServerAuthHandler):
    """Answers the log-in call of drivers; `TokenCheck` has read its headers before."""

    def authenticate(self, outgoing: object, incoming: object) -> None:
        """Accept, because this is not where it is decided."""

    def is_valid(self, token: str) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - a name, not a verdict
        """Know nobody by name."""
        del token
        return ""


class TokenCheck(flight.ServerMiddlewareFactory):
    """Turns away every call without the token."""

    def __init__(self, token: str | None) -> None:
        """Bind the token; None lets everybody in."""
        super().__init__()
        self._token = None if token is None else token.encode()

    def start_call(
        self, info: flight.CallInfo, headers: Mapping[str, Sequence[str | bytes]]
    ) -> flight.ServerMiddleware | None:
        """Look at the headers of a call.

        Raises:
            FlightUnauthenticatedError: The token is not there, or is another one.

        """
        del info
        if self._token is None:
            return None
        with answered("log in"):
            for value in headers.get(_HEADER, ()):
                given = value.encode("utf-8", "replace") if isinstance(value, str) else value
                scheme, _, credentials = given[:_CREDENTIALS_LENGTH_MAX].partition(b" ")
                sent = (
                    credentials if scheme.lower() == b"bearer" else _password(scheme, credentials)
                )
                if sent is not None and hmac.compare_digest(sent, self._token):
                    return _TokenAnswer(self._token.decode())
            message = (
                "a token is needed: send it as bearer token in the header authorization, or as "
                "password with any user name"
            )
            raise flight.FlightUnauthenticatedError(message)


class _TokenAnswer(flight.ServerMiddleware):
    """Gives a driver that logged in the header to send from now on."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def sending_headers(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride] - the stubs ask for lists only
        """Return the headers of the answer."""
        return {_HEADER: f"Bearer {self._token}"}


def _password(scheme: bytes, credentials: bytes) -> bytes | None:
    if scheme.lower() != b"basic":
        return None
    try:
        # Go's drivers leave the padding out.
        padded = credentials.rstrip(b"=") + b"=" * (-len(credentials.rstrip(b"=")) % 4)
        _, separator, password = base64.b64decode(padded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if separator else None


def is_loopback(host: str) -> bool:
    """Tell whether only this host can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, *, has_token: bool, has_tls: bool) -> None:
    """Check that what other hosts can reach is protected.

    Raises:
        ConfigError: It is not.

    """
    if is_loopback(host) or (has_token and has_tls):
        return
    missing = [
        *([] if has_token else ["serve.token"]),
        *([] if has_tls else ["serve.certificate and serve.certificate_key"]),
    ]
    message = (
        f"host={host} can be reached from other hosts, and there is no {', no '.join(missing)}; "
        "set them, listen on 127.0.0.1, or say --insecure"
    )
    raise ConfigError(message)
