"""`RowTargets` over real tables: what rows look like now, and Parquet writers for them.

Belongs to the write lane, with a catalog connection of its own.
"""

from collections.abc import Callable

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.clock import Clock
from k2i_core.crash_points import CrashPoint, Observer
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.tables import evolve
from k2i_core.iceberg.write_targets import write_target
from k2i_core.ingest.ports import RowWriter, TransactionLog
from k2i_core.ledger import Owner
from k2i_core.parquet.encodings import EncodingMemory
from k2i_core.parquet.writer import RollingWriter
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.wiring.record_columns import RecordColumns


class TableRowTargets:
    """Writers for the target and the dead-letter table of one worker."""

    def __init__(
        self,
        catalog: Catalog,
        target: Table,
        dead_letters: Table,
        *,
        identifiers: tuple[str, str],
        columns: RecordColumns,
        evolution: SchemaEvolution,
        clock: Clock,
        log: TransactionLog,
        observe: Observer,
    ) -> None:
        """Bind the two tables as they were when the session was built."""
        self._catalog = catalog
        self._target = target
        self._dead_letters = dead_letters
        self._target_identifier, self._dead_letters_identifier = identifiers
        self._columns = columns
        self._evolution = evolution
        self._clock = clock
        self._log = log
        self._observe = observe
        self._writer_count = 0
        # Kept over generations, so that no writer learns a column's shape again.
        self._encodings = EncodingMemory()

    @property
    def table_uuid(self) -> str:
        """The target table's identity, whatever its name."""
        return str(self._target.metadata.table_uuid)

    @property
    def row_schema(self) -> pa.Schema:
        """The columns that decoders make for the target table, without `_kafka`."""
        return self._columns.of_table(self._target)

    def evolve(self, wanted: pa.Schema) -> None:
        """Change the target table so that records of `wanted` fit."""
        # Before the columns that follow from it, because those alone would not tell it.
        self._columns.keep(self._catalog, self._target_identifier, wanted)
        table_schema = self._columns.to_table(wanted)
        evolve(self._catalog, self._target_identifier, table_schema, self._evolution)
        with translated(f"load table {self._target_identifier}"):
            self._target = self._catalog.load_table(self._target_identifier)
        self._encodings = EncodingMemory()

    def open_target(self, owner: Owner, generation: int) -> RowWriter:
        """Return a writer for rows of one generation."""
        return self._open(self._target, self._target_identifier, owner, generation, self._encodings)

    def open_dead_letters(self, owner: Owner, generation: int) -> RowWriter:
        """Return a writer for dead letters of one generation."""
        return self._open(
            self._dead_letters, self._dead_letters_identifier, owner, generation, None
        )

    def _open(
        self,
        table: Table,
        identifier: str,
        owner: Owner,
        generation: int,
        encodings: EncodingMemory | None,
    ) -> RowWriter:
        # The writer's own number, because a schema change opens a second one in a generation.
        self._writer_count += 1
        share = f"{owner.share.worker}-{owner.share.workers}"
        stem = f"{owner.epoch}-{share}-{generation}-{self._writer_count}"
        target = write_target(table, stem)
        return RollingWriter(
            target, self._clock, self._announcer(identifier, generation), encodings
        )

    def _announcer(self, identifier: str, generation: int) -> Callable[[str], None]:
        def announce(path: str) -> None:
            self._log.file(identifier, generation, path)
            self._observe(CrashPoint.FILE_LOGGED)

        return announce
