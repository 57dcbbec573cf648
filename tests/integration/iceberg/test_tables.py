"""Tables are made to fit the rows, or it is said why not.

Goal: a table that k2i did not make is either written correctly or left alone with a clear reason.
Method: real tables in SQLite catalogs with local files; races with real threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import DecimalType, IntegerType, ListType, LongType, NestedField, StringType

from k2i_core.errors import ConfigError, ErrorKind, IncompatibleSchemaError
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.tables import (
    SortedBy,
    TableSettings,
    Transformed,
    create_or_adopt,
    create_or_adopt_dead_letters,
    evolve,
    with_kafka,
)
from k2i_core.iceberg.types import FIELD_ID_KEY, arrow_schema
from k2i_core.records import DEAD_LETTER_SCHEMA, ITEM_COLUMN, ITEM_TYPE
from k2i_core.schema.evolution import SchemaEvolution

STRICT, ADD, FULL = SchemaEvolution.STRICT, SchemaEvolution.ADD_COLUMNS, SchemaEvolution.FULL
ORDERS = "sales.orders"
ROWS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
        pa.field(
            "customer", pa.struct([pa.field("id", pa.int32()), pa.field("name", pa.string())])
        ),
    ]
)
SETTINGS = TableSettings(
    partition_by=(Transformed("day", "created_at"), Transformed("bucket", "customer.id", 16)),
    sort_by=(SortedBy("created_at"), SortedBy("id", descending=True, nulls_first=False)),
    properties={"write.target-file-size-bytes": "1000"},
)


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[], Catalog]:
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": str(tmp_path / "warehouse"),
    }
    return lambda: open_catalog("k2i", properties)


@pytest.fixture
def catalog(connect: Callable[[], Catalog]) -> Catalog:
    return connect()


def foreign_table(catalog: Catalog, *fields: NestedField, **properties: str) -> Table:
    catalog.create_namespace_if_not_exists("sales")
    return catalog.create_table(ORDERS, Schema(*fields), properties=properties)


def with_column(schema: pa.Schema, name: str, arrow_type: pa.DataType) -> pa.Schema:
    return schema.append(pa.field(name, arrow_type))


def test_a_new_table_is_what_the_settings_say(catalog: Catalog) -> None:
    ready = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)

    table = catalog.load_table(ORDERS)
    assert ready.created
    assert table.metadata.format_version == 2
    assert ready.schema.equals(with_kafka(ROWS))
    assert all(FIELD_ID_KEY in (field.metadata or {}) for field in ready.schema)
    assert [(f.name, str(f.transform)) for f in table.spec().fields] == [
        ("created_at_day", "day"),
        ("customer.id_bucket_16", "bucket[16]"),
    ]
    assert table.spec().fields[1].source_id == table.schema().find_field("customer.id").field_id
    assert [str(f.direction) for f in table.sort_order().fields] == ["ASC", "DESC"]
    assert table.properties["write.metadata.delete-after-commit.enabled"] == "true"
    assert table.properties["write.metadata.previous-versions-max"] == "10"
    assert table.properties["write.parquet.compression-codec"] == "zstd"
    assert table.properties["write.target-file-size-bytes"] == "1000"


def test_what_proof_needs_is_required_inside_an_optional_kafka_column(catalog: Catalog) -> None:
    table = create_or_adopt(catalog, ORDERS, ROWS, TableSettings(), STRICT).table

    schema = table.schema()
    assert schema.fields[-1].name == "_kafka"
    assert not schema.find_field("_kafka").required
    for name in ("topic", "partition", "offset"):
        assert schema.find_field(f"_kafka.{name}").required
    assert not schema.find_field("_kafka.timestamp").required


def test_a_second_start_adopts_the_table_without_changing_it(catalog: Catalog) -> None:
    first = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)

    again = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)

    assert not again.created
    assert again.notes == ()
    assert again.schema == first.schema
    assert again.table.metadata_location == first.table.metadata_location


def test_workers_that_start_together_make_one_table(connect: Callable[[], Catalog]) -> None:
    barrier = Barrier(4)

    def start(_: int) -> tuple[bool, str]:
        catalog = connect()
        barrier.wait()
        ready = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)
        return ready.created, str(ready.table.metadata.table_uuid)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(start, range(4)))

    assert sum(created for created, _ in outcomes) == 1
    assert len({uuid for _, uuid in outcomes}) == 1


def test_workers_that_evolve_together_all_get_their_column(
    catalog: Catalog, connect: Callable[[], Catalog]
) -> None:
    create_or_adopt(catalog, ORDERS, ROWS, TableSettings(), STRICT)
    barrier = Barrier(3)

    def add(number: int) -> pa.Schema:
        own = connect()
        barrier.wait()
        return evolve(own, ORDERS, with_column(ROWS, f"c{number}", pa.string()), ADD)

    with ThreadPoolExecutor(3) as pool:
        schemas = list(pool.map(add, range(3)))

    assert all(f"c{number}" in schema.names for number, schema in enumerate(schemas))
    names = arrow_schema(catalog.load_table(ORDERS).schema()).names
    assert sorted(names) == sorted([*ROWS.names, "c0", "c1", "c2", "_kafka"])


def test_a_foreign_table_that_fits_is_adopted_with_a_kafka_column(catalog: Catalog) -> None:
    foreign_table(catalog, NestedField(1, "id", LongType()), NestedField(2, "note", StringType()))

    ready = create_or_adopt(catalog, ORDERS, pa.schema([pa.field("id", pa.int32())]), SETTINGS, ADD)

    assert not ready.created
    assert ready.schema.names == ["id", "note", "_kafka"]
    assert ready.schema.field("id").type == pa.int64()


def test_differences_that_are_the_owners_choice_are_only_told(catalog: Catalog) -> None:
    create_or_adopt(catalog, ORDERS, ROWS, TableSettings(), STRICT)
    with catalog.load_table(ORDERS).transaction() as transaction:
        transaction.remove_properties("write.metadata.delete-after-commit.enabled")

    ready = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)

    told = " | ".join(ready.notes)
    assert "partition_by" in told
    assert "sort_by" in told
    assert "delete-after-commit" in told
    assert not ready.table.spec().fields


def test_everything_that_does_not_fit_is_listed(catalog: Catalog) -> None:
    foreign_table(
        catalog,
        NestedField(1, "id", StringType()),
        NestedField(2, "amount", DecimalType(10, 2)),
        NestedField(3, "must", LongType(), required=True),
        NestedField(4, "Name", StringType()),
        NestedField(5, "tags", ListType(6, IntegerType(), element_required=True)),
    )
    rows = pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("amount", pa.decimal128(20, 4)),
            pa.field("name", pa.string()),
            pa.field("tags", pa.list_(pa.string())),
        ]
    )

    with pytest.raises(IncompatibleSchemaError) as caught:
        create_or_adopt(catalog, ORDERS, rows, TableSettings(), ADD)

    message = str(caught.value)
    for part in (
        "id: the table has string, the rows have long",
        "amount: the table has decimal(10,2), the rows have decimal(20,4)",
        "make must optional, which the rows lack: not allowed by schema_evolution=add_columns",
        'name: differs only in letter case from "Name"',
        "tags.element: the table has int, the rows have string",
        "sales.orders",
    ):
        assert part in message
    assert catalog.load_table(ORDERS).schema().schema_id == 0


def test_strict_changes_nothing_and_says_what_it_would_take(catalog: Catalog) -> None:
    foreign_table(catalog, NestedField(1, "id", IntegerType()))

    with pytest.raises(IncompatibleSchemaError, match="widen id from int to long") as caught:
        create_or_adopt(catalog, ORDERS, pa.schema([ROWS.field("id")]), TableSettings(), STRICT)

    assert "add column _kafka struct<" in str(caught.value)
    assert "schema_evolution=strict" in str(caught.value)


@pytest.mark.parametrize("begins", [True, False])
def test_a_table_with_commits_keeps_the_number_of_rows_that_a_record_has(
    catalog: Catalog, *, begins: bool
) -> None:
    several = ROWS.append(pa.field(ITEM_COLUMN, ITEM_TYPE))
    before, after = (ROWS, several) if begins else (several, ROWS)
    table = create_or_adopt(catalog, ORDERS, before, SETTINGS, FULL).table
    create_or_adopt(catalog, ORDERS, before, SETTINGS, FULL)
    table.append(arrow_schema(table.schema()).empty_table())

    create_or_adopt(catalog, ORDERS, before, SETTINGS, FULL)
    with pytest.raises(ConfigError, match=r"let table\.identifier name a new table"):
        create_or_adopt(catalog, ORDERS, after, SETTINGS, FULL)
    with pytest.raises(ConfigError, match=r"let table\.identifier name a new table"):
        evolve(catalog, ORDERS, after, FULL)


@pytest.mark.parametrize("version", ["1", "3"])
def test_another_format_version_is_refused_with_what_to_do(
    catalog: Catalog, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = foreign_table(catalog, NestedField(1, "id", LongType()), **{"format-version": "1"})
    if version == "3":
        changed = table.metadata.model_copy(update={"format_version": 3})
        monkeypatch.setattr(table, "metadata", changed)
        monkeypatch.setattr(catalog, "load_table", lambda _: table)

    with pytest.raises(ConfigError, match=f"format-version={version}") as caught:
        create_or_adopt(catalog, ORDERS, ROWS, TableSettings(), FULL)

    assert caught.value.kind is ErrorKind.FORMAT_VERSION


def test_evolution_adds_widens_and_relaxes_nested_fields_too(catalog: Catalog) -> None:
    rows = pa.schema(
        [
            pa.field("id", pa.int32(), nullable=False),
            pa.field("price", pa.float32()),
            pa.field("amount", pa.decimal128(9, 2)),
            pa.field("place", pa.struct([pa.field("city", pa.string())])),
            pa.field("items", pa.list_(pa.struct([pa.field("n", pa.int32())]))),
            pa.field("by_name", pa.map_(pa.string(), pa.struct([pa.field("n", pa.int32())]))),
        ]
    )
    before = create_or_adopt(catalog, ORDERS, rows, TableSettings(), STRICT).schema
    wanted = pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("price", pa.float64()),
            pa.field("amount", pa.decimal128(18, 2)),
            pa.field("place", pa.struct([pa.field("zip", pa.string())])),
            pa.field("items", pa.list_(pa.struct([pa.field("n", pa.int64()), ("m", pa.date32())]))),
            pa.field("by_name", pa.map_(pa.string(), pa.struct([pa.field("m", pa.int32())]))),
            pa.field("new", pa.list_(pa.struct([pa.field("deep", pa.uuid())]))),
        ]
    )

    after = evolve(catalog, ORDERS, wanted, FULL)

    types = {field.name: str(field.type) for field in after}
    assert after.names == [*rows.names, "new", "_kafka"]
    assert after.field("id").nullable
    assert types["id"] == "int64"
    assert types["price"] == "double"
    assert types["amount"] == "decimal128(18, 2)"
    assert types["place"] == "struct<city: string, zip: string>"
    assert types["items"] == "list<element: struct<n: int64, m: date32[day]>>"
    assert types["by_name"] == "map<string, struct<n: int32, m: int32>>"
    assert types["new"] == "list<element: struct<deep: extension<arrow.uuid>>>"
    assert all(after.field(n).metadata == before.field(n).metadata for n in before.names)
    assert evolve(catalog, ORDERS, wanted, STRICT) == after


def test_evolution_that_is_not_needed_sends_nothing(catalog: Catalog) -> None:
    create_or_adopt(catalog, ORDERS, ROWS, TableSettings(), STRICT)
    location = catalog.load_table(ORDERS).metadata_location

    evolve(catalog, ORDERS, pa.schema([ROWS.field("id")]), STRICT)

    assert catalog.load_table(ORDERS).metadata_location == location


@pytest.mark.parametrize(
    "wanted",
    [
        pa.schema([pa.field("amount", pa.decimal128(9, 3))]),
        pa.schema([pa.field("amount", pa.string())]),
        pa.schema([pa.field("amount", pa.int64())]),
    ],
    ids=str,
)
def test_a_type_is_never_changed_to_one_that_others_cannot_read(
    catalog: Catalog, wanted: pa.Schema
) -> None:
    rows = pa.schema([pa.field("amount", pa.decimal128(9, 2))])
    create_or_adopt(catalog, ORDERS, rows, TableSettings(), STRICT)

    with pytest.raises(IncompatibleSchemaError, match="amount"):
        evolve(catalog, ORDERS, wanted, FULL)


def test_the_dead_letter_table_is_made_and_adopted(catalog: Catalog) -> None:
    ready = create_or_adopt_dead_letters(catalog, "sales.dead")

    assert ready.created
    assert ready.schema.equals(DEAD_LETTER_SCHEMA)
    assert not ready.table.spec().fields
    assert not ready.table.sort_order().fields
    assert not create_or_adopt_dead_letters(catalog, "sales.dead").created


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (TableSettings(partition_by=(Transformed("day", "nope"),)), "nope"),
        (TableSettings(partition_by=(Transformed("day", "id"),)), "day cannot be applied"),
        (TableSettings(partition_by=(Transformed("modulo", "id"),)), "one of bucket"),
        (TableSettings(partition_by=(Transformed("bucket", "id", 4),) * 2), "twice"),
        (TableSettings(sort_by=(SortedBy("customer"),)), "cannot be ordered by customer"),
        (TableSettings(sort_by=(SortedBy("nope"),)), "id, created_at"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_layout_that_cannot_be_is_refused(
    catalog: Catalog, settings: TableSettings, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        create_or_adopt(catalog, ORDERS, ROWS, settings, STRICT)

    assert not catalog.table_exists(ORDERS)


def test_an_identifier_without_namespace_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        create_or_adopt(catalog, "orders", ROWS, TableSettings(), STRICT)


def test_a_spec_that_another_engine_evolved_is_kept(catalog: Catalog) -> None:
    create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)
    with catalog.load_table(ORDERS).update_spec() as update:
        update.add_field("id", BucketTransform(8), "id_bucket")

    ready = create_or_adopt(catalog, ORDERS, ROWS, SETTINGS, STRICT)

    transforms = [f.transform for f in ready.table.spec().fields]
    assert transforms == [DayTransform(), BucketTransform(16), BucketTransform(8)]
    assert "bucket[8](id)" in ready.notes[0]
