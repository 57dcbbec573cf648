"""What an audit has to know of the files that are new: each thing is read once.

First the store is asked for sizes, then DuckDB for footers and columns of the files that are whole;
rows are read only from files whose footers can be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from struct import error as StructError  # noqa: N812 - it is a class

from pyiceberg.conversions import from_bytes
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
)

from k2i_core.audit.content_checks import Fingerprint
from k2i_core.audit.delta_read import file_sizes
from k2i_core.audit.row_audit import (
    APPENDED,
    AuditScope,
    PartitionCount,
    new_rows_condition,
    rows_sql,
    slice_count,
)
from k2i_core.audit.table_checks import FileColumn, TableColumn
from k2i_core.audit.table_delta import FileEntry, TableDelta
from k2i_core.errors import ConfigError
from k2i_core.iceberg.types import holds_items
from k2i_core.offsets import TopicPartition
from k2i_core.query.committed import QueryLimits
from k2i_core.query.data_files import ColumnOfFile, TableFiles
from k2i_core.query.duckdb_types import duckdb_type
from k2i_core.records import KAFKA_COLUMN

NAME_MAPPING_PROPERTY = "schema.name-mapping.default"

_INNER_NAMES = {"element": {"element", "item", "array"}, "key": {"key"}, "value": {"value"}}
"""How writers call what Iceberg calls the inner fields of lists and maps."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The table's fields, as checks see them.

    Attributes:
        known: Field id → field, of all schemas of the table.
        leaves: Field id → name, of the current leaves outside lists and maps, `_kafka` left out.
    """

    known: Mapping[int, TableColumn]
    leaves: Mapping[int, str]
    schema: Schema

    def is_above(self, field_id: int, lower: bytes, upper: bytes) -> bool:
        """Tell whether a lower bound is above its upper bound, or one of them is no value."""
        type_ = self.schema.find_type(field_id)
        assert isinstance(type_, PrimitiveType), "leaves are primitive"
        try:
            return bool(from_bytes(type_, lower) > from_bytes(type_, upper))
        except (ValueError, TypeError, StructError):
            return True


def columns_of(table: Table) -> Columns:
    """Return the table's fields."""
    names: dict[int, set[str]] = {}
    types: dict[int, set[str]] = {}
    for schema in table.schemas().values():
        for field_id in schema.field_ids:
            field = schema.find_field(field_id)
            names.setdefault(field_id, set()).update(_INNER_NAMES.get(field.name, {field.name}))
            if isinstance(field.field_type, PrimitiveType):
                types.setdefault(field_id, set()).add(duckdb_type(field.field_type))
    known = {
        i: TableColumn(i, frozenset(n), _readable(types[i]) if i in types else None)
        for i, n in names.items()
    }
    schema = table.schema()
    leaves = {
        field_id: schema.find_column_name(field_id) or str(field_id)
        for field in schema.fields
        if field.name != KAFKA_COLUMN
        for field_id in _leaves(field)
    }
    return Columns(known, leaves, schema)


def _readable(type_names: set[str]) -> frozenset[str]:
    # Writers may leave out that 16 bytes are a UUID.
    return frozenset(type_names | ({"BLOB"} if "UUID" in type_names else set[str]()))


def _leaves(field: NestedField) -> list[int]:
    type_: IcebergType = field.field_type
    if isinstance(type_, StructType):
        return [leaf for inner in type_.fields for leaf in _leaves(inner)]
    return [] if isinstance(type_, ListType | MapType) else [field.field_id]


