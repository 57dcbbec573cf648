"""What a worker's sessions share and production takes from the system."""

from collections.abc import Callable
from dataclasses import dataclass, field

from k2i_core.clock import Clock, IdSource
from k2i_core.crash_points import Observer, ignore
from k2i_core.ingest.lanes import Lanes
from k2i_core.ingest.parts import Listener
from k2i_core.kafka.source import KafkaSource
from k2i_core.wiring.letter_copies import Report
from k2i_core.worker import OpenSession


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker's sessions share and production takes from the system.

    Attributes:
        clock: For polling; a stop request cuts its waits short.
        patient_clock: For commits; a stop request does not.
        listener: Told about progress.
        observe: Told about every crash point.
        is_stop_asked: Whether to stop waiting for first records.
        on_open: Told about each session before it starts.
        report_hot: Told when something is wrong with hot rows; ingestion goes on.
        report_copies: Told about dead letters in their topic: copied, and given up.
    """

    clock: Clock
    patient_clock: Clock
    ids: IdSource
    is_stop_asked: Callable[[], bool] = field(default=lambda: False)
    listener: Listener = field(default_factory=Listener)
    observe: Observer = ignore
    on_open: Callable[[OpenSession, KafkaSource, Lanes], None] = field(
        default=lambda _opened, _source, _lanes: None
    )
    report_hot: Callable[[str], None] = field(default=lambda _trouble: None)
    report_copies: Report = field(default=lambda _copied, _given_up: None)
