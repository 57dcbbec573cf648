"""The union read: committed rows and hot rows of one table, each exactly once.

    pages ─► one load of the table ─► seam by offset ─► batches of both sides

A view is one moment: a snapshot, and the hot rows that follow it. The load of the table is kept
between views as long as the pages still reach back to it, because asking a catalog takes longer
than everything else together. When a page has moved on, or a partition has no page any more, the
table is loaded again; when that does not help either, that partition is shown as the table has it
and is reported as uncovered.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression, EqualTo

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, IncompatibleSchemaError, UnavailableError
from k2i_core.hot.reader import EvictedError, HotPage, HotReader
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.ledger import Owner
from k2i_core.offsets import TopicPartition
from k2i_core.parquet.conform import Conformer
from k2i_core.query.cold import ColdTable, arrow_filter, load_cold, parse_filter
from k2i_core.query.hot_rows import hot_batches
from k2i_core.query.seam import Seam, find_seam
from k2i_core.records import ITEM_COLUMN, KAFKA_COLUMN, has_items
from k2i_core.schema.identity import in_names_of, relabelled

ATTEMPTS_MAX = 4
"""Looks at pages and table until they fit. More waits longer in the rare case; fewer shows a
partition without its hot rows while its worker commits again and again."""

COLD_SECONDS_MAX = 1.0
"""How old the load of the table may be although the pages still reach back to it. Larger shows a
compaction, a rewind or somebody else's rows later; smaller asks the catalog more often."""

COLD_ATTEMPTS_MAX = 3
"""How often a scan begins anew when a file of its snapshot was given up before the first row."""

KEY_COLUMN = f"{KAFKA_COLUMN}.key"


@dataclass(frozen=True, slots=True)
class UnionView:
    """One moment of a table; what it shows never changes.

    Attributes:
        cold: The load of the table.
        hot: Rows that the load does not hold, as the worker decoded them.
        frontier: Next offset per Kafka partition: everything below is shown exactly once.
        followed: The worker whose hot rows are shown, per Kafka partition. From view to view a
            frontier moves back only when this changes: a successor begins at the checkpoint.
        uncovered: Kafka partitions of which only committed rows are shown: their worker does not
            run, or runs on another host.
    """

    cold: ColdTable
    hot: tuple[pa.RecordBatch, ...]
    frontier: Mapping[TopicPartition, int]
    followed: Mapping[TopicPartition, Owner]
    uncovered: frozenset[TopicPartition]

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, `_kafka` last."""
        return self.cold.schema

    @property
    def hot_row_count(self) -> int:
        """Rows that are not in the snapshot."""
        return sum(batch.num_rows for batch in self.hot)

    def columns(self, names: Sequence[str] | None) -> pa.Schema:
        """Return these columns of the schema, in this order; all of them for None.

        Raises:
            ConfigError: One is not there.

        """
        schema = self.schema
        if names is None:
            return schema
        missing = [name for name in names if name not in schema.names]
        if missing:
            message = f"no columns={missing}; there are {', '.join(schema.names)}"
            raise ConfigError(message)
        return pa.schema([schema.field(name) for name in names])

    def hot_table(
        self,
        columns: Sequence[str] | None = None,
        where: str | BooleanExpression | None = None,
    ) -> pa.Table:
        """Return the hot rows in the table's types; no copy where the types are the same."""
        return self._hot(self.columns(columns), parse_filter(where))

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | BooleanExpression | None = None,
    ) -> pa.RecordBatchReader:
        """Stream the rows of both sides: first the table's, then the hot ones.

        Args:
            columns: Top-level columns, in this order; None for all.
            where: A filter on any column, inner fields with dots; files and hot rows that do not
                match are left out.

        Raises:
            ConfigError: A column is not there, or the filter cannot be understood.

        """
        schema = self.columns(columns)
        expression = parse_filter(where)
        arrow_filter(expression, self.cold.table.schema())  # so that a wrong one is told here
        cold = _conformed(schema, self.cold.batches(_names(columns), expression))
        hot = self._hot(schema, expression).to_batches()
        return pa.RecordBatchReader.from_batches(schema, chain(cold, hot))

    def _hot(self, schema: pa.Schema, where: BooleanExpression) -> pa.Table:
        chosen = arrow_filter(where, self.cold.table.schema())
        if chosen is None:
            return _as_table(schema, self.hot)
        # A filter may need columns that the result has not, so all are made first.
        return _as_table(self.schema, self.hot).filter(chosen).select(schema.names)


