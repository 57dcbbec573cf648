"""What the Parquet writer writes, read back by three readers.

Goal: every Iceberg type, null and nesting, every partition transform, sort order and codec is read
back value by value as it was written; filters, which skip files by partition values and bounds,
find exactly the rows that match.
Method: rows of edge cases and seeded random values, written by `RollingWriter`, committed by
PyIceberg to a SQLite catalog, and read by PyIceberg, DuckDB and Polars (`parquet/readers.py` says
how independent each is).

PyIceberg's scan shows a null list or map with structs inside as empty, whoever wrote the file. What
it shows is compared with exactly that change to what was written; the files themselves are read
with Arrow beside it, and the other two readers have to see the nulls.
"""

import math
import uuid
from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    FixedType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from k2i_core.errors import IncompatibleSchemaError
from k2i_core.parquet import encodings
from k2i_core.parquet.encodings import EncodingMemory, EncodingPlan
from k2i_core.write_target import WriteLimits, WriteTarget
from tests.integration.parquet.edge_rows import (
    EPOCH,
    PRIMITIVES,
    SHOWN_EMPTY_BY_PYICEBERG,
    all_rows,
    all_types,
    exact,
    internal,
    to_batches,
)
from tests.integration.parquet.iceberg_tables import (
    open_catalog,
    storable_schema,
    write_table,
)
from tests.integration.parquet.readers import READERS, Filter, normal_rows

ROW_COUNT = 200

pytestmark = pytest.mark.filterwarnings(
    "ignore:Iceberg scan planning with the polars_iceberg plugin"
)


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    return open_catalog(tmp_path)


def batches_of(rows: list[dict[str, Any]], schema: Schema, size: int = 100) -> list[pa.RecordBatch]:
    return to_batches(rows, storable_schema(schema), size)


def local_path(location: str) -> str:
    return location.removeprefix("file://")


