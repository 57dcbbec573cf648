"""One ingest session over real parts, and everything that has to be closed after it."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.clock import Clock, IdSource
from k2i_core.config import Pipeline
from k2i_core.crash_points import Observer, ignore
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.hot.writer import HotWriter
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import create_or_adopt, create_or_adopt_dead_letters
from k2i_core.iceberg.verdicts import Verdicts
from k2i_core.ingest.circuit_breaker import BreakerLimits, CircuitBreaker
from k2i_core.ingest.lanes import Lanes, open_lanes
from k2i_core.ingest.parts import Listener, Parts, SessionSettings
from k2i_core.ingest.ports import (
    DeadLetterTable,
    HotRows,
    NoHotRows,
    OpenDeadLetters,
    ReadVerdicts,
)
from k2i_core.ingest.session import Session
from k2i_core.ingest.targets import Target
from k2i_core.kafka.letter_topic import LetterTopic
from k2i_core.kafka.source import KafkaSource
from k2i_core.ledger import Share
from k2i_core.native import find_native
from k2i_core.txlog.directory import TransactionLogFile
from k2i_core.wiring.first_schema import find_row_schema
from k2i_core.wiring.formats import Formats, check_mapping
from k2i_core.wiring.inspection import recent_commits
from k2i_core.wiring.letter_copies import (
    CopiedDeadLetterTable,
    CopiedVerdicts,
    LetterCopies,
    Report,
)
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.row_targets import RowWriters, TableRows
from k2i_core.wiring.settings import (
    catalog_opener,
    check_text_keys,
    commit_limits,
    flush_limits,
    kafka_settings,
    table_settings,
)
from k2i_core.worker import OpenSession

_log = structlog.get_logger(__name__)

DECODE_THREADS = 2
"""Decoders that run side by side. More only helps when decoding, not polling, is the slowest
stage, which takes more than four processors; fewer leaves a processor idle."""


_HOPELESS = (PermissionError, NotADirectoryError, FileExistsError)
"""What no retry cures: something else is where the directory has to be, or it is not ours."""


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


def state_directory(pipeline: Pipeline) -> Path:
    """Return where this host keeps the pipeline's transaction logs."""
    return Path(pipeline.state_directory) / pipeline.name


def _transaction_log(pipeline: Pipeline, ids: IdSource) -> TransactionLogFile:
    """Open this worker's log; a directory that can never be made or written is a wrong setting."""
    directory = state_directory(pipeline) / "txlog"
    try:
        return TransactionLogFile(directory, ids.token())
    except UnavailableError as error:
        if isinstance(error.__cause__, _HOPELESS):
            message = (
                f"state_directory={pipeline.state_directory} cannot be used: "
                f"{error.__cause__.strerror} for {error.__cause__.filename}; choose a directory "
                f"that this user may write"
            )
            raise ConfigError(message) from error
        raise


@contextmanager
def open_session(
    pipeline: Pipeline, share: Share, surroundings: Surroundings
) -> Generator[OpenSession]:
    """Build a session; on the way out abandon it unless it has finished.

    Raises:
        ConfigError, UnavailableError, IncompatibleSchemaError: A part could not be built.

    """
    surroundings.listener.waiting()
    with ExitStack() as stack:
        log = _transaction_log(pipeline, surroundings.ids)
        stack.callback(log.close)
        native = find_native(pipeline.native).library
        source = KafkaSource(kafka_settings(pipeline), surroundings.clock, native)
        stack.callback(source.close)
        catalog = catalog_opener(pipeline)()

        def is_stop_asked() -> bool:
            surroundings.listener.turned()  # waiting for first records is no hanging
            return surroundings.is_stop_asked()

        target = _target(pipeline, share, catalog, source, log, surroundings, is_stop_asked)
        letters = _dead_letters(pipeline, catalog, log, surroundings)
        lanes = stack.enter_context(open_lanes(DECODE_THREADS))
        session = Session(
            Parts(
                source=source,
                targets=(target,),
                dead_letters=letters.table,
                open_dead_letters=letters.open_writer,
                read_verdicts=letters.read_verdicts,
                log=log,
                clock=surroundings.patient_clock,
            ),
            SessionSettings(pipeline=pipeline.name, share=share, flush=flush_limits(pipeline)),
            lanes,
            listener=surroundings.listener,
            observe=surroundings.observe,
        )
        opened = OpenSession(session, source)
        surroundings.on_open(opened, source, lanes)
        try:
            yield opened
        except BaseException:
            session.abandon()
            raise


