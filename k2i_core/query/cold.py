"""The committed side: one load of the table with its ledger, and scans of its snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import expression_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyparsing import ParseBaseException

from k2i_core.errors import ConfigError
from k2i_core.iceberg.ancestry import read_entry
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.views import table_of
from k2i_core.ledger import Entry
from k2i_core.schema.identity import was_renamed


@dataclass(frozen=True, slots=True)
class ColdTable:
    """One load.

    Attributes:
        table: As PyIceberg has it; its current snapshot is what is read.
        entry: The ledger of that snapshot; None when k2i never committed to it.
        schema: The table's columns, `_kafka` last, with what they are known by.
        was_renamed: Whether a column had another name before.
        loaded_boot_seconds: When.
    """

    table: Table
    entry: Entry | None
    schema: pa.Schema
    was_renamed: bool
    loaded_boot_seconds: float

    @property
    def snapshot_id(self) -> int | None:
        """What is read; None for a table without snapshots."""
        snapshot = self.table.current_snapshot()
        return None if snapshot is None else snapshot.snapshot_id

    def batches(
        self, columns: tuple[str, ...] | None, where: BooleanExpression
    ) -> Iterator[pa.RecordBatch]:
        """Yield the committed rows; files that cannot match are not opened.

        Raises:
            UnavailableError: A file could not be read; it may have been given up meanwhile.

        """
        if self.table.current_snapshot() is None:
            return
        name = ".".join(self.table.name())
        with translated(f"read table {name}"):
            scan = self.table.scan(where, columns or ("*",))
            yield from scan.to_arrow_batch_reader()


def load_cold(gateway: PyIcebergGateway, boot_seconds: float) -> ColdTable:
    """Load the table.

    Raises:
        ConfigError: It does not exist.
        CorruptionError: Its ledger cannot be believed.
        UnavailableError: The catalog did not answer.

    """
    view = gateway.load()
    table = table_of(view)
    entry = read_entry(view, partial(gateway.has_live_entry, view))
    schema = table_columns(table)
    return ColdTable(table, entry, schema, was_renamed(list(schema)), boot_seconds)


def parse_filter(where: str | BooleanExpression | None) -> BooleanExpression:
    """Read a row filter such as `amount > 10 and _kafka.partition = 3`.

    Raises:
        ConfigError: It is none.

    """
    if where is None:
        return AlwaysTrue()
    if isinstance(where, BooleanExpression):
        return where
    try:
        return parse(where)
    except (ParseBaseException, ValueError, TypeError) as error:
        message = f"where={where!r} is no row filter: compare columns with values, join with and/or"
        raise ConfigError(message) from error


def arrow_filter(where: BooleanExpression, schema: Schema) -> pc.Expression | None:
    """Return the same filter for Arrow; None when everything passes.

    Raises:
        ConfigError: It names a column that is not there, or compares with a value of another type.

    """
    if isinstance(where, AlwaysTrue):
        return None
    try:
        bound = bind(schema, where, case_sensitive=True)
    except (ValueError, TypeError) as error:
        message = f"row filter does not fit the table: {error}"
        raise ConfigError(message) from error
    return expression_to_pyarrow(bound, schema)
