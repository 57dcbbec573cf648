"""Making tables fit the rows: create, adopt what exists, evolve.

A table is only ever changed so that more rows fit (`schema.diff` says how, the pipeline's policy
how far): columns are added, widened, made optional, renamed. Everything else about a table that
exists is its owner's: partition spec, sort order and properties are taken as they are, and
differences from the pipeline file are reported, not repaired.

Safe under races: creation lets the catalog decide who was first and adopts the winner's table;
every schema change asserts the schema it was made from and starts over when another one landed.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.table.update import AssertCurrentSchemaId, AssertTableUUID, SetPropertiesUpdate
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.transforms import IdentityTransform, Transform, parse_transform
from pyiceberg.types import NestedField

from k2i_core.errors import (
    CommitStateUnknownError,
    ConfigError,
    ConflictError,
    ErrorKind,
    IncompatibleSchemaError,
    UnavailableError,
)
from k2i_core.iceberg.column_names import current_names, names_properties, table_columns
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.types import holds_items, iceberg_schema, iceberg_type
from k2i_core.records import DEAD_LETTER_SCHEMA, KAFKA_COLUMN, KAFKA_TYPE, has_items
from k2i_core.schema.changes import (
    AddColumn,
    Change,
    Identify,
    MakeOptional,
    Rename,
    SchemaDiff,
    Widen,
    apply,
    diff,
)
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.identity import is_identified

DEFAULT_PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    # Every commit writes a metadata file; without these two they are never deleted.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
}

FORMAT_VERSION = 2

RACE_COUNT_MAX = 10
"""How often a lost race is run again. Each one lost means that another writer got somewhere."""

_NAME_SUFFIXES = {
    "identity": "",
    "bucket": "_bucket_{}",
    "truncate": "_trunc_{}",
    "year": "_year",
    "month": "_month",
    "day": "_day",
    "hour": "_hour",
    "void": "_null",
}
"""Transform → how the partition field's name ends."""


class Transformed(NamedTuple):
    """One entry of `partition_by`, such as `("bucket", "customer_id", 16)`."""

    transform: str
    column: str
    argument: int | None = None


class SortedBy(NamedTuple):
    """One entry of `sort_by`."""

    column: str
    descending: bool = False
    nulls_first: bool = True


@dataclass(frozen=True, slots=True)
class TableSettings:
    """What a new table is made of besides its columns.

    Attributes:
        location: Where its files go; None for the catalog's choice.
    """

    partition_by: Sequence[Transformed] = ()
    sort_by: Sequence[SortedBy] = ()
    properties: Mapping[str, str] | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class ReadyTable:
    """A table that takes the rows.

    Attributes:
        created: By this call; False when it was there.
        schema: Its columns in Arrow's types with field ids and identities, `_kafka` last.
        notes: Where it differs from the settings, for people.
    """

    table: Table
    created: bool
    schema: pa.Schema
    notes: tuple[str, ...] = ()


def create_or_adopt(
    catalog: Catalog,
    identifier: str,
    row_schema: pa.Schema,
    settings: TableSettings,
    evolution: SchemaEvolution,
) -> ReadyTable:
    """Make sure that the table exists and takes rows of `row_schema`.

    Args:
        catalog: Used by this thread only.
        identifier: Namespace and name, joined by dots.
        row_schema: The rows' columns; `_kafka` is added when it is not among them.
        settings: For a new table; compared with an existing one.
        evolution: How far an existing table may be changed.

    Raises:
        IncompatibleSchemaError: The existing table does not fit; the message says what, column by
            column.
        ConfigError: Settings that cannot be, or a table of another format version, or one that
            holds another number of rows of a record.
        UnavailableError: The catalog did not answer; call again.

    """
    wanted = with_kafka(row_schema)
    for _ in range(RACE_COUNT_MAX):
        if (table := load_if_exists(catalog, identifier)) is not None:
            _check_format(table, identifier)
            table, schema = _evolve(catalog, identifier, wanted, evolution)
            notes = _differences(table, schema, settings)
            return ReadyTable(table, False, schema, notes)  # noqa: FBT003
        try:
            table = _create(catalog, identifier, wanted, settings)
        except (ConflictError, CommitStateUnknownError):
            continue  # somebody created it, perhaps this very request: look again
        if not is_identified(list(wanted)):
            return ReadyTable(table, True, table_columns(table))  # noqa: FBT003
        # Once more, because what its columns are known by needs their field ids.
        table, schema = _evolve(catalog, identifier, wanted, evolution)
        return ReadyTable(table, True, schema)  # noqa: FBT003
    message = f"table={identifier} was created and dropped {RACE_COUNT_MAX} times meanwhile"
    raise UnavailableError(message)


