"""What a client is told when something fails: what to do, and nothing about this host.

Only Flight's own exceptions are safe to let through: Arrow sends any other one with its stack
trace, file names included.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager

import structlog
from pyarrow import flight

from k2i_core.errors import ConfigError, CorruptionError, K2iError, UnavailableError
from k2i_core.log import redact_text

MESSAGE_LENGTH_MAX = 1_000
"""Longer ones do not fit into the headers that carry them."""

_PATH = re.compile(r"(?:[a-z][a-z0-9+.-]*:/)?(?:/[^\s/'\",;:()]+){2,}/?", re.IGNORECASE)

log = structlog.get_logger(__name__)


@contextmanager
def answered(call: str) -> Generator[None]:
    """Turn whatever goes wrong in a call into what its client may know.

    Args:
        call: What was asked for; for the log.

    Raises:
        FlightError: Always this kind.

    """
    try:
        yield
    except flight.FlightError:
        raise
    except K2iError as error:
        raise _refusal(call, error) from error
    except Exception as error:
        # The top of a request, as of a process: the server goes on, and its log has the trace.
        log.exception("request failed", call=call)
        message = "internal error; the server's log has the details"
        raise flight.FlightInternalError(message) from error


def _refusal(call: str, error: K2iError) -> flight.FlightError:
    match error:
        case ConfigError():
            return flight.FlightServerError(shown(str(error)))
        case UnavailableError():
            log.warning("table cannot be read", call=call, reason=str(error))
            message = "the table cannot be read now; try again, or see the server's log"
            return flight.FlightUnavailableError(message)
        case _:
            report = log.error if isinstance(error, CorruptionError) else log.warning
            report("request failed", call=call, kind=error.kind.value, reason=str(error))
            return flight.FlightInternalError(shown(f"the table cannot be read: {error}"))


def shown(text: str) -> str:
    """Return a message without paths, secrets and line breaks, and not too long."""
    text = " ".join(_PATH.sub("<path>", redact_text(text)).split())
    return text if len(text) <= MESSAGE_LENGTH_MAX else f"{text[:MESSAGE_LENGTH_MAX]}…"