class TableFacts:
    """The facts of one delta, read when they are first asked for; closed with `close`."""

    def __init__(
        self, table: Table, delta: TableDelta, scope: AuditScope, limits: QueryLimits
    ) -> None:
        """Bind one load of a table; nothing is read yet."""
        self._table = table
        self._delta = delta
        self._scope = scope
        self._limits = limits
        self.columns = columns_of(table)
        self._broken: dict[str, str] = {}

    @cached_property
    def sizes(self) -> Mapping[str, int | None]:
        """Path → bytes in the store, of the delta's files and of those that rewrites touched."""
        paths = dict.fromkeys(entry.path for entry in self._entries())
        return file_sizes(self._table.io, list(paths))

    @cached_property
    def present(self) -> tuple[FileEntry, ...]:
        """The new files that exist with the size that their manifest says."""
        return tuple(e for e in self._delta.live if self.sizes[e.path] == e.byte_count)

    @cached_property
    def _files(self) -> TableFiles:
        return self.open_files(through_iceberg=self._delta.has_delete_files)

    def open_files(self, *, through_iceberg: bool) -> TableFiles:
        """Open another connection to the delta's files."""
        paths = (entry.path for entry in self._entries())
        return TableFiles(self._table, paths, self._limits, through_iceberg=through_iceberg)

    @property
    def footers(self) -> Mapping[str, int | str]:
        """Path → rows by its footer, or why it cannot be read; of the files that are present."""
        return {**self._footers, **self._broken}

    @cached_property
    def _footers(self) -> Mapping[str, int | str]:
        return self._files.footers([entry.path for entry in self.present])

    @property
    def readable(self) -> tuple[FileEntry, ...]:
        """The new files that can be read, as far as is known."""
        footers = self.footers
        return tuple(e for e in self.present if not isinstance(footers[e.path], str))

    @property
    def is_intact(self) -> bool:
        """Tell whether all new files can be read."""
        return len(self.readable) == len(self._delta.live)

    @cached_property
    def file_columns(self) -> Sequence[ColumnOfFile]:
        """Every column of the readable files."""
        return self._files.columns([entry.path for entry in self.readable])

    @property
    def has_name_mapping(self) -> bool:
        """Tell whether the table finds columns by name in files without field ids."""
        return NAME_MAPPING_PROPERTY in self._table.properties

    def judged_columns(self) -> list[FileColumn]:
        """Return the columns of the readable files as their check takes them."""
        return [FileColumn(c.path, c.field_id, c.name, c.type_name) for c in self.file_columns]

    def partition_counts(self, required_columns: Sequence[str]) -> tuple[PartitionCount, ...]:
        """Count the new rows of each Kafka partition; broken files are left out, and known then.

        Raises:
            ConfigError: It took longer or needs more memory than it may.
            UnavailableError: The store did not answer.

        """
        try:
            return self._counted(required_columns)
        except ConfigError:
            if not self._find_broken([entry.path for entry in self.readable]):
                raise
            return self._counted(required_columns)

    def _counted(self, required_columns: Sequence[str]) -> tuple[PartitionCount, ...]:
        if not self._scope.windows or not self.readable:
            return ()
        source = f"({self._flagged_rows_sql()})"
        count = slice_count(sum(entry.row_count for entry in self.readable))
        found: dict[TopicPartition, PartitionCount] = {}
        for number in range(count):
            part = (number, count)
            sql = rows_sql(
                source,
                self._scope,
                required_columns,
                offsets_slice=part,
                holds_items=holds_items(self._table.schema()),
            )
            for topic, kafka_partition, *counts in self._row_files.fetch(sql):
                tp = TopicPartition(topic, kafka_partition)
                one = PartitionCount(tp, *counts)
                found[tp] = found[tp].plus(one) if tp in found else one
        return tuple(found.values())

    def _find_broken(self, paths: Sequence[str]) -> bool:
        """Look for files whose rows cannot be read, one by one; tell whether there are any."""
        broken = self._files.broken(paths)
        self._broken |= broken
        return bool(broken)

    def fingerprints(self) -> dict[str, dict[str, Fingerprint]]:
        """Identify the rows of the files that rewrites touched, as far as they can be read."""
        touched = {
            entry.path: entry
            for change in self._delta.rewrites
            for entry in (*change.added, *change.removed)
        }
        paths = [p for p, entry in touched.items() if self.sizes[p] == entry.byte_count]
        footers = self._files.footers(paths)
        paths = [path for path in paths if not isinstance(footers[path], str)]
        columns = self._files.columns(paths)
        unplaced = {c.path for c in columns if _needs_iceberg(c, self.columns.schema)}
        paths = [path for path in paths if path not in unplaced]
        try:
            rows = self._files.fingerprints(paths)
        except ConfigError:
            if not self._find_broken(paths):
                raise
            paths = [path for path in paths if path not in self._broken]
            rows = self._files.fingerprints(paths)
        prints: dict[str, dict[str, Fingerprint]] = {path: {} for path in paths}
        for path, topic, kafka_partition, *numbers in rows:
            where = "rows without _kafka" if topic is None else f"{topic}/{kafka_partition}"
            prints[path][where] = Fingerprint(*numbers)
        return prints

    def new_rows_sql(self) -> str:
        """Return the SELECT of the rows that came since the last audit."""
        files = self._row_files
        if self._delta.is_whole:
            return files.rows_sql([entry.path for entry in self.readable])
        rewritten = files.rows_sql(self._paths(self._delta.rewritten))
        carried_over = f"SELECT * FROM ({rewritten}) WHERE {new_rows_condition(self._scope)}"  # noqa: S608 - quoted
        return f"{files.rows_sql(self._paths(self._delta.appended))} UNION ALL {carried_over}"

    @cached_property
    def is_read_through_iceberg(self) -> bool:
        """Tell whether the files' rows need Iceberg's own reader to look right."""
        return self._delta.has_delete_files or any(
            _needs_iceberg(column, self.columns.schema) for column in self.file_columns
        )

    @cached_property
    def _row_files(self) -> TableFiles:
        if self.is_read_through_iceberg and not self._delta.has_delete_files:
            return self.open_files(through_iceberg=True)
        return self._files

    def _flagged_rows_sql(self) -> str:
        files = self._row_files
        appended, rewritten = self._delta.appended, self._delta.rewritten
        if self._delta.is_whole:
            appended, rewritten = self._delta.live, ()
        parts = [
            f"SELECT *, {is_appended} AS {APPENDED} FROM ({files.rows_sql(paths)})"  # noqa: S608 - quoted
            for is_appended, entries in ((True, appended), (False, rewritten))
            if (paths := self._paths(entries))
        ]
        return " UNION ALL ".join(parts)

    def _paths(self, entries: Sequence[FileEntry]) -> list[str]:
        readable = {entry.path for entry in self.readable}
        return [entry.path for entry in entries if entry.path in readable]

    def _entries(self) -> list[FileEntry]:
        touched = (e for c in self._delta.rewrites for e in (*c.added, *c.removed))
        return [*self._delta.live, *touched]

    def close(self) -> None:
        """Free the query engines; harmless to repeat."""
        for name in ("_files", "_row_files"):
            files = self.__dict__.get(name)
            if isinstance(files, TableFiles):
                files.close()


def _needs_iceberg(column: ColumnOfFile, schema: Schema) -> bool:
    """Tell whether DuckDB alone would not find a file's column in the table.

    Either it has no field id, or it is a field inside of a struct and called otherwise by now.
    """
    if column.field_id is None:
        return True
    if column.field_id not in schema.field_ids:
        return False
    name = schema.find_field(column.field_id).name
    is_inner = all(field.field_id != column.field_id for field in schema.fields)
    return is_inner and column.name not in _INNER_NAMES.get(name, {name})