def create_or_adopt_dead_letters(catalog: Catalog, identifier: str) -> ReadyTable:
    """Make sure that the dead-letter table exists: no partitions, no order, k2i's own columns."""
    return create_or_adopt(
        catalog,
        identifier,
        DEAD_LETTER_SCHEMA,
        TableSettings(),
        SchemaEvolution.ADD_COLUMNS,
    )


def evolve(
    catalog: Catalog, identifier: str, wanted: pa.Schema, evolution: SchemaEvolution
) -> pa.Schema:
    """Change the table so that rows of `wanted` fit.

    Args:
        catalog: Used by this thread only.
        identifier: Namespace and name, joined by dots.
        wanted: The rows' columns; `_kafka` is added when it is not among them.
        evolution: How far the table may be changed.

    Returns:
        The table's columns afterwards, in Arrow's types with field ids, `_kafka` last. Equal to
        the columns before when they took the rows already.

    Raises:
        IncompatibleSchemaError: Not without breaking rows or readers, or not allowed.
        UnavailableError: The catalog did not answer, or others change the schema all the time.

    """
    return _evolve(catalog, identifier, with_kafka(wanted), evolution)[1]


def with_kafka(row_schema: pa.Schema) -> pa.Schema:
    """Return the schema with `_kafka` as its last column."""
    if KAFKA_COLUMN in row_schema.names:
        return row_schema
    return row_schema.append(pa.field(KAFKA_COLUMN, KAFKA_TYPE))


def check_layout(row_schema: pa.Schema, settings: TableSettings) -> None:
    """Check that a new table of these columns could be partitioned and sorted as it is set.

    Raises:
        ConfigError: It could not.

    """
    schema = iceberg_schema(with_kafka(row_schema))
    _partition_spec(schema, settings.partition_by)
    _sort_order(schema, settings.sort_by)


def check_items(table: Table, *, explodes: bool) -> None:
    """Refuse to begin, or to end, making several rows of a record once a table has commits.

    Raises:
        ConfigError: The pipeline needs a table of its own, or its former steps.

    """
    is_exploded = holds_items(table.schema())
    if is_exploded == explodes or not table.metadata.snapshots:
        return
    name = ".".join(table.name())
    holds, makes, instead = (
        ("several rows of a record", "none of the transforms is explode", "put explode back")
        if is_exploded
        else ("one row of each record", "the transforms explode records", "take explode out")
    )
    message = (
        f"table={name} holds {holds}, and {makes}: let table.identifier name a new table, which is "
        f"filled from kafka.start on, or {instead}"
    )
    raise ConfigError(message)


def load_if_exists(catalog: Catalog, identifier: str) -> Table | None:
    """Load a table; None while there is none.

    Raises:
        UnavailableError: The catalog did not answer.

    """
    with translated(f"load table {identifier}"):
        try:
            return catalog.load_table(identifier)
        except NoSuchTableError:
            return None


def _create(catalog: Catalog, identifier: str, wanted: pa.Schema, settings: TableSettings) -> Table:
    schema = iceberg_schema(wanted)
    spec = _partition_spec(schema, settings.partition_by)
    order = _sort_order(schema, settings.sort_by)
    namespace = Catalog.namespace_from(identifier)
    if not namespace:
        message = f"table identifier {identifier!r} needs a namespace, as in sales.orders"
        raise ConfigError(message)
    with translated(f"create table {identifier}"):
        # Another worker may come between PyIceberg's look and its attempt.
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace_if_not_exists(namespace)
        return catalog.create_table(
            identifier,
            schema,
            location=settings.location,
            partition_spec=spec,
            sort_order=order,
            properties={**DEFAULT_PROPERTIES, **(settings.properties or {})},
        )


