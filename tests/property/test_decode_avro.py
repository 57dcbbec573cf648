"""Properties of the Avro decoder.

Goal: what a producer wrote is what the row says, whatever the schema; a damaged record harms only
itself; the verdict on a record does not depend on the records beside it.
Method: random schemas with every type and logical type, random records encoded by fastavro from
the values that Avro stores, and the columns' values computed from the same by the few lines below.
Some records are damaged. What is accepted all the same must be what fastavro reads.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
from hypothesis import event, given, settings
from hypothesis import strategies as st

from k2i_core.decode import avro_rows
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from tests.property.binary_records import damaged, same
from tests.property.verdicts import verdicts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnfitError(Exception):
    """The value has no place in its column."""


@dataclass(frozen=True)
class Made:
    """A schema, what may be stored in it, and what a column says of it."""

    schema: Any
    stored: st.SearchStrategy[Any]
    shown: Callable[[Any], Any]


def within(low: int, high: int, show: Callable[[int], Any]) -> Callable[[int], Any]:
    def shown(number: int) -> Any:
        if not low <= number <= high:
            raise UnfitError
        return show(number)

    return shown


def moment(per_second: int, *, zone: bool) -> Callable[[int], Any]:
    def shown(number: int) -> Any:
        try:
            made = EPOCH + timedelta(microseconds=number * 1_000_000 // per_second)
        except OverflowError as error:
            raise UnfitError from error
        return made if zone else made.replace(tzinfo=None)

    return shown


def day_time(per_second: int) -> Callable[[int], Any]:
    def shown(number: int) -> time:
        microseconds = number * 1_000_000 // per_second
        if not 0 <= microseconds < 86_400_000_000:
            raise UnfitError
        return (EPOCH + timedelta(microseconds=microseconds)).time()

    return shown


def decimal(precision: int, scale: int) -> Callable[[bytes], Decimal]:
    def shown(stored: bytes) -> Decimal:
        number = int.from_bytes(stored, "big", signed=True)
        if not stored or abs(number) >= 10**precision:
            raise UnfitError
        return Decimal(f"{number}E-{scale}")  # arithmetic would round to 28 digits

    return shown


def uuid_text(stored: str) -> UUID:
    if len(stored) != 36:
        raise UnfitError
    return UUID(stored)


INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.integers(0, 2 * 10**12)
FLOATS = st.floats(width=32)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
LEAVES: list[tuple[Any, Any, Any]] = [
    ("boolean", st.booleans(), None),
    ("int", INTS, None),
    ("long", LONGS, None),
    ("float", FLOATS, None),
    ("double", st.floats(), None),
    ("bytes", st.binary(max_size=20), None),
    ("string", TEXTS, None),
    ("int:date", INTS, within(-719_162, 2_932_896, lambda n: date(1970, 1, 1) + timedelta(n))),
    ("int:time-millis", INTS | st.integers(0, 86_399_999), day_time(1_000)),
    ("long:time-micros", st.integers(-5, 86_400_000_005), day_time(1_000_000)),
    ("long:timestamp-millis", LONGS, moment(1_000, zone=True)),
    ("long:timestamp-micros", LONGS, moment(1_000_000, zone=True)),
    ("long:timestamp-nanos", LONGS, moment(1_000_000_000, zone=True)),
    ("long:local-timestamp-millis", LONGS, moment(1_000, zone=False)),
    ("long:local-timestamp-micros", LONGS, moment(1_000_000, zone=False)),
    ("long:local-timestamp-nanos", LONGS, moment(1_000_000_000, zone=False)),
    ("string:uuid", st.uuids().map(str) | TEXTS.filter(lambda t: len(t) != 36), uuid_text),
]


@st.composite
def schemas(draw: st.DrawFn) -> Made:  # noqa: C901 - one function inside for each kind
    numbers = iter(range(1_000))

    def leaf() -> Made:
        place = draw(st.integers(0, len(LEAVES) + 3))
        if place < len(LEAVES):
            name, stored, shown = LEAVES[place]
            kind, _, logical = name.partition(":")
            schema = {"type": kind, "logicalType": logical} if logical else kind
            return Made(schema, stored, shown or (lambda value: value))
        name = f"N{next(numbers)}"
        if place == len(LEAVES):
            symbols = ["RED", "GREEN", "BLUE"]
            schema = {"type": "enum", "name": name, "symbols": symbols}
            return Made(schema, st.sampled_from(symbols), lambda value: value)
        if place == len(LEAVES) + 1:
            precision = draw(st.integers(1, 38))
            scale = draw(st.integers(0, precision))
            logical = {"logicalType": "decimal", "precision": precision, "scale": scale}
            return Made(
                {"type": "bytes", **logical}, st.binary(max_size=18), decimal(precision, scale)
            )
        size = draw(st.integers(1, 18))
        schema = {"type": "fixed", "name": name, "size": size}
        stored = st.binary(min_size=size, max_size=size)
        if place == len(LEAVES) + 2:
            return Made(schema, stored, lambda value: value)
        logical = {"logicalType": "decimal", "precision": 20, "scale": 3}
        return Made({**schema, **logical}, stored, decimal(20, 3))

    def some(depth: int) -> Made:
        kind = draw(st.integers(0, 7 if depth else 3))
        if kind <= 2:
            return leaf()
        if kind == 3:
            inner = leaf()
            is_first = draw(st.booleans())
            schema = ["null", inner.schema] if is_first else [inner.schema, "null"]
            return Made(
                schema, st.none() | inner.stored, lambda v: None if v is None else inner.shown(v)
            )
        if kind == 4:
            inner = some(depth - 1)
            return Made(
                {"type": "array", "items": inner.schema},
                st.lists(inner.stored, max_size=4),
                lambda value: [inner.shown(element) for element in value],
            )
        if kind == 5:
            inner = some(depth - 1)
            return Made(
                {"type": "map", "values": inner.schema},
                st.dictionaries(TEXTS, inner.stored, max_size=3),
                lambda value: [(key, inner.shown(part)) for key, part in value.items()],
            )
        if kind == 6:
            return record(depth - 1)
        return union()

    def union() -> Made:
        record_ = record(0)
        name = record_.schema["name"]
        parts = {
            "null": st.none(),
            "int": INTS.map(lambda v: ("int", v)),
            "string": TEXTS.map(lambda v: ("string", v)),
            name: record_.stored.map(lambda v: (name, v)),
        }

        def shown(value: Any) -> Any:
            if value is None:
                return None
            branch, inner = value if isinstance(value, tuple) else (type(value).__name__, value)
            branch = "string" if branch == "str" else branch
            made = {"int": None, "string": None, name: None}
            made[branch] = record_.shown(inner) if branch == name else inner
            return made

        schema = ["null", "int", record_.schema, "string"]
        return Made(schema, st.one_of(*parts.values()), shown)

    def record(depth: int) -> Made:
        parts = {f"f{place}": some(depth) for place in range(draw(st.integers(1, 4)))}
        return Made(
            {
                "type": "record",
                "name": f"R{next(numbers)}",
                "fields": [{"name": name, "type": part.schema} for name, part in parts.items()],
            },
            st.fixed_dictionaries({name: part.stored for name, part in parts.items()}),
            lambda value: {name: part.shown(value[name]) for name, part in parts.items()},
        )

    return record(2)


def without_logical(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: without_logical(v) for k, v in schema.items() if k != "logicalType"}
    return [without_logical(part) for part in schema] if isinstance(schema, list) else schema


def encode(parsed: Any, stored: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, parsed, stored)
    return buffer.getvalue()


def decoder(schema: Any) -> SchemaDecoder:
    writer = WriterSchema(None, SchemaLanguage.AVRO, json.dumps(schema))
    return SchemaDecoder(AvroReader(writer).row_schema, writer, AvroReader)


@given(st.data())
@settings(max_examples=150)
def test_what_was_written_is_what_the_row_says(data: st.DataObject) -> None:
    made = data.draw(schemas())
    parsed = fastavro.parse_schema(without_logical(made.schema))
    stored = data.draw(st.lists(made.stored, min_size=1, max_size=8))
    values = [encode(parsed, record) for record in stored]
    decode = decoder(made.schema).decode
    found = verdicts(decode(pa.array(values, pa.binary())), len(values))
    for record, verdict in zip(stored, found, strict=True):
        try:
            expected = made.shown(record)
        except UnfitError:
            event("unfit")
            assert isinstance(verdict, tuple), (record, verdict)
            continue
        assert same(verdict, expected), (verdict, expected)


@given(st.data(), st.sampled_from([0, 2, 1_000]))
@settings(max_examples=150)
def test_a_damaged_record_harms_only_itself(data: st.DataObject, few_rows: int) -> None:
    made = data.draw(schemas())
    parsed = fastavro.parse_schema(without_logical(made.schema))
    values = [encode(parsed, r) for r in data.draw(st.lists(made.stored, min_size=1, max_size=8))]
    for place in range(len(values)):
        if data.draw(st.booleans()):
            values[place] = data.draw(damaged(values[place]))
    decode = decoder(made.schema).decode
    before = avro_rows.FEW_ROWS
    try:
        avro_rows.FEW_ROWS = few_rows
        together = verdicts(decode(pa.array(values, pa.binary())), len(values))
    finally:
        avro_rows.FEW_ROWS = before
    for value, verdict in zip(values, together, strict=True):
        [alone] = verdicts(decode(pa.array([value], pa.binary())), 1)
        if isinstance(verdict, tuple):
            assert isinstance(alone, tuple), (alone, verdict)
            continue
        assert same(alone, verdict)
        source = io.BytesIO(value)
        read = fastavro.schemaless_reader(source, parsed, return_record_name=True)
        assert source.read() == b""
        assert same(made.shown(read), verdict)
