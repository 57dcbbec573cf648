"""What drivers ask about the server: facts, namespaces, tables. Pure.

Source: the schemas in the comments of `format/FlightSql.proto` of Apache Arrow.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.flight.commands import (
    GetCatalogs,
    GetDbSchemas,
    GetKeys,
    GetSqlInfo,
    GetTables,
    GetTableTypes,
    GetTypeInfo,
)

Listing = (
    GetSqlInfo | GetCatalogs | GetDbSchemas | GetTables | GetTableTypes | GetKeys | GetTypeInfo
)

TABLE_TYPE = "TABLE"


def _needed(name: str, arrow_type: pa.DataType) -> "pa.Field[Any]":
    return pa.field(name, arrow_type, nullable=False)


_CATALOG, _SCHEMA = pa.field("catalog_name", pa.string()), pa.field("db_schema_name", pa.string())

_CATALOGS = pa.schema([_needed("catalog_name", pa.string())])

_DB_SCHEMAS = pa.schema([_CATALOG, _needed("db_schema_name", pa.string())])

_TABLES = pa.schema(
    [_CATALOG, _SCHEMA, _needed("table_name", pa.string()), _needed("table_type", pa.string())]
)

_TABLES_WITH_SCHEMAS = _TABLES.append(_needed("table_schema", pa.binary()))

_TABLE_TYPES = pa.schema([_needed("table_type", pa.string())])

_PRIMARY_KEYS = pa.schema(
    [
        _CATALOG,
        _SCHEMA,
        _needed("table_name", pa.string()),
        _needed("column_name", pa.string()),
        pa.field("key_name", pa.string()),
        _needed("key_sequence", pa.int32()),
    ]
)

_KEYS = pa.schema(
    [
        *(
            pa.field(f"{side}_{name}", pa.string(), nullable=is_nullable)
            for side in ("pk", "fk")
            for name, is_nullable in (
                ("catalog_name", True),
                ("db_schema_name", True),
                ("table_name", False),
                ("column_name", False),
            )
        ),
        _needed("key_sequence", pa.int32()),
        pa.field("fk_key_name", pa.string()),
        pa.field("pk_key_name", pa.string()),
        _needed("update_rule", pa.uint8()),
        _needed("delete_rule", pa.uint8()),
    ]
)

_TYPES = pa.schema(
    [
        _needed("type_name", pa.string()),
        _needed("data_type", pa.int32()),
        pa.field("column_size", pa.int32()),
        pa.field("literal_prefix", pa.string()),
        pa.field("literal_suffix", pa.string()),
        pa.field("create_params", pa.list_(_needed("item", pa.string()))),
        _needed("nullable", pa.int32()),
        _needed("case_sensitive", pa.bool_()),
        _needed("searchable", pa.int32()),
        pa.field("unsigned_attribute", pa.bool_()),
        _needed("fixed_prec_scale", pa.bool_()),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", pa.string()),
        pa.field("minimum_scale", pa.int32()),
        pa.field("maximum_scale", pa.int32()),
        _needed("sql_data_type", pa.int32()),
        pa.field("datetime_subcode", pa.int32()),
        pa.field("num_prec_radix", pa.int32()),
        pa.field("interval_precision", pa.int32()),
    ]
)

_INFO_VALUE = pa.dense_union(
    [
        pa.field("string_value", pa.string()),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.string())),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)

_INFO = pa.schema([_needed("info_name", pa.uint32()), _needed("value", _INFO_VALUE)])

_COLUMNS: Mapping[type, pa.Schema] = MappingProxyType(
    {
        GetSqlInfo: _INFO,
        GetCatalogs: _CATALOGS,
        GetDbSchemas: _DB_SCHEMAS,
        GetTables: _TABLES,
        GetTableTypes: _TABLE_TYPES,
        GetKeys: _KEYS,
        GetTypeInfo: _TYPES,
    }
)

_CASE_INSENSITIVE = 1

_FACTS: dict[int, str | bool | int] = {
    0: "k2i",
    1: version("k2i"),
    2: pa.__version__,
    3: True,  # read only
    4: True,  # SQL
    5: False,  # Substrait
    8: 0,  # no transactions
    9: False,  # no cancel action: a client that hangs up ends its query
    100: 0,  # prepared statements never expire
    101: 0,  # nor transactions, of which there are none
    500: False,  # no DDL of catalogs
    501: False,  # of schemas
    502: False,  # of tables
    503: _CASE_INSENSITIVE,
    504: '"',
    505: _CASE_INSENSITIVE,
    506: True,  # all tables can be selected from
}
"""Number of an info → what is said. Integers go into the 64-bit member, except 8, as drivers
expect."""

_INT32_FACTS = frozenset({8})


@dataclass(frozen=True, slots=True)
class ServedTable:
    """The one table that can be asked.

    Attributes:
        catalog: What the engine calls the database that the table is in.
        columns: Asks for the columns of now.
    """

    catalog: str
    namespace: str
    name: str
    columns: Callable[[], pa.Schema]


def listing_schema(command: Listing) -> pa.Schema:
    """Return the columns of a listing."""
    match command:
        case GetTables(include_schema=True):
            return _TABLES_WITH_SCHEMAS
        case GetKeys(is_primary=True):
            return _PRIMARY_KEYS
        case _:
            return _COLUMNS[type(command)]


def listing(command: Listing, served: ServedTable) -> pa.Table:
    """Return what a driver asked for."""
    rows: list[dict[str, object]] = []
    catalog: dict[str, object] = {"catalog_name": served.catalog}
    match command:
        case GetSqlInfo():
            return _facts(command.numbers)
        case GetCatalogs():
            rows = [catalog]
        case GetDbSchemas():
            if _has_schema(served, command.catalog, command.schema_pattern):
                rows = [{**catalog, "db_schema_name": served.namespace}]
        case GetTables():
            if _has_table(served, command):
                row: dict[str, object] = {
                    **catalog,
                    "db_schema_name": served.namespace,
                    "table_name": served.name,
                    "table_type": TABLE_TYPE,
                }
                if command.include_schema:
                    row["table_schema"] = served.columns().serialize().to_pybytes()
                rows = [row]
        case GetTableTypes():
            rows = [{"table_type": TABLE_TYPE}]
        case GetKeys() | GetTypeInfo():
            pass
    return pa.Table.from_pylist(rows, listing_schema(command))


def _has_schema(served: ServedTable, catalog: str | None, pattern: str | None) -> bool:
    return catalog in (None, served.catalog) and _is_like(served.namespace, pattern)


def _has_table(served: ServedTable, command: GetTables) -> bool:
    return (
        _has_schema(served, command.catalog, command.schema_pattern)
        and _is_like(served.name, command.table_pattern)
        and (not command.table_types or TABLE_TYPE in command.table_types)
    )


def _is_like(name: str, pattern: str | None) -> bool:
    """Match an SQL pattern: % for any characters, _ for one."""
    if pattern is None:
        return True
    # Runs of % mean the same as one, and would make a hostile pattern slow.
    parts = re.split(r"(%+|_)", pattern)
    regex = "".join(
        ".*" if part.startswith("%") else "." if part == "_" else re.escape(part) for part in parts
    )
    return re.fullmatch(regex, name, re.DOTALL) is not None


def _facts(numbers: Sequence[int]) -> pa.Table:
    chosen = [n for n in (numbers or sorted(_FACTS)) if n in _FACTS]
    values: list[list[Any]] = [[] for _ in range(_INFO_VALUE.num_fields)]
    kinds: list[int] = []
    places: list[int] = []
    for number in chosen:
        fact = _FACTS[number]
        kind = 0 if isinstance(fact, str) else 1 if isinstance(fact, bool) else 2
        if number in _INT32_FACTS:
            kind = 3
        kinds.append(kind)
        places.append(len(values[kind]))
        values[kind].append(fact)
    members = [
        pa.array(member, _INFO_VALUE.field(index).type) for index, member in enumerate(values)
    ]
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(places, pa.int32()),
        members,
        [_INFO_VALUE.field(index).name for index in range(_INFO_VALUE.num_fields)],
    )
    return pa.Table.from_arrays([pa.array(chosen, pa.uint32()), union], schema=_INFO)
