"""Columns that are known under other names: what is kept of them, and who wins.

Goal: a rename keeps field ids and old files, is made once by however many workers want it, and
records of older schemas find the column for ever after; nothing is renamed to and fro.
Method: real tables in a SQLite catalog, read back by three readers; races with real threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from k2i_core.decode.growth import grown
from k2i_core.errors import ConfigError
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.column_names import NAMES_PROPERTY, current_names, table_columns
from k2i_core.iceberg.tables import (
    SortedBy,
    TableSettings,
    Transformed,
    create_or_adopt,
    evolve,
)
from k2i_core.maintenance.rewriting import z_order
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.identity import Identity, identified, identity_of
from tests.integration.parquet.readers import READERS

ADD, FULL = SchemaEvolution.ADD_COLUMNS, SchemaEvolution.FULL
ORDERS = "sales.orders"


def field(
    name: str, type_: pa.DataType, identity: str | None = None, *former: str
) -> "pa.Field[pa.DataType]":
    return identified(pa.field(name, type_), Identity(identity, former))


def items(*fields: "pa.Field[pa.DataType]") -> pa.DataType:
    return pa.list_(pa.field("element", pa.struct(list(fields))))


OLD = pa.schema(
    [
        field("id", pa.int64(), "1"),
        field("client", pa.int32(), "2"),
        field("items", items(field("sku", pa.string(), "1")), "3"),
    ]
)
NEW = pa.schema(
    [
        field("id", pa.int64(), "1"),
        field("customer", pa.int64(), "2"),
        field("items", items(field("article", pa.string(), "1"), field("n", pa.int32(), "2")), "3"),
    ]
)


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[], Catalog]:
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": str(tmp_path / "warehouse"),
    }
    return lambda: open_catalog("k2i", properties)


def wanted(catalog: Catalog, writer: pa.Schema) -> pa.Schema:
    """What a worker that has loaded the table asks for."""
    return grown(table_columns(catalog.load_table(ORDERS)), writer, may_rename=True)


def test_a_rename_keeps_ids_and_old_files_and_three_readers_agree(
    connect: Callable[[], Catalog],
) -> None:
    catalog = connect()
    made = create_or_adopt(catalog, ORDERS, OLD, TableSettings(), FULL)
    assert made.created
    table = catalog.load_table(ORDERS)
    ids = {name: table.schema().find_field(name).field_id for name in ("client", "items")}
    sku_id = table.schema().find_field("items.element.sku").field_id
    row = {"id": 1, "client": 7, "items": [{"sku": "a"}]}
    table.append(pa.Table.from_pylist([{**row, "_kafka": None}], pa.schema(list(made.schema))))

    evolve(catalog, ORDERS, wanted(catalog, NEW), FULL)

    table = catalog.load_table(ORDERS)
    assert table.schema().find_field("customer").field_id == ids["client"]
    assert table.schema().find_field("items.element.article").field_id == sku_id
    assert [f.name for f in table.schema().fields] == ["id", "customer", "items", "_kafka"]
    expected = [{"id": 1, "customer": 7, "items": [{"article": "a", "n": None}], "_kafka": None}]
    for reader, read in READERS.items():
        assert read(table, None) == expected, reader
    (client,) = [f for f in table_columns(table) if f.name == "customer"]
    assert identity_of(client) == Identity("2", ("client",))
    # Records of the older schema need nothing, and neither do those of the newer one.
    for writer in (OLD, NEW):
        evolve(catalog, ORDERS, wanted(catalog, writer), FULL)
    assert catalog.load_table(ORDERS).metadata_location == table.metadata_location


def test_settings_that_call_a_column_as_it_was_called_are_no_difference(
    connect: Callable[[], Catalog],
) -> None:
    catalog = connect()
    inner = pa.struct([field("day", pa.date32(), "1")])
    older = pa.schema([*OLD, field("sold", inner, "4")])
    newer = pa.schema([*NEW, field("sold", pa.struct([field("on", pa.date32(), "1")]), "4")])
    layout = TableSettings(
        (Transformed("bucket", "client", 4), Transformed("month", "sold.day")),
        (SortedBy("client"), SortedBy("sold.day", descending=True)),
    )
    create_or_adopt(catalog, ORDERS, older, layout, FULL)
    evolve(catalog, ORDERS, wanted(catalog, newer), FULL)

    assert create_or_adopt(catalog, ORDERS, older, layout, FULL).notes == ()
    other = TableSettings((Transformed("bucket", "id", 4),), (SortedBy("sold.day"),))
    notes = create_or_adopt(catalog, ORDERS, older, other, FULL).notes
    assert [note.split(":")[0] for note in notes] == [
        *("the table's partitions stay", "the table's sort order stays, not sort_by")
    ]
    table = catalog.load_table(ORDERS)
    named = ("client", "customer", "sold.day", "id", "gone")
    found = current_names(table_columns(table), named)
    assert found == ("customer", "customer", "sold.on", "id", "gone")
    assert z_order(table, ("client", "sold.day")).paths == (("customer",), ("sold", "on"))


def test_workers_that_want_one_rename_make_it_once(connect: Callable[[], Catalog]) -> None:
    create_or_adopt(connect(), ORDERS, OLD, TableSettings(), FULL)
    barrier = Barrier(4)

    def work(_: int) -> pa.Schema:
        catalog = connect()
        asked = wanted(catalog, NEW)
        barrier.wait()
        return evolve(catalog, ORDERS, asked, FULL)

    with ThreadPoolExecutor(4) as pool:
        after = list(pool.map(work, range(4)))

    assert all(schema == after[0] for schema in after)
    table = connect().load_table(ORDERS)
    assert len(table.metadata.schemas) == 2
    assert identity_of(table_columns(table).field("customer")).former_names == ("client",)


def test_a_rename_is_lost_by_no_worker_that_only_learns_a_number(
    connect: Callable[[], Catalog],
) -> None:
    plain = pa.schema([pa.field(f.name, f.type) for f in OLD])
    catalog = connect()
    create_or_adopt(catalog, ORDERS, plain, TableSettings(), ADD)
    learns = wanted(catalog, OLD)
    aliased = pa.schema([field("customer", pa.int32(), None, "client")])
    evolve(catalog, ORDERS, wanted(catalog, aliased), FULL)

    evolve(catalog, ORDERS, learns, FULL)

    found = table_columns(catalog.load_table(ORDERS)).field("customer")
    assert identity_of(found) == Identity("2", ("client",))


def test_two_names_that_take_turns_rename_once(connect: Callable[[], Catalog]) -> None:
    catalog = connect()
    create_or_adopt(catalog, ORDERS, OLD, TableSettings(), FULL)
    for writer in (NEW, OLD, NEW, OLD):
        evolve(catalog, ORDERS, wanted(catalog, writer), FULL)
    assert catalog.load_table(ORDERS).schema().column_names[1] == "customer"


def test_under_add_columns_nothing_is_renamed_but_old_names_are_known(
    connect: Callable[[], Catalog],
) -> None:
    catalog = connect()
    create_or_adopt(catalog, ORDERS, OLD, TableSettings(), FULL)
    evolve(catalog, ORDERS, wanted(catalog, NEW), FULL)
    table = table_columns(catalog.load_table(ORDERS))

    assert grown(table, OLD) is table
    newest = pa.schema([field("buyer", pa.int64(), "2", "customer")])
    assert "buyer" in grown(table, newest).names


def test_names_of_many_columns_are_kept_in_several_properties(
    connect: Callable[[], Catalog],
) -> None:
    catalog = connect()
    many = pa.schema([field(f"c{n}", pa.int64(), str(n + 100)) for n in range(600)])
    create_or_adopt(catalog, ORDERS, many, TableSettings(), FULL)
    table = catalog.load_table(ORDERS)
    parts = {k: v for k, v in table.properties.items() if k.startswith(NAMES_PROPERTY)}
    assert len(parts) > 1
    assert max(map(len, parts.values())) <= 3_500
    assert [identity_of(f).identity for f in table_columns(table)][:600] == [
        str(n + 100) for n in range(600)
    ]


def test_a_property_that_somebody_broke_is_named(connect: Callable[[], Catalog]) -> None:
    catalog = connect()
    create_or_adopt(catalog, ORDERS, OLD, TableSettings(), FULL)
    with catalog.load_table(ORDERS).transaction() as transaction:
        transaction.set_properties({NAMES_PROPERTY: '{"1": 5}'})
    with pytest.raises(ConfigError, match=NAMES_PROPERTY):
        table_columns(catalog.load_table(ORDERS))
