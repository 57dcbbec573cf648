"""One schema with every Iceberg type, and rows that go to the edges of each.

The first rows of a column are its edge values, nulls and empties among them; the rest is drawn from
a seed. Values are what Python has for them, maps as lists of pairs.
"""

import math
import random
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

Draw = Callable[[random.Random], Any]

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a timestamp without zone is what it stands for
EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def as_float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def exact(unscaled: int, scale: int) -> Decimal:
    """Shift the point without the rounding of Decimal's context."""
    return Decimal(f"{unscaled}E-{scale}")


def decimal_edges(precision: int, scale: int) -> list[Decimal]:
    largest = 10**precision - 1
    return [exact(unscaled, scale) for unscaled in (largest, -largest, 0, -1)]


def draw_decimal(precision: int, scale: int) -> Draw:
    return lambda r: exact(r.randrange(-(10**precision) + 1, 10**precision), scale)


# Column → its type, its edge values, and a draw for the rest.
PRIMITIVES: dict[str, tuple[IcebergType, list[Any], Draw]] = {
    "flag": (BooleanType(), [True, False], lambda r: r.random() < 0.5),
    "small": (
        IntegerType(),
        [2**31 - 1, -(2**31), 0, -1],
        lambda r: r.randrange(-1_000, 1_000),
    ),
    "big": (
        LongType(),
        [2**63 - 1, -(2**63), 0, -1, 2**53 + 1],
        lambda r: r.randrange(-(2**63), 2**63),
    ),
    "single": (
        FloatType(),
        [math.inf, -math.inf, math.nan, 0.0, -0.0, as_float32(1e-45)],
        lambda r: as_float32(r.gauss(0, 1e6)),
    ),
    "double": (
        DoubleType(),
        [math.inf, -math.inf, math.nan, 0.0, -0.0, 5e-324, 0.1],
        lambda r: r.gauss(0, 1e100),
    ),
    "price": (DecimalType(9, 2), decimal_edges(9, 2), draw_decimal(9, 2)),
    "amount": (DecimalType(18, 4), decimal_edges(18, 4), draw_decimal(18, 4)),
    "huge": (DecimalType(38, 10), decimal_edges(38, 10), draw_decimal(38, 10)),
    "day": (
        DateType(),
        [date(1970, 1, 1), date(1969, 12, 31), date(1, 1, 1), date(9999, 12, 31)],
        lambda r: date(2020, 1, 1) + timedelta(days=r.randrange(2_000)),
    ),
    "clock": (
        TimeType(),
        [time(0), time(23, 59, 59, 999_999), time(0, 0, 0, 1)],
        lambda r: (EPOCH + MICROSECOND * r.randrange(86_400_000_000)).time(),
    ),
    "local": (
        TimestampType(),
        [
            EPOCH,
            EPOCH - MICROSECOND,
            EPOCH - timedelta(days=719_000),
            EPOCH + timedelta(days=2_900_000, microseconds=-1),
        ],
        lambda r: EPOCH + MICROSECOND * r.randrange(-(10**15), 2 * 10**15),
    ),
    "moment": (
        TimestamptzType(),
        [
            EPOCH_UTC,
            EPOCH_UTC - MICROSECOND,
            datetime(1, 1, 2, tzinfo=UTC),
            datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        ],
        lambda r: EPOCH_UTC + MICROSECOND * r.randrange(-(10**15), 2 * 10**15),
    ),
    "text": (
        StringType(),
        ["", "ä€\U0001f600", "a'b\"c\\", "line\nbreak\x00nul", "x" * 5_000],
        lambda r: "".join(r.choices("abcdeäöü", k=r.randrange(20))),
    ),
    "word": (
        StringType(),
        ["red", "", "green"],
        lambda r: r.choice(["red", "green", "blue"]),
    ),
    "key": (
        UUIDType(),
        [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID(int=2**127)],
        lambda r: uuid.UUID(int=r.getrandbits(128)),
    ),
    "code": (FixedType(4), [b"\x00" * 4, b"\xff" * 4, b"abcd"], lambda r: r.randbytes(4)),
    "blob": (
        BinaryType(),
        [b"", b"\x00", b"\xff" * 40, bytes(range(256))],
        lambda r: r.randbytes(r.randrange(30)),
    ),
}

ITEM = StructType(
    NestedField(101, "sku", StringType(), required=False),
    NestedField(102, "quantity", IntegerType(), required=False),
    NestedField(103, "price", DecimalType(9, 2), required=False),
)
STOCK = StructType(
    NestedField(111, "count", LongType(), required=False),
    NestedField(112, "at", TimestamptzType(), required=False),
)
DEEP = StructType(
    NestedField(
        121,
        "inner",
        ListType(
            122,
            MapType(123, StringType(), 124, DoubleType(), value_required=False),
            element_required=False,
        ),
        required=False,
    ),
)
BOXED = StructType(
    NestedField(131, "a", IntegerType(), required=False),
    NestedField(
        132,
        "b",
        StructType(NestedField(133, "c", UUIDType(), required=False)),
        required=False,
    ),
)
KAFKA = StructType(
    NestedField(141, "topic", StringType(), required=True),
    NestedField(142, "partition", IntegerType(), required=True),
    NestedField(143, "offset", LongType(), required=True),
    NestedField(144, "timestamp", TimestamptzType(), required=False),
    NestedField(145, "key", BinaryType(), required=False),
    NestedField(
        146,
        "headers",
        ListType(
            147,
            StructType(
                NestedField(148, "key", StringType(), required=False),
                NestedField(149, "value", BinaryType(), required=False),
            ),
            element_required=False,
        ),
        required=False,
    ),
)

