"""What a session is built from: parts, plain settings, and who is told about its progress."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from k2i_core.clock import Clock
from k2i_core.ingest.ports import (
    DeadLetterTable,
    OpenDeadLetters,
    ReadVerdicts,
    Source,
    TransactionLog,
)
from k2i_core.ingest.take_over import TakenOver
from k2i_core.ingest.targets import Routing, Target
from k2i_core.ingest.triggers import FlushLimits
from k2i_core.ledger import Share
from k2i_core.records import FlushReport, PolledBatch


@dataclass(frozen=True, slots=True)
class Parts:
    """The real or fake parts a session is built from.

    Attributes:
        targets: The tables that get rows; the first leads.
        routing: None where one table gets everything.
    """

    source: Source
    targets: tuple[Target, ...]
    dead_letters: DeadLetterTable
    open_dead_letters: OpenDeadLetters
    read_verdicts: ReadVerdicts
    log: TransactionLog
    clock: Clock
    routing: Routing | None = None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Plain values from the pipeline file.

    Attributes:
        unavailable_seconds_max: How long the topic check before a commit waits for a broker.
    """

    pipeline: str
    share: Share
    flush: FlushLimits
    unavailable_seconds_max: float = 300.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told about progress; for metrics, logs and orchestration."""

    took_over: Callable[[TakenOver], None] = field(default=lambda _: None)
    polled: Callable[[PolledBatch], None] = field(default=lambda _: None)
    flushed: Callable[[FlushReport], None] = field(default=lambda _: None)
    turned: Callable[[], None] = field(default=lambda: None)
    waiting: Callable[[], None] = field(default=lambda: None)
    """The loop does not turn for now: it waits for services, each with its own limit."""
    paused: Callable[[str, str], None] = field(default=lambda _table, _why: None)
    """Nothing more is committed to a table until an operator acted."""

    def followed_by(self, other: "Listener") -> "Listener":
        """Return a listener that tells this one, then the other."""

        def both(name: str) -> Callable[..., None]:
            first, second = getattr(self, name), getattr(other, name)

            def tell(*news: object) -> None:
                first(*news)
                second(*news)

            return tell

        return Listener(**{part.name: both(part.name) for part in fields(self)})
