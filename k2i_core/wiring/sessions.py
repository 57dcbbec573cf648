"""One ingest session over real parts, and everything that has to be closed after it."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2i_core.clock import IdSource
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.iceberg.verdicts import Verdicts
from k2i_core.ingest.lanes import open_lanes
from k2i_core.ingest.parts import Parts, SessionSettings
from k2i_core.ingest.ports import DeadLetterTable, OpenDeadLetters, ReadVerdicts
from k2i_core.ingest.session import Session
from k2i_core.kafka.letter_topic import LetterTopic
from k2i_core.kafka.source import KafkaSource
from k2i_core.ledger import Share
from k2i_core.native import find_native
from k2i_core.txlog.directory import TransactionLogFile
from k2i_core.wiring.first_schema import find_row_schema
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.letter_copies import (
    CopiedDeadLetterTable,
    CopiedVerdicts,
    LetterCopies,
)
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import catalog_opener, flush_limits, kafka_settings
from k2i_core.wiring.several import open_several
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.wiring.targets import TargetMaker
from k2i_core.worker import OpenSession

DECODE_THREADS = 2
"""Decoders that run side by side. More only helps when decoding, not polling, is the slowest
stage, which takes more than four processors; fewer leaves a processor idle."""


_HOPELESS = (PermissionError, NotADirectoryError, FileExistsError)
"""What no retry cures: something else is where the directory has to be, or it is not ours."""


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

        formats = Formats(pipeline, surroundings.clock)
        lanes = stack.enter_context(open_lanes(DECODE_THREADS))
        maker = TargetMaker(pipeline, share, catalog, log, surroundings, lanes.encode)
        if pipeline.tables:
            targets, routing = open_several(maker, formats)
        else:
            columns = RecordColumns(pipeline, formats)
            first = find_row_schema(pipeline, catalog, source, formats, columns, is_stop_asked)
            targets, routing = (maker.make(pipeline, formats, columns, first),), None
        letters = _dead_letters(maker, surroundings)
        session = Session(
            Parts(
                source=source,
                targets=targets,
                dead_letters=letters.table,
                open_dead_letters=letters.open_writer,
                read_verdicts=letters.read_verdicts,
                log=log,
                clock=surroundings.patient_clock,
                routing=routing,
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


def _dead_letters(maker: TargetMaker, surroundings: Surroundings) -> _DeadLetters:
    """Create or adopt their table, which goes first; and their topic, if there is one."""
    pipeline = maker.pipeline
    section, writers = pipeline.dead_letters, maker.dead_letter_writers()
    committer = maker.committer(pipeline.dead_letter_table)
    if section.topic is None:
        return _DeadLetters(committer, writers.open, Verdicts())
    topic = LetterTopic(
        kafka_settings(pipeline),
        section.topic,
        pipeline.name,
        surroundings.patient_clock,
        section.copy_for,
    )
    copies = LetterCopies(topic, section.topic, surroundings.report_copies)
    return _DeadLetters(
        CopiedDeadLetterTable(committer, writers.table, copies),
        writers.open,
        CopiedVerdicts(Verdicts(), copies),
    )