NOTHING_SOLD = {"sku": None, "quantity": None, "price": None}
ONE_SOLD = {"sku": "s-1", "quantity": 1, "price": Decimal("9.99")}

NESTED: dict[str, tuple[IcebergType, list[Any]]] = {
    "tags": (
        ListType(21, StringType(), element_required=False),
        [None, [], [None], [""], ["a", None, "b"], []],
    ),
    "codes": (
        ListType(22, UUIDType(), element_required=True),
        [None, [], [uuid.UUID(int=5)], [uuid.UUID(int=6), uuid.UUID(int=7)]],
    ),
    "items": (
        ListType(23, ITEM, element_required=False),
        [None, [], [None], [NOTHING_SOLD], [ONE_SOLD, None, NOTHING_SOLD], None],
    ),
    "counts": (
        MapType(24, StringType(), 25, IntegerType(), value_required=False),
        [None, [], [("a", None)], [("a", 1), ("", 2)]],
    ),
    "stock": (
        MapType(26, IntegerType(), 27, STOCK, value_required=False),
        [
            None,
            [],
            [(1, None)],
            [(2, {"count": None, "at": None}), (3, {"count": 4, "at": EPOCH_UTC})],
            None,
        ],
    ),
    "deep": (
        DEEP,
        [
            None,
            {"inner": None},
            {"inner": []},
            {"inner": [None]},
            {"inner": [[]]},
            {"inner": [[("a", None)], None, [("b", 1.5), ("c", math.inf)]]},
        ],
    ),
    "boxed": (
        BOXED,
        [
            None,
            {"a": None, "b": None},
            {"a": 1, "b": {"c": None}},
            {"a": None, "b": {"c": uuid.UUID(int=9)}},
        ],
    ),
}

SHOWN_EMPTY_BY_PYICEBERG = frozenset({"items", "stock", "headers"})
"""Columns whose nulls PyIceberg's scan shows as empty: lists and maps with structs inside."""


def all_types() -> Schema:
    columns: list[tuple[str, IcebergType]] = [
        *((name, type_) for name, (type_, _, _) in PRIMITIVES.items()),
        *((name, type_) for name, (type_, _) in NESTED.items()),
    ]
    return Schema(
        NestedField(1, "id", LongType(), required=True),
        *(
            NestedField(number, name, type_, required=False)
            for number, (name, type_) in enumerate(columns, start=200)
        ),
        NestedField(2, "_kafka", KAFKA, required=True),
    )


def all_rows(seed: int, row_count: int) -> list[dict[str, Any]]:
    """Draw rows; their ids are 0, 1, 2, …"""
    draws = random.Random(seed)
    return [_row(draws, number) for number in range(row_count)]


def _row(draws: random.Random, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"id": number}
    for name, (_, edges, draw) in PRIMITIVES.items():
        if number < len(edges):
            row[name] = edges[number]
        else:
            row[name] = None if draws.random() < 0.15 else draw(draws)
    for name, (_, edges) in NESTED.items():
        row[name] = edges[number] if number < len(edges) else draws.choice(edges)
    row["_kafka"] = {
        "topic": "orders",
        "partition": number % 4,
        "offset": number // 4,
        "timestamp": EPOCH_UTC + timedelta(days=20_000, milliseconds=number),
        "key": draws.choice([None, b"", b"k-%d" % number]),
        "headers": draws.choice(
            [None, [], [{"key": "h", "value": None}], [{"key": "", "value": b"v"}]]
        ),
    }
    return row


def to_batches(rows: list[dict[str, Any]], schema: pa.Schema, size: int) -> list[pa.RecordBatch]:
    """Cut rows into batches of a target's schema."""
    plain = [storable(row) for row in rows]
    return [
        pa.RecordBatch.from_pylist(plain[start : start + size], schema=schema)
        for start in range(0, len(plain), size)
    ]


def storable(value: Any) -> Any:
    """Return uuids as the bytes that Arrow stores for them, wherever they are."""
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, dict):
        return {name: storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(storable(inner) for inner in value)
    return value


def internal(value: Any) -> Any:
    """Return what Iceberg computes on and stores: counts since the epoch, and bytes for a uuid."""
    match value:
        case datetime():
            epoch = EPOCH_UTC if value.tzinfo else EPOCH
            return (value - epoch) // MICROSECOND
        case date():
            return (value - EPOCH.date()).days
        case time():
            return (datetime.combine(EPOCH, value) - EPOCH) // MICROSECOND
        case uuid.UUID():
            return value.bytes
        case _:
            return value
