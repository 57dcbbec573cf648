"""Where log lines go and what they look like: for people on a terminal, JSON lines elsewhere.

One set-up for k2i's own events and for what libraries send through `logging` and `warnings`, so
that a worker's output is one stream of one shape. Record contents are never logged by k2i; secrets
that a library prints (a password in a URL, a token in a setting) are masked on the way out.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from k2i_core.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")

MASK = "***"

_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authorization|api[._-]?key|access[._-]?key"
    r"|private[._-]?key|basic[._.-]?auth|jaas",
    re.IGNORECASE,
)
_URL_USER = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<key>[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|credential|api[._-]?key"
    r"|access[._-]?key)[\w.-]*['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&'\")}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)

_CHATTY_LIBRARIES = ("pyiceberg", "urllib3", "botocore", "fsspec", "sqlalchemy", "asyncio")

_NESTING_MAX = 8
"""Values nested deeper are masked whole: deeper costs time on every line, shallower hides more."""


class _K2iHandler(logging.StreamHandler[TextIO]):
    """The one handler that `configure_logging` owns; a second call replaces it."""


def configure_logging(level: str, *, json: bool | None, stream: TextIO) -> None:
    """Send every log line of this process to one stream, in one form.

    Args:
        level: `debug`, `info`, `warning` or `error`; libraries stay at `warning`.
        json: JSON lines, or lines for people; None decides by whether the stream is a terminal.
        stream: Usually standard error, because standard output carries answers.

    Raises:
        ConfigError: The level is none of the four.

    """
    if level.lower() not in LEVELS:
        message = f"log level={level} is unknown; use one of {', '.join(LEVELS)}"
        raise ConfigError(message)
    is_terminal = stream.isatty()
    as_json = not is_terminal if json is None else json
    handler = _K2iHandler(stream)
    handler.setFormatter(_Formatter(as_json=as_json, colors=is_terminal))
    root = logging.getLogger()
    for stale in [h for h in root.handlers if isinstance(h, _K2iHandler)]:
        root.removeHandler(stale)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_enrichment(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A cached logger would keep the first stream after a second call.
        cache_logger_on_first_use=False,
    )


def _enrichment() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders k2i's events and foreign records alike, secrets masked last of all."""

    def __init__(self, *, as_json: bool, colors: bool) -> None:
        renderer: Processor = (
            structlog.processors.JSONRenderer(sort_keys=False, default=str)
            if as_json
            else structlog.dev.ConsoleRenderer(colors=colors)
        )
        super().__init__(
            foreign_pre_chain=_enrichment(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Before redaction, because a traceback may quote a URL.
                structlog.processors.format_exc_info,
                redact_secrets,
                structlog.processors.EventRenamer("event"),
                renderer,
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        """Keep `ProcessorFormatter` from leaving rendered text on the shared record."""
        return super().format(logging.makeLogRecord(record.__dict__))


def redact_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask values of secret-looking keys, and secrets inside any text."""
    return cast("EventDict", _redact_mapping(event, 0))


def redact_text(text: str) -> str:
    """Mask user information in URLs, assigned secrets and bearer tokens inside a text."""
    text = _URL_USER.sub(rf"\g<scheme>{MASK}@", text)
    text = _BEARER.sub(rf"\g<scheme>{MASK}", text)
    return _ASSIGNED.sub(rf"\g<key>{MASK}", text)


def _redact_mapping(mapping: Mapping[str, object], depth: int) -> MutableMapping[str, object]:
    return {
        key: MASK if _SECRET_KEY.search(str(key)) else _redact(value, depth)
        for key, value in mapping.items()
    }


def _redact(value: object, depth: int) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case _ if depth >= _NESTING_MAX:
            return MASK
        case Mapping():
            return _redact_mapping(cast("Mapping[str, object]", value), depth + 1)
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [_redact(item, depth + 1) for item in cast("Sequence[object]", value)]
        case _:
            return redact_text(str(value))
