"""`TargetRows` over real tables: what rows look like now, and Parquet writers for them.

Belongs to the write lane, with a catalog connection of its own.
"""

from collections.abc import Callable
from concurrent.futures import Executor

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
from k2i_core.pauses import ACCEPTED_KEY, decode_accepted
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.write_target import WriteLimits


class RowWriters:
    """Writers for the files of one table, the dead letters' or a target."""

    def __init__(
        self,
        table: Table,
        identifier: str,
        *,
        clock: Clock,
        log: TransactionLog,
        observe: Observer,
        encoder: Executor,
        limits: WriteLimits | None = None,
    ) -> None:
        """Bind the table as it was when the session was built."""
        self.table = table
        self._identifier = identifier
        self._clock = clock
        self._log = log
        self._observe = observe
        self._encoder = encoder
        self._limits = limits
        self._writer_count = 0
        # Kept over generations, so that no writer learns a column's shape again.
        self._encodings = EncodingMemory()

    def use(self, table: Table) -> None:
        """Write by other columns from now on."""
        self.table = table
        self._encodings = EncodingMemory()

    def open(self, owner: Owner, generation: int) -> RowWriter:
        """Return a writer for rows of one generation."""
        # The writer's own number, because a schema change opens a second one in a generation.
        self._writer_count += 1
        share = f"{owner.share.worker}-{owner.share.workers}"
        stem = f"{owner.epoch}-{share}-{generation}-{self._writer_count}"
        target = write_target(self.table, stem, limits=self._limits)
        announce = self._announcer(generation)
        return RollingWriter(target, self._clock, announce, self._encodings, self._encoder)

    def _announcer(self, generation: int) -> Callable[[str], None]:
        def announce(path: str) -> None:
            self._log.file(self._identifier, generation, path)
            self._observe(CrashPoint.FILE_LOGGED)

        return announce


class TableRows:
    """Columns of one target table, and writers for its rows."""

    def __init__(
        self,
        catalog: Catalog,
        writers: RowWriters,
        identifier: str,
        columns: RecordColumns,
        evolution: SchemaEvolution,
    ) -> None:
        """Bind the table that the writers write to."""
        self._catalog = catalog
        self._writers = writers
        self._identifier = identifier
        self._columns = columns
        self._evolution = evolution

    @property
    def table_uuid(self) -> str:
        """The table's identity, whatever its name."""
        return str(self._writers.table.metadata.table_uuid)

    @property
    def accepted_schemas(self) -> frozenset[str]:
        """Writers' schemas of which an operator said that their records may be dead letters."""
        return decode_accepted(self._writers.table.properties.get(ACCEPTED_KEY))

    @property
    def row_schema(self) -> pa.Schema:
        """The columns that decoders make for the table, without `_kafka`."""
        return self._columns.of_table(self._writers.table)

    def evolve(self, wanted: pa.Schema) -> None:
        """Change the table so that records of `wanted` fit."""
        # Before the columns that follow from it, because those alone would not tell it.
        self._columns.keep(self._catalog, self._identifier, wanted)
        evolve(self._catalog, self._identifier, self._columns.to_table(wanted), self._evolution)
        with translated(f"load table {self._identifier}"):
            self._writers.use(self._catalog.load_table(self._identifier))

    def open(self, owner: Owner, generation: int) -> RowWriter:
        """Return a writer for rows of one generation."""
        return self._writers.open(owner, generation)
