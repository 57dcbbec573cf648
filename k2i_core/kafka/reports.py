"""What librdkafka says about itself: log lines, errors of connections, signs of life.

One object serves all clients of a source. Nothing is raised inside librdkafka's callbacks, because
an exception there would throw away the records that the same call was about to return; what must
stop the pipeline is kept and raised by `raise_if_refused` between calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaError

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError
from k2i_core.kafka.failures import Reaction, described, reaction_to, translated
from k2i_core.kafka.settings import PropertyValue, Secrets

LOG_PAUSE_SECONDS = 10.0
"""Least time between two log lines of one kind: smaller floods the log in an outage (librdkafka
repeats itself at every attempt to connect), larger hides that it goes on."""

REFUSED_SECONDS_MAX = 60.0
"""How long a cluster that accepted these credentials before may refuse them: a broker that starts
may not have loaded its users yet. Smaller ends a pipeline over a restart, larger hides a revoked
password."""

_PYTHON_WARNING = 30

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Whether the cluster answers, as far as this source knows without asking.

    Attributes:
        reachable: False from the moment all brokers were lost until one is heard again, and until
            the first answer.
        heard_boot_seconds: When a broker was last heard (`Clock.boot_seconds`); None for never.
        last_error: The latest error since a broker was last heard; None when there was none.
    """

    reachable: bool
    heard_boot_seconds: float | None
    last_error: str | None


class ClientReports:
    """Collects the reports of librdkafka clients; a logger and an error callback for them."""

    def __init__(self, clock: Clock, secrets: Secrets) -> None:
        self._clock = clock
        self._secrets = secrets
        self._heard_boot_seconds: float | None = None
        self._reachable = False
        self._last_error: str | None = None
        self._refusal: KafkaError | None = None
        self._refused_boot_seconds = 0.0
        self._is_in_doubt = False
        self._is_topic_in_doubt = False
        self._logged: dict[str, tuple[float, int]] = {}

    def attached_to(self, properties: Mapping[str, PropertyValue]) -> dict[str, Any]:
        """Return the properties of a client together with its callbacks to this object."""
        return {**properties, "error_cb": self.on_error, "logger": self}

    def heard(self) -> None:
        """Note a sign of life: a record, the end of a log, or an answer."""
        if not self._reachable and self._heard_boot_seconds is not None:
            _log.info("kafka is back", outage_error=self._last_error)
        self._heard_boot_seconds = self._clock.boot_seconds()
        self._reachable = True
        self._is_in_doubt = False
        self._last_error = None
        self._refusal = None

    def on_error(self, error: KafkaError) -> None:
        """Take an error that concerns a client, not one Kafka partition; never raises."""
        self._last_error = described(error, self._secrets)
        self._is_in_doubt = True
        match reaction_to(error):
            case Reaction.REFUSED | Reaction.INVALID:
                self._reachable = False
                if self._refusal is None:
                    self._refused_boot_seconds = self._clock.boot_seconds()
                self._refusal = error
            case Reaction.TOPIC_GONE | Reaction.FORBIDDEN:
                self._is_topic_in_doubt = True
            case Reaction.WAIT if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's own codes begin with an underscore
                self._reachable = False
            case _:
                pass
        self.warn(error.name(), "kafka client error", error=self._last_error)

    def lost(self, reason: str) -> None:
        """Note that a question got no answer."""
        self._reachable = False
        self._last_error = self._last_error or self._secrets.removed_from(reason)

    @property
    def is_in_doubt(self) -> bool:
        """Whether an error came after the last sign of life, so that asking is worth a request."""
        return self._is_in_doubt

    def take_topic_doubt(self) -> bool:
        """Tell whether an error since the last call says that a topic may be gone."""
        is_in_doubt, self._is_topic_in_doubt = self._is_topic_in_doubt, False
        return is_in_doubt

    def silent_seconds(self) -> float | None:
        """Return the seconds since the last sign of life; None before the first."""
        if self._heard_boot_seconds is None:
            return None
        return self._clock.boot_seconds() - self._heard_boot_seconds

    def health(self) -> SourceHealth:
        """Return what is known now; asks nobody."""
        return SourceHealth(
            reachable=self._reachable,
            heard_boot_seconds=self._heard_boot_seconds,
            last_error=self._last_error,
        )

    def raise_if_refused(self, action: str) -> None:
        """Raise when the cluster refuses us, and not only for a moment.

        Raises:
            ConfigError: Credentials or certificates were refused from the start, or for
                `REFUSED_SECONDS_MAX`; fix the settings.

        """
        refusal = self._refusal
        if refusal is None:
            return
        refused_seconds = self._clock.boot_seconds() - self._refused_boot_seconds
        if self._heard_boot_seconds is None or refused_seconds >= REFUSED_SECONDS_MAX:
            error = translated(refusal, action, self._secrets)
            raise ConfigError(str(error), kind=error.kind)

    def log(self, level: int, line_format: str, *values: object) -> None:
        """Take one log line of librdkafka, in the way of `logging.Logger.log`."""
        line = self._secrets.removed_from(line_format % values)
        facility = str(values[0]) if values else ""
        if level >= _PYTHON_WARNING:
            self.warn(facility, "kafka client log", line=line)
        else:
            _log.debug("kafka client log", line=line)

    def warn(self, about: str, event: str, **values: object) -> None:
        """Log at most once in `LOG_PAUSE_SECONDS` per subject, with how many were left out.

        Safe without a limit on subjects: they are librdkafka's own names and ours, a few dozen.
        """
        now = self._clock.boot_seconds()
        logged_at, left_out = self._logged.get(about, (-LOG_PAUSE_SECONDS, 0))
        if now - logged_at < LOG_PAUSE_SECONDS:
            self._logged[about] = (logged_at, left_out + 1)
            return
        self._logged[about] = (now, 0)
        _log.warning(event, left_out_count=left_out, **values)