@dataclass(frozen=True, slots=True)
class _DeadLetters:
    """The parts of a session that have to do with dead letters."""

    table: DeadLetterTable
    open_writer: OpenDeadLetters
    read_verdicts: ReadVerdicts


def _dead_letters(
    pipeline: Pipeline, catalog: Catalog, log: TransactionLogFile, surroundings: Surroundings
) -> _DeadLetters:
    """Create or adopt their table, which goes first; and their topic, if there is one."""
    identifier, section = pipeline.dead_letter_table, pipeline.dead_letters
    table = create_or_adopt_dead_letters(catalog, identifier).table
    committer = _committer(pipeline, identifier, log, surroundings)
    open_writer = _row_writers(table, identifier, log, surroundings).open
    if section.topic is None:
        return _DeadLetters(committer, open_writer, Verdicts())
    topic = LetterTopic(
        kafka_settings(pipeline),
        section.topic,
        pipeline.name,
        surroundings.patient_clock,
        section.copy_for,
    )
    copies = LetterCopies(topic, section.topic, surroundings.report_copies)
    return _DeadLetters(
        CopiedDeadLetterTable(committer, table, copies),
        open_writer,
        CopiedVerdicts(Verdicts(), copies),
    )


def _breaker(pipeline: Pipeline, share: Share) -> CircuitBreaker | None:
    section = pipeline.dead_letters
    if section.max_share is None:
        return None
    limits = BreakerLimits(section.max_share, section.over_records)
    return CircuitBreaker(limits, lambda: recent_commits(pipeline, share))


def _hot_rows(pipeline: Pipeline, table_uuid: str, surroundings: Surroundings) -> HotRows:
    if not pipeline.hot.enabled:
        return NoHotRows()

    def report(trouble: str) -> None:
        _log.warning("hot rows are in trouble", table=pipeline.table.identifier, trouble=trouble)
        surroundings.report_hot(trouble)

    return HotWriter(
        pipeline.hot_directories,
        table_uuid,
        surroundings.ids.token,
        byte_count_max=pipeline.hot.max_bytes,
        report=report,
    )


def _target(
    pipeline: Pipeline,
    share: Share,
    catalog: Catalog,
    source: KafkaSource,
    log: TransactionLogFile,
    surroundings: Surroundings,
    is_stop_asked: Callable[[], bool],
) -> Target:
    """Create or adopt the table, and return what is its own."""
    columns = RecordColumns(pipeline)
    formats = Formats(pipeline, surroundings.clock)
    record_schema = find_row_schema(pipeline, catalog, source, formats, columns, is_stop_asked)
    rows = _target_rows(pipeline, catalog, columns, record_schema, log, surroundings)
    return Target(
        table=_committer(pipeline, pipeline.table.identifier, log, surroundings),
        rows=rows,
        make_decoder=formats.make_decoder,
        hot=_hot_rows(pipeline, rows.table_uuid, surroundings),
        breaker=_breaker(pipeline, share),
        fetch_schemas=formats.fetch,
        check_keys=check_text_keys if pipeline.format.key == "string" else None,
        transforms=columns.transforms,
    )


def _target_rows(
    pipeline: Pipeline,
    catalog: Catalog,
    columns: RecordColumns,
    record_schema: pa.Schema,
    log: TransactionLogFile,
    surroundings: Surroundings,
) -> TableRows:
    identifier, evolution = pipeline.table.identifier, pipeline.table.schema_evolution
    target = create_or_adopt(
        catalog,
        identifier,
        columns.to_table(record_schema),
        table_settings(pipeline, columns.properties(record_schema)),
        evolution,
    )
    check_mapping(pipeline, target.table.properties.get)
    for note in target.notes:
        _log.warning("table differs from the settings", table=identifier, difference=note)
    table = columns.keep(catalog, identifier, record_schema) or target.table
    writers = _row_writers(table, identifier, log, surroundings)
    return TableRows(catalog, writers, identifier, columns, evolution)


def _row_writers(
    table: Table, identifier: str, log: TransactionLogFile, surroundings: Surroundings
) -> RowWriters:
    return RowWriters(
        table, identifier, clock=surroundings.clock, log=log, observe=surroundings.observe
    )


def _committer(
    pipeline: Pipeline, identifier: str, log: TransactionLogFile, surroundings: Surroundings
) -> TableCommitter:
    # A catalog of its own for each, because the commit lane and the write lane run side by side.
    return TableCommitter(
        PyIcebergGateway(catalog_opener(pipeline), identifier),
        surroundings.patient_clock,
        surroundings.ids,
        commit_limits(pipeline),
        log_attempt=log.attempted,
        observe=surroundings.observe,
    )