def _check_format(table: Table, identifier: str) -> None:
    version = table.metadata.format_version
    if version < FORMAT_VERSION:
        message = (
            f"table={identifier} has format-version={version}; upgrade it to {FORMAT_VERSION}, for "
            f"example with Spark: ALTER TABLE {identifier} SET TBLPROPERTIES "
            f"('format-version'='{FORMAT_VERSION}')"
        )
        raise ConfigError(message, kind=ErrorKind.FORMAT_VERSION)
    if version > FORMAT_VERSION:
        message = (
            f"table={identifier} has format-version={version}, which k2i cannot write yet; give "
            f"this pipeline a table with format-version={FORMAT_VERSION}"
        )
        raise ConfigError(message, kind=ErrorKind.FORMAT_VERSION)


def _evolve(
    catalog: Catalog, identifier: str, wanted: pa.Schema, evolution: SchemaEvolution
) -> tuple[Table, pa.Schema]:
    for _ in range(RACE_COUNT_MAX):
        with translated(f"load table {identifier}"):
            table = catalog.load_table(identifier)
        check_items(table, explodes=has_items(wanted))
        current = table_columns(table)
        needed = diff(
            current,
            wanted,
            table_is_empty=not table.metadata.snapshots,
            by_identity=evolution is SchemaEvolution.FULL,
        )
        if refusals := needed.refusals(evolution):
            message = (
                f"rows do not fit table={identifier}: {'; '.join(refusals)}; change the table, the "
                f"columns of the pipeline, or schema_evolution"
            )
            raise IncompatibleSchemaError(message)
        if needed.is_empty:
            return table, current
        try:
            with translated(f"change the schema of table {identifier}"):
                _apply(table, needed, apply(current, needed))
        except (ConflictError, CommitStateUnknownError):
            pass  # another change landed, or perhaps ours: compare again
    message = f"the schema of table={identifier} changed {RACE_COUNT_MAX} times meanwhile"
    raise UnavailableError(message)


def _apply(table: Table, needed: SchemaDiff, columns: pa.Schema) -> None:
    """Send all changes in one request that asserts the schema they were made from."""
    if all(isinstance(change, Identify) for change in needed.changes):
        metadata = table.metadata
        properties = names_properties(columns, table.schema())
        # Not by PyIceberg's transaction, which asserts no schema where none is changed: the names
        # of a rename that another worker commits meanwhile would be lost.
        asserted = (
            AssertTableUUID(uuid=metadata.table_uuid),
            AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        )
        table.catalog.commit_table(table, asserted, (SetPropertiesUpdate(updates=properties),))
        return
    names = {field.name for field in table.schema().fields}
    adds_required = any(isinstance(c, AddColumn) and c.required for c in needed.changes)
    with table.transaction() as transaction:
        with transaction.update_schema(allow_incompatible_changes=adds_required) as update:
            for change in needed.changes:
                _stage(update, change, names)
        properties = names_properties(columns, transaction.table_metadata.schema())
        if properties:
            transaction.set_properties(properties)


def _stage(update: UpdateSchema, change: Change, names: Collection[str]) -> None:
    match change:
        case AddColumn():
            kind = iceberg_type(change.type)
            update.add_column(change.path, kind, required=change.required)
            if len(change.path) == 1 and KAFKA_COLUMN in names:
                update.move_before(change.path, KAFKA_COLUMN)
        case Widen():
            update.update_column(change.path, field_type=iceberg_type(change.after))
        case MakeOptional():
            update.make_column_optional(change.path)
        case Rename():
            update.rename_column(change.path, change.name)
        case Identify():
            pass  # A property says it, not the schema.