def _names(columns: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if columns is None else tuple(columns)


def _in_names_of_the_table(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return hot rows from before a rename under the names of now: field ids tell."""
    written = batch.schema
    renamed = in_names_of(written, schema, by_identity=True)
    return batch if renamed is written else relabelled(batch, renamed)


def _conformed(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    conformer = Conformer(schema)
    for batch in batches:
        known = [name for name in batch.schema.names if name in schema.names]
        yield conformer.conform(batch.select(known))


def _as_table(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the batches in the table's types: at once for all of one shape, as nearly all are."""
    tables: list[pa.Table] = []
    for _, alike in groupby(batches, key=lambda batch: batch.schema):
        rows = pa.Table.from_batches(list(alike))
        names = rows.schema.names
        if all(f.name in names and rows.schema.field(f.name).type == f.type for f in schema):
            columns = [rows.column(field.name) for field in schema]
            tables.append(pa.Table.from_arrays(columns, schema=schema))
        else:
            reshaped = _conformed(schema, iter(rows.to_batches()))
            tables.append(pa.Table.from_batches(list(reshaped), schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()


class UnionTable:
    """One table, read again and again; thread-safe, reads take turns."""

    def __init__(self, gateway: PyIcebergGateway, roots: Sequence[Path], clock: Clock) -> None:
        """Bind where to look; nothing is loaded yet.

        Args:
            gateway: Of the target table.
            roots: Directories of hot rows; none to read the table alone.
            clock: For the age of a load.

        """
        self._gateway = gateway
        self._roots = roots
        self._clock = clock
        self._lock = threading.Lock()
        self._cold: ColdTable | None = None
        self._hot: tuple[str, HotReader] | None = None
        self._uncovered: frozenset[TopicPartition] = frozenset()

    @property
    def identifier(self) -> str:
        """Namespace and name, joined by dots."""
        return self._gateway.identifier

    def view(self, *, newest: bool = False) -> UnionView:
        """Look at both sides now.

        Args:
            newest: Load the table in any case.

        Raises:
            ConfigError: The table does not exist.
            CorruptionError: Its ledger cannot be believed.
            UnavailableError: The catalog did not answer.

        """
        with self._lock:
            cold = self._recent_cold(newest=newest)
            for _ in range(ATTEMPTS_MAX):
                pages = self._pages(cold)
                seam = find_seam(cold.entry, pages)
                # A page that is gone may be gone because all of it is committed.
                if seam.is_stale or not seam.uncovered <= self._uncovered:
                    cold = self._load()
                    seam = find_seam(cold.entry, pages)
                self._uncovered = seam.uncovered
                if not seam.is_stale:
                    view = self._view_of(cold, seam)
                    if view is not None:
                        return view
            return self._covered_as_far_as_possible()

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | BooleanExpression | None = None,
    ) -> pa.RecordBatchReader:
        """Stream the rows of both sides as of now; see `UnionView.scan`.

        Raises:
            ConfigError: The table does not exist, or columns or filter do not fit it.
            UnavailableError: Catalog or store did not answer.

        """
        attempt = 0
        while True:
            attempt += 1
            try:
                reader = self.view(newest=attempt > 1).scan(columns, where)
                first = next(reader, None)
            except (UnavailableError, IncompatibleSchemaError):
                # A file of an old snapshot was given up meanwhile, or a column was widened.
                if attempt == COLD_ATTEMPTS_MAX:
                    raise
            else:
                if first is None:
                    return reader
                return pa.RecordBatchReader.from_batches(reader.schema, chain([first], reader))

    def view_with_hot_table(self) -> tuple[UnionView, pa.Table]:
        """Return a view with its hot rows in the table's types.

        Raises:
            As `view`.

        """
        view = self.view()
        try:
            return view, view.hot_table()
        except IncompatibleSchemaError:
            # A column was widened after the table was loaded.
            view = self.view(newest=True)
            return view, view.hot_table()

    def lookup(self, key: str | bytes | int, column: str = KEY_COLUMN) -> pa.Table:
        """Return the newest row with this key, or no row; hot rows first.

        Where a record is several rows, those of the newest record that have this key.

        Newest is the highest offset of a Kafka partition; records with one key are in one
        partition unless the producer decides otherwise.

        Args:
            key: What the column holds; text is taken as UTF-8 where it holds bytes.
            column: Any column, inner fields with dots.

        Raises:
            ConfigError: There is no such column.

        """
        if isinstance(key, str) and column == KEY_COLUMN:
            key = key.encode()
        try:
            return self._lookup(self.view(), key, column)
        except (UnavailableError, IncompatibleSchemaError):
            # As in a scan: a file given up meanwhile, or a column widened.
            return self._lookup(self.view(newest=True), key, column)

    def _lookup(self, view: UnionView, key: str | bytes | int, column: str) -> pa.Table:
        try:
            found = _newest_hot(view, column, key)
        except pa.ArrowException:
            found = None  # Safe because the scan says what is wrong with column or key.
        if found is not None:
            return found
        # A value that is no text cannot be compared with bytes: PyIceberg says so.
        equals = EqualTo(column, key)  # pyright: ignore[reportCallIssue] - a pydantic model's own __init__
        return _newest(view.scan(where=equals).read_all())

    def _recent_cold(self, *, newest: bool) -> ColdTable:
        cold = self._cold
        if cold is None or newest:
            return self._load()
        age = self._clock.boot_seconds() - cold.loaded_boot_seconds
        return self._load() if age > COLD_SECONDS_MAX else cold

    def _load(self) -> ColdTable:
        self._cold = load_cold(self._gateway, self._clock.boot_seconds())
        return self._cold

    def _pages(self, cold: ColdTable) -> list[HotPage]:
        return self._reader(cold).pages()

    def _reader(self, cold: ColdTable) -> HotReader:
        table_uuid = str(cold.table.metadata.table_uuid)
        if self._hot is None or self._hot[0] != table_uuid:
            self._hot = table_uuid, HotReader(self._roots, table_uuid)
        return self._hot[1]

    def _view_of(self, cold: ColdTable, seam: Seam) -> UnionView | None:
        """Return the view; None when it has moved on meanwhile."""
        try:
            hot = tuple(hot_batches(self._reader(cold), seam.chosen))
        except EvictedError:
            return None
        if cold.was_renamed:
            hot = tuple(_in_names_of_the_table(batch, cold.schema) for batch in hot)
        known = set(cold.schema.names)
        if any(not known.issuperset(batch.schema.names) for batch in hot):
            # The table was given columns since: a newer load knows them.
            self._load()
            return None
        return UnionView(cold, hot, seam.frontier, seam.followed, seam.uncovered)

    def _covered_as_far_as_possible(self) -> UnionView:
        """Show what fits; the rest as the table has it."""
        cold = self._load()
        seam = find_seam(cold.entry, self._pages(cold))
        view = self._view_of(cold, seam)
        if view is not None:
            return view
        entry = cold.entry
        next_offsets = dict(entry.checkpoint.next_offsets) if entry else {}
        return UnionView(cold, (), next_offsets, {}, frozenset(next_offsets))


def _newest_hot(view: UnionView, column: str, key: str | bytes | int) -> pa.Table | None:
    """Return the newest hot row that has the key; None when none has."""
    top, *inner = column.split(".")
    places = [(batch, batch.schema.get_field_index(top)) for batch in view.hot]
    batches = [batch for batch, place in places if place >= 0]
    if not batches:
        return None
    columns = [batch.column(place) for batch, place in places if place >= 0]
    values = pa.chunked_array([_inner(column, inner) for column in columns])
    found = pc.indices_nonzero(pc.equal(values, pa.scalar(key, values.type))).to_numpy()
    if not len(found):
        return None
    ends = np.cumsum([batch.num_rows for batch in batches])
    matching: list[pa.RecordBatch] = []
    for number in np.unique(np.searchsorted(ends, found, side="right")):
        batch = batches[number]
        start = int(ends[number]) - batch.num_rows
        mine = found[(found >= start) & (found < ends[number])] - start
        # A slice copies nothing, and one match is the usual case.
        one = len(mine) == 1
        matching.append(batch.slice(int(mine[0]), 1) if one else batch.take(pa.array(mine)))
    return _newest(_as_table(view.schema, matching))


def _inner(column: "pa.Array[Any]", names: Sequence[str]) -> "pa.Array[Any]":
    return pc.struct_field(column, list(names)) if names else column


def _newest(rows: pa.Table) -> pa.Table:
    """Return the row with the highest timestamp, and of those the highest offset.

    Where a record is several rows, those of this record, in their order.
    """
    if rows.num_rows <= 1:
        return rows
    origin = rows.column(KAFKA_COLUMN).combine_chunks()
    order = pa.table(
        {
            "timestamp": pc.struct_field(origin, "timestamp"),
            "offset": pc.struct_field(origin, "offset"),
            "row": pa.array(range(rows.num_rows), pa.int64()),
        }
    )
    newest_first = order.sort_by([("timestamp", "descending"), ("offset", "descending")])
    newest = rows.take(newest_first.column("row").slice(0, 1))
    return _of_same_record(rows, newest) if has_items(rows.schema) else newest


def _of_same_record(rows: pa.Table, one: pa.Table) -> pa.Table:
    """Return the rows of the record that one of them is of."""
    origin, of_one = (t.column(KAFKA_COLUMN).combine_chunks() for t in (rows, one))
    for name in ("topic", "partition", "offset"):
        is_same = pc.equal(pc.struct_field(origin, name), pc.struct_field(of_one, name)[0])
        rows, origin = rows.filter(is_same), origin.filter(is_same)
    numbers = pc.struct_field(rows.column(ITEM_COLUMN).combine_chunks(), "number")
    return rows.take(pc.sort_indices(numbers))