def shown_by(reader: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as the reader is known to show them."""
    if reader != "pyiceberg":
        return rows

    def shown(row: dict[str, Any]) -> dict[str, Any]:
        return {
            name: []
            if value is None and name in SHOWN_EMPTY_BY_PYICEBERG
            else shown(value)
            if name == "_kafka"
            else value
            for name, value in row.items()
        }

    return [shown(row) for row in rows]


@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "lz4", "brotli", "none"])
def test_every_type_and_null_is_read_as_written(catalog: SqlCatalog, codec: str, seed: int) -> None:
    schema = all_types()
    rows = all_rows(seed, ROW_COUNT)
    table, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema),
        codec=codec,
        codec_level=1 if codec in ("zstd", "gzip", "brotli") else None,
        limits=WriteLimits(row_group_rows_max=80),
    )
    assert files[0].footer.num_row_groups > 1

    for reader, read in READERS.items():
        seen = normal_rows(read(table), schema)
        assert seen == normal_rows(shown_by(reader, rows), schema), reader


@pytest.mark.parametrize("choice", range(4))
def test_every_encoding_of_every_column_is_read_as_written(
    catalog: SqlCatalog, choice: int, seed: int
) -> None:
    schema = all_types()
    rows = all_rows(seed, ROW_COUNT)

    def take_the_same_choice_everywhere(target: WriteTarget) -> EncodingMemory:
        chosen = {
            path: list(able)[min(choice, len(able) - 1)]
            for path, able in encodings._candidates(target).items()
        }
        return EncodingMemory(EncodingPlan(target.schema, chosen))

    table, (file,) = write_table(
        catalog,
        schema,
        batches_of(rows, schema),
        choose_encodings=take_the_same_choice_everywhere,
    )

    group = file.footer.row_group(0)
    used = {name for n in range(group.num_columns) for name in group.column(n).encodings}
    assert (
        used
        > {
            0: {"DELTA_BINARY_PACKED", "PLAIN"},
            1: {"RLE_DICTIONARY"},
            2: {"PLAIN", "DELTA_LENGTH_BYTE_ARRAY"},
            3: {"DELTA_BYTE_ARRAY"},
        }[choice]
    )
    for reader, read in READERS.items():
        seen = normal_rows(read(table), schema)
        assert seen == normal_rows(shown_by(reader, rows), schema), reader


def test_nulls_that_pyiceberg_shows_as_empty_are_null_in_the_file(
    catalog: SqlCatalog, seed: int
) -> None:
    schema = all_types()
    rows = all_rows(seed, 50)

    _, (file,) = write_table(catalog, schema, batches_of(rows, schema))

    read = pq.read_table(local_path(file.path)).to_pylist()
    for written, in_file in zip(rows, read, strict=True):
        assert in_file["items"] == written["items"]
        assert in_file["stock"] == written["stock"]
        assert in_file["_kafka"]["headers"] == written["_kafka"]["headers"]
    assert any(row["items"] is None for row in read)
    assert any(row["items"] == [] for row in read)


LOWEST = (-(2**31), -(2**63), exact(-(10**9) + 1, 2), exact(-(10**38) + 1, 10))

PARTITIONED: list[tuple[str, Transform[Any, Any]]] = [
    *((name, IdentityTransform()) for name in PRIMITIVES if name not in ("single", "double")),
    *(
        (name, BucketTransform(5))
        for name in PRIMITIVES
        if name not in ("single", "double", "flag")
    ),
    ("small", TruncateTransform(100)),
    ("big", TruncateTransform(10**9)),
    ("price", TruncateTransform(50)),
    ("huge", TruncateTransform(10**9)),
    ("text", TruncateTransform(1)),
    ("blob", TruncateTransform(1)),
    *(
        (name, transform)
        for name in ("day", "local", "moment")
        for transform in (YearTransform(), MonthTransform(), DayTransform())
    ),
    ("local", HourTransform()),
    ("moment", HourTransform()),
    ("small", VoidTransform()),
    ("moment", VoidTransform()),
]


READER_DEFECTS = {
    ("pyiceberg", "key", "identity"): "finds no row, or fails to compare UUID and bytes",
    ("duckdb", "key", "bucket[5]"): "finds no row by an equal uuid",
    ("duckdb", "price", "truncate[50]"): "fails on a negative decimal",
    ("duckdb", "huge", "truncate[1000000000]"): "misses rows with large decimals",
}
"""What a reader was seen to do with a filter although the partitions are those of the transform's
definition and another reader finds every row. Without a filter it reads every row."""


def is_misread(reader: str, transform: Transform[Any, Any], wanted: Filter) -> bool:
    """Tell whether a reader is known to miss rows: DuckDB by months and days before 1970."""
    return (
        reader == "duckdb"
        and isinstance(transform, MonthTransform | DayTransform)
        and isinstance(wanted.literal, datetime)
        and internal(wanted.literal) < 0
    )


def narrow_schema(*names: str) -> Schema:
    """The named columns of the full schema, beside the id and where the row came from."""
    wanted = {"id", "_kafka", *names}
    return Schema(*(field for field in all_types().fields if field.name in wanted))


def narrowed(rows: list[dict[str, Any]], schema: Schema) -> list[dict[str, Any]]:
    return [{field.name: row[field.name] for field in schema.fields} for row in rows]


def partition_spec(schema: Schema, *fields: tuple[str, Transform[Any, Any]]) -> PartitionSpec:
    return PartitionSpec(
        *(
            PartitionField(schema.find_field(name).field_id, 1000 + number, transform, f"p{number}")
            for number, (name, transform) in enumerate(fields)
        )
    )


def filters_of(column: str, rows: list[dict[str, Any]]) -> list[Filter]:
    values = sorted({row[column] for row in rows if row[column] is not None})
    lowest, middle, highest = values[0], values[len(values) // 2], values[-1]
    return [
        Filter(column, "=", middle),
        Filter(column, "=", highest),
        Filter(column, "<", middle),
        Filter(column, "<=", lowest),
        Filter(column, ">=", middle),
        Filter(column, "is null"),
    ]


def assert_filters_find_every_row(
    reader: str,
    table: Table,
    column: str,
    rows: list[dict[str, Any]],
    transform: Transform[Any, Any] | None = None,
) -> None:
    for wanted in filters_of(column, rows):
        if transform is not None and is_misread(reader, transform, wanted):
            continue
        matching = [row["id"] for row in rows if wanted.accepts(row)]
        found = sorted(row["id"] for row in READERS[reader](table, wanted))
        assert found == matching, f"{reader} {wanted}"


@pytest.mark.parametrize(("column", "transform"), PARTITIONED, ids=str)
def test_every_transform_partitions_and_filters_find_every_row(
    catalog: SqlCatalog, column: str, transform: Transform[Any, Any], seed: int
) -> None:
    schema = narrow_schema(column)
    rows = narrowed(all_rows(seed, 25), schema)
    rows = [{**row, column: within_truncation(row[column], transform)} for row in rows]

    table, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema, 10),
        partition_spec=partition_spec(schema, (column, transform)),
    )

    by_value = transform.transform(schema.find_type(column))
    expected = Counter(repr(by_value(internal(row[column]))) for row in rows)
    assert Counter({repr(f.iceberg_partition[0]): f.row_count for f in files}) == expected
    for reader, read in READERS.items():
        seen = normal_rows(read(table), schema)
        assert seen == normal_rows(shown_by(reader, rows), schema), reader
        if (reader, column, str(transform)) not in READER_DEFECTS:
            assert_filters_find_every_row(reader, table, column, rows, transform)


@pytest.mark.parametrize(
    "transform", [YearTransform(), MonthTransform(), DayTransform(), HourTransform()], ids=str
)
def test_moments_before_1970_are_in_the_partitions_of_the_calendar(
    catalog: SqlCatalog, transform: Transform[Any, Any]
) -> None:
    schema = narrow_schema("moment")
    moments = [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1969, 3, 19, 18, 8, 2, tzinfo=UTC),
        datetime(1969, 3, 1, tzinfo=UTC),
        datetime(1955, 7, 7, 7, 7, 7, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]
    rows = narrowed(all_rows(1, len(moments)), schema)
    rows = [{**row, "moment": moment} for row, moment in zip(rows, moments, strict=True)]

    table, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema),
        partition_spec=partition_spec(schema, ("moment", transform)),
    )

    # By the calendar and by no library's transform, because readers disagree here.
    days = {moment: moment.toordinal() - EPOCH.toordinal() for moment in moments}
    expected = {
        "year": lambda moment: moment.year - 1970,
        "month": lambda moment: (moment.year - 1970) * 12 + moment.month - 1,
        "day": lambda moment: days[moment],
        "hour": lambda moment: days[moment] * 24 + moment.hour,
    }[str(transform)]
    assert Counter({f.iceberg_partition[0]: f.row_count for f in files}) == Counter(
        expected(moment) for moment in moments
    )
    for reader in ("pyiceberg", "polars"):
        assert_filters_find_every_row(reader, table, "moment", rows)


def within_truncation(value: Any, transform: Transform[Any, Any]) -> Any:
    """Return None for a number whose truncation is too low for its type."""
    if isinstance(transform, TruncateTransform) and value in LOWEST:
        return None
    return value


@pytest.mark.parametrize(
    ("type_", "value", "hash_value"),
    [
        (IntegerType(), 34, 2017239379),
        (LongType(), 34, 2017239379),
        (DecimalType(9, 2), Decimal("14.20"), -500754589),
        (DateType(), date(2017, 11, 16), -653330422),
        (TimeType(), time(22, 31, 8), -662762989),
        (TimestampType(), datetime(2017, 11, 16, 22, 31, 8), -2047944441),  # noqa: DTZ001
        (TimestamptzType(), datetime(2017, 11, 16, 22, 31, 8, tzinfo=UTC), -2047944441),
        (StringType(), "iceberg", 1210000089),
        (UUIDType(), uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7"), 1488055340),
        (FixedType(4), b"\x00\x01\x02\x03", -188683207),
        (BinaryType(), b"\x00\x01\x02\x03", -188683207),
    ],
    ids=lambda value: str(value)[:20],
)
def test_buckets_are_those_of_the_specification(
    catalog: SqlCatalog, type_: IcebergType, value: Any, hash_value: int
) -> None:
    """Source: Iceberg table specification, 32-bit hash requirements."""
    schema = Schema(NestedField(1, "value", type_, required=False))

    _, (file,) = write_table(
        catalog,
        schema,
        batches_of([{"value": value}], schema),
        partition_spec=partition_spec(schema, ("value", BucketTransform(1_000))),
    )

    assert file.iceberg_partition == ((hash_value & 0x7FFF_FFFF) % 1_000,)


def test_a_decimal_whose_truncation_cannot_be_stored_stops_the_table(catalog: SqlCatalog) -> None:
    schema = narrow_schema("price")
    (row,) = narrowed(all_rows(1, 1), schema)

    with pytest.raises(IncompatibleSchemaError, match="column=price"):
        write_table(
            catalog,
            schema,
            batches_of([{**row, "price": exact(-(10**9) + 1, 2)}], schema),
            partition_spec=partition_spec(schema, ("price", TruncateTransform(50))),
        )


def test_several_partition_fields_and_a_sort_order_work_together(
    catalog: SqlCatalog, seed: int
) -> None:
    schema = narrow_schema("word", "moment", "big", "double")
    rows = narrowed(all_rows(seed, 60), schema)
    order = SortOrder(
        SortField(
            source_id=schema.find_field("double").field_id,
            direction=SortDirection.DESC,
            null_order=NullOrder.NULLS_LAST,
            transform=IdentityTransform(),
        ),
        SortField(source_id=1, transform=IdentityTransform()),
    )

    table, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema, 25),
        partition_spec=partition_spec(
            schema,
            ("word", IdentityTransform()),
            ("big", VoidTransform()),
            ("moment", YearTransform()),
        ),
        sort_order=order,
    )

    by_id = {row["id"]: row for row in rows}
    for file in files:
        in_file = [by_id[i] for i in pq.read_table(local_path(file.path))["id"].to_pylist()]
        doubles = [row["double"] for row in in_file]
        values = [value for value in doubles if value is not None]
        values.sort(key=lambda value: (math.isnan(value), value), reverse=True)
        assert doubles == values + [None] * (len(doubles) - len(values))
        years = {row["moment"] and row["moment"].year - 1970 for row in in_file}
        assert {(row["word"], None, year) for row in in_file for year in years} == {
            file.iceberg_partition
        }
    planned = [task.file for task in table.scan().plan_files()]
    assert {f.sort_order_id for f in planned} == {table.sort_order().order_id} != {None}
    assert {f.spec_id for f in planned} == {table.spec().spec_id}
    for reader, read in READERS.items():
        assert normal_rows(read(table), schema) == normal_rows(shown_by(reader, rows), schema)
        for column in ("word", "moment", "big"):
            assert_filters_find_every_row(reader, table, column, rows)


@pytest.mark.parametrize("column", sorted({*PRIMITIVES} - {"single", "double"}))
def test_bounds_skip_files_but_never_a_matching_row(
    catalog: SqlCatalog, column: str, seed: int
) -> None:
    schema = narrow_schema(column)
    rows = narrowed(all_rows(seed, 300), schema)
    rows.sort(key=lambda row: (row[column] is None, row[column]))

    table, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema, 30),
        target_file_bytes=2_000,
        limits=WriteLimits(row_group_rows_max=30),
    )

    assert len(files) > 2
    ordered = sorted(rows, key=lambda row: row["id"])
    for reader in READERS:
        assert_filters_find_every_row(reader, table, column, ordered)
    if column != "flag":
        highest = Filter(column, "=", [row[column] for row in rows if row[column] is not None][-1])
        planned = list(table.scan(row_filter=highest.for_pyiceberg()).plan_files())
        assert 0 < len(planned) < len(files)


def test_bounds_of_the_kafka_offset_are_exact(catalog: SqlCatalog, seed: int) -> None:
    schema = narrow_schema("word")
    rows = narrowed(all_rows(seed, 400), schema)

    _, files = write_table(
        catalog,
        schema,
        batches_of(rows, schema, 50),
        target_file_bytes=2_000,
        limits=WriteLimits(row_group_rows_max=50),
    )

    assert len(files) > 2
    first_row = 0
    for file in files:
        offsets = [row["_kafka"]["offset"] for row in rows[first_row : first_row + file.row_count]]
        first_row += file.row_count
        groups = [file.footer.row_group(n) for n in range(file.footer.num_row_groups)]
        columns = [group.column(n) for group in groups for n in range(group.num_columns)]
        bounds = [c.statistics for c in columns if c.path_in_schema == "_kafka.offset"]
        assert min(b.min for b in bounds) == min(offsets)
        assert max(b.max for b in bounds) == max(offsets)
    assert first_row == len(rows)