def _differences(table: Table, columns: pa.Schema, settings: TableSettings) -> tuple[str, ...]:
    notes: list[str] = []
    schema = table.schema()
    entries = (*settings.partition_by, *settings.sort_by)
    names = iter(current_names(columns, [entry.column for entry in entries]))
    partitioned = [
        f"{f.transform}({schema.find_column_name(f.source_id)})" for f in table.spec().fields
    ]
    wanted = [f"{_text(entry)}({next(names)})" for entry in settings.partition_by]
    if wanted and wanted != partitioned:
        notes.append(
            f"the table's partitions stay: {', '.join(partitioned) or 'none'}, not partition_by: "
            f"{', '.join(wanted)}"
        )
    order = [
        (
            f"{schema.find_column_name(f.source_id)}",
            f.direction == SortDirection.DESC,
            f.null_order == NullOrder.NULLS_FIRST,
        )
        if isinstance(f.transform, IdentityTransform)
        else (str(f),)
        for f in table.sort_order().fields
    ]
    wanted_order = [(next(names), *entry[1:]) for entry in settings.sort_by]
    if settings.sort_by and order != wanted_order:
        notes.append(f"the table's sort order stays, not sort_by: {table.sort_order()}")
    if table.properties.get("write.metadata.delete-after-commit.enabled") != "true":
        notes.append(
            "old metadata files are never deleted: the table lacks the property "
            "write.metadata.delete-after-commit.enabled=true"
        )
    return tuple(notes)


def _partition_spec(schema: Schema, partition_by: Sequence[Transformed]) -> PartitionSpec:
    fields: list[PartitionField] = []
    for number, entry in enumerate(partition_by):
        source = _source(schema, "partition_by", entry.column)
        transform = _transform(entry, source)
        name = entry.column + _NAME_SUFFIXES[entry.transform].format(entry.argument)
        if any(name == field.name for field in fields):
            message = f"partition_by names {name!r} twice"
            raise ConfigError(message)
        fields.append(
            PartitionField(
                source_id=source.field_id,
                field_id=PARTITION_FIELD_ID_START + number,
                transform=transform,
                name=name,
            )
        )
    return PartitionSpec(*fields)


def _sort_order(schema: Schema, sort_by: Sequence[SortedBy]) -> SortOrder:
    fields: list[SortField] = []
    for entry in sort_by:
        source = _source(schema, "sort_by", entry.column)
        if not source.field_type.is_primitive:
            message = f"sort_by: rows cannot be ordered by {entry.column}, a {source.field_type}"
            raise ConfigError(message)
        fields.append(
            SortField(
                source_id=source.field_id,
                transform=IdentityTransform(),
                direction=SortDirection.DESC if entry.descending else SortDirection.ASC,
                null_order=NullOrder.NULLS_FIRST if entry.nulls_first else NullOrder.NULLS_LAST,
            )
        )
    return SortOrder(*fields)


def _source(schema: Schema, key: str, column: str) -> NestedField:
    if column not in schema.column_names:
        known = ", ".join(schema.column_names)
        message = f"{key} names column {column!r}, which the table does not have; it has {known}"
        raise ConfigError(message)
    return schema.find_field(column)


def _transform(entry: Transformed, source: NestedField) -> Transform[Any, Any]:
    if entry.transform not in _NAME_SUFFIXES:
        known = ", ".join(sorted(_NAME_SUFFIXES))
        message = f"partition_by names transform {entry.transform!r}; one of {known}"
        raise ConfigError(message)
    text = _text(entry)
    with translated(f"read partition_by {text} of {entry.column}"):
        transform = parse_transform(text)
    kind = source.field_type
    if not kind.is_primitive or not transform.can_transform(kind):
        message = f"partition_by: {text} cannot be applied to column {entry.column} of type {kind}"
        raise ConfigError(message)
    return transform


def _text(entry: Transformed) -> str:
    """Write a transform as Iceberg does."""
    return entry.transform if entry.argument is None else f"{entry.transform}[{entry.argument}]"
