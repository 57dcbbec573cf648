"""A table of the pipeline as a session's target: created or adopted, with all that is its own."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache

import pyarrow as pa
import structlog
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.config import Pipeline
from k2i_core.hot.writer import HotBudget, HotWriter
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import create_or_adopt, create_or_adopt_dead_letters
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.ingest.circuit_breaker import BreakerLimits, CircuitBreaker, Seen
from k2i_core.ingest.ports import HotRows, NoHotRows
from k2i_core.ingest.targets import Target
from k2i_core.ledger import Share
from k2i_core.txlog.directory import TransactionLogFile
from k2i_core.wiring.format_mapping import check_mapping
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.inspection import InspectedTable, seen_by
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.row_targets import RowWriters, TableRows
from k2i_core.wiring.settings import (
    catalog_opener,
    check_text_keys,
    commit_limits,
    table_settings,
)
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.write_target import WriteLimits

OPEN_FILES_MAX = 256
"""Files that the writers of all tables together keep open. More costs handles, and upload buffers
on an object store; fewer makes more and smaller files when rows go to many Iceberg partitions."""

ROW_GROUP_BYTES_MAX = 12 * 1024 * 1024
"""Arrow bytes of a row group: one is encoded while the next one fills. Larger holds as much more
memory twice; smaller costs compression until compaction makes larger ones."""

_log = structlog.get_logger(__name__)


class TargetMaker:
    """Makes the targets of one session; used by whoever opens it, then by the write lane."""

    def __init__(
        self,
        pipeline: Pipeline,
        share: Share,
        catalog: Catalog,
        log: TransactionLogFile,
        surroundings: Surroundings,
        encoder: Executor,
    ) -> None:
        """Bind what all targets have in common.

        Args:
            pipeline: With one table or several.
            share: Of the worker.
            catalog: The write lane's.
            log: The worker's.
            surroundings: The worker's.
            encoder: Where row groups are encoded.

        """
        self.pipeline = pipeline
        self.catalog = catalog
        self._share = share
        self._log = log
        self._surroundings = surroundings
        self._encoder = encoder
        self._table_count = sum(
            table.max_tables if table.is_template else 1 for table in pipeline.tables
        )
        self._hot_budget = HotBudget(pipeline.hot.max_bytes, max(1, self._table_count))
        # One connection for all commits, because they are made one after the other; another one
        # than the write lane's, because those run side by side.
        self._commit_catalog = cache(catalog_opener(pipeline))

    def make(
        self,
        pipeline: Pipeline,
        formats: Formats,
        columns: RecordColumns,
        record_schema: pa.Schema,
    ) -> Target:
        """Create or adopt the one table of `pipeline`, and return what is its own.

        Raises:
            IncompatibleSchemaError, ConfigError, UnavailableError: As `create_or_adopt`.

        """
        identifier, evolution = pipeline.table.identifier, pipeline.table.schema_evolution
        ready = create_or_adopt(
            self.catalog,
            identifier,
            columns.to_table(record_schema),
            table_settings(pipeline, columns.properties(record_schema)),
            evolution,
        )
        check_mapping(pipeline, ready.table.properties.get)
        for note in ready.notes:
            _log.warning("table differs from the settings", table=identifier, difference=note)
        table = columns.keep(self.catalog, identifier, record_schema) or ready.table
        writers = self._writers(table, identifier)
        rows = TableRows(self.catalog, writers, identifier, columns, evolution)
        formats.judge_schemas(rows.accepted_schemas)
        committer = self.committer(identifier)
        return Target(
            table=committer,
            rows=rows,
            make_decoder=formats.make_decoder,
            hot=self._hot_rows(identifier, rows.table_uuid),
            breaker=self._breaker(committer),
            fetch_schemas=formats.fetch,
            check_keys=check_text_keys if pipeline.format.key == "string" else None,
            transforms=columns.transforms,
        )

    def committer(self, identifier: str) -> TableCommitter:
        """Return what commits to a table."""
        return TableCommitter(
            PyIcebergGateway(self._commit_catalog, identifier),
            self._surroundings.patient_clock,
            self._surroundings.ids,
            commit_limits(self.pipeline),
            log_attempt=self._log.attempted,
            observe=self._surroundings.observe,
        )

    def dead_letter_writers(self) -> RowWriters:
        """Create or adopt the dead-letter table, and return the writers for it."""
        identifier = self.pipeline.dead_letter_table
        table = create_or_adopt_dead_letters(self.catalog, identifier).table
        return self._writers(table, identifier)

    def _writers(self, table: Table, identifier: str) -> RowWriters:
        limits = WriteLimits(row_group_bytes_max=ROW_GROUP_BYTES_MAX)
        if self._table_count:
            limits = replace(limits, open_files_max=max(1, OPEN_FILES_MAX // self._table_count))
        return RowWriters(
            table,
            identifier,
            clock=self._surroundings.clock,
            log=self._log,
            observe=self._surroundings.observe,
            encoder=self._encoder,
            limits=limits,
        )

    def _breaker(self, committer: TableCommitter) -> CircuitBreaker | None:
        section = self.pipeline.dead_letters
        if section.max_share is None:
            return None

        def recent() -> Iterator[Seen]:
            state = committer.inspect()
            view = view_of(state)
            table = InspectedTable(view, table_of(view), state.entry)
            return seen_by(table, self._share)

        return CircuitBreaker(BreakerLimits(section.max_share, section.over_records), recent)

    def _hot_rows(self, identifier: str, table_uuid: str) -> HotRows:
        if not self.pipeline.hot.enabled:
            return NoHotRows()

        def report(trouble: str) -> None:
            _log.warning("hot rows are in trouble", table=identifier, trouble=trouble)
            self._surroundings.report_hot(trouble)

        return HotWriter(
            self.pipeline.hot_directories,
            table_uuid,
            self._surroundings.ids.token,
            byte_count_max=self.pipeline.hot.max_bytes,
            report=report,
            budget=self._hot_budget,
        )
