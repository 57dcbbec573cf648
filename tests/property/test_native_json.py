"""The native JSON reader beside the Python decoder, on records of any kind.

Goal: nobody can tell from the outcome which of the two decoded: rows, places, failures with their
words and proposed schemas are equal, bit by bit.
Method: random schemas of every type, flat and nested; records put together from spellings that are
right, odd or wrong for their column, some of them damaged byte by byte; both decoders on the same
batch. A bounded number in the suite; `make soak` goes on for as long as it is told.
"""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.native_json import NativeJsonDecoder
from k2i_core.records import DecodedValues
from tests.json_paths import NATIVE, native_decoder, needs_native

pytestmark = needs_native

ROUNDS = 6
BATCH_RECORDS = 1_000
SOAK_BATCH_RECORDS = 20_000
NESTED_BATCH_RECORDS = 500
"""Of a good one. In Python, a record with maps costs fifty times as much as a flat one."""
MIXED_BATCH_RECORDS = 100
ODD_BATCH_RECORDS = 20
"""In Python, an odd record costs five milliseconds, and among many good ones it shows no more than
among few."""
POOL_SIZE = 60
DEPTH_MAX = 3

ODD_NUMBERS = (
    *("0", "-0", "-12", "2147483647", "-2147483648", "2147483648", "9223372036854775807"),
    *("-9223372036854775808", "9223372036854775808", "1" * 25, "9" * 38, "9" * 39, "-0.0"),
    *("1.0", "1.50", "-0.001", "99999999.99", "100000000", "0.1e1", "1e2", "1E-2", "1.500"),
    *("1e400", "1e-400", "3.4028235e38", "3.4028236e38", "1.17549435e-38", "5e-324", "0.30000001"),
    *("01", "+1", "1.", ".5", "-", "1e", "NaN", "-Infinity", "0x1", "253402300799999", "1_0"),
)
ODD_TEXTS = (
    *(
        '""',
        '"ä€😀"',
        '"\\u00e4\\ud83d\\ude00\\n\\/"',
        '"a\\"b\\\\"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
    ),
    *(
        '"\\ud83dx"',
        '"\\x"',
        '"\\u12"',
        '"a\nb"',
        '"tab\t"',
        '"\\u0000"',
        "'a'",
        '"open',
        '"}{"',
        '"\x7f"',
    ),
)
DAYS = ("2024-02-29", "0001-01-02", "9999-12-30", "1969-12-31", "1900-03-01", "2024-11-30")
ODD_DAYS = ("2023-02-29", "0000-01-01", "9999-12-31", "0001-01-01", "2024-1-1", "2024-13-01")
CLOCKS = ("00", "10:11", "10:11:12", "23:59:59.9", "10:11:12.123456", "10:11:12.1234567")
ODD_CLOCKS = ("24:00", "10:11:12.", "1:2", "10:60", "23:59:60", "10:11:12,5", "00:00:00.000000999")
ZONES = ("Z", "Z", "+01", "-0130", "+23:59", "-00:00")
ODD_ZONES = ("", "+24:00", "z", " Z", "+1", "+01:60")
UUIDS = (
    '"123e4567-e89b-12d3-a456-426614174000"',
    '"123E4567-E89B-12D3-A456-42661417400F"',
)
ODD_UUIDS = ('"123e4567e89b12d3a456426614174000"', '"123e4567-e89b-12d3-a456-42661417400g"')
BLOBS = ('"YWI="', '"+/8="', '"YWJ="')
ODD_BLOBS = ('""', '"YQ=="', '"YR=="', '"YWJj"', '"YQ"', '"===="', '"-_-_"', '"Y Q="', '"YQ==YQ=="')
WORDS = ("null", "true", "false", "nul", "True", "{}", "[]", "[null]", '{"a":1}', "{ }", "[ ]")
SPACES = (" ", "\n", "\t\r\n ", "\u00a0")
EMPTY = ("null", "{}", "[]", "[ ]", "1", '"x"', '{"a":null}', "[{}]")
LETTERS = 'abcäß€😀\n"\\ '

Leaf = tuple[pa.DataType, Callable[[random.Random], str]]


def stamp(chosen: random.Random, zones: tuple[str, ...] = ("",)) -> str:
    parts = (chosen.choice(DAYS), chosen.choice("T "), chosen.choice(CLOCKS), chosen.choice(zones))
    return f'"{"".join(parts)}"'


def odd_stamp(chosen: random.Random) -> str:
    day, clock = chosen.choice(DAYS + ODD_DAYS), chosen.choice(CLOCKS + ODD_CLOCKS)
    return f'"{day}{chosen.choice("T t")}{clock}{chosen.choice(ZONES + ODD_ZONES)}"'


def number(chosen: random.Random) -> str:
    return repr(chosen.choice((chosen.uniform(-1e6, 1e6), chosen.uniform(-1, 1) * 1e-30)))


def cents(chosen: random.Random) -> str:
    text = f"{chosen.randrange(10**8)}.{chosen.randrange(100):02}"
    return text if chosen.randrange(2) else f'"-{text}"'


def text(chosen: random.Random) -> str:
    letters = "".join(chosen.choices(LETTERS, k=chosen.randrange(20)))
    return json.dumps(letters, ensure_ascii=bool(chosen.randrange(2)))


LEAVES: tuple[Leaf, ...] = (
    (pa.bool_(), lambda chosen: chosen.choice(("true", "false"))),
    (pa.int32(), lambda chosen: str(chosen.randrange(-(2**31), 2**31))),
    (pa.int64(), lambda chosen: str(chosen.randrange(-(2**63), 2**63) >> chosen.randrange(64))),
    (pa.float32(), number),
    (pa.float64(), number),
    (pa.decimal128(10, 2), cents),
    (pa.decimal128(38, 0), lambda chosen: str(chosen.randrange(10 ** chosen.randrange(1, 39)))),
    (pa.decimal128(38, 38), lambda chosen: f"0.{chosen.randrange(10**37)}"),
    (pa.string(), text),
    (pa.date32(), lambda chosen: f'"{chosen.choice(DAYS)}"'),
    (pa.time64("us"), lambda chosen: f'"{chosen.choice(CLOCKS)}"'),
    (pa.timestamp("us"), stamp),
    (pa.timestamp("us", tz="UTC"), lambda chosen: stamp(chosen, ZONES)),
    (pa.uuid(), lambda chosen: chosen.choice(UUIDS)),
    (pa.binary(), lambda chosen: chosen.choice(BLOBS)),
    (pa.binary(2), lambda chosen: chosen.choice(BLOBS)),
)
ODD = (
    *ODD_NUMBERS,
    *(f'"{number}"' for number in ODD_NUMBERS),
    *ODD_TEXTS,
    *WORDS,
    *ODD_UUIDS,
    *ODD_BLOBS,
    *(f'"{day}"' for day in ODD_DAYS),
    *(f'"{clock}"' for clock in ODD_CLOCKS),
)
NAMES = ("id", "name", "at", "x", "a.b", "ä", "key", "value", "")
ESCAPED_NAMES = ('quo"te', "back\\slash")
"""In few schemas, because with maps beside them Python reads such records one by one."""


class Shape:
    """A random type, and records of it."""

    def __init__(self, chosen: random.Random, depth: int = DEPTH_MAX) -> None:
        self.chosen = chosen
        self.children: list[tuple[str, Shape]] = []
        kind = chosen.choice(("leaf", "leaf", "leaf", "list", "struct", "map")) if depth else "leaf"
        self.kind = kind
        if kind == "leaf":
            self.type, self.spell = chosen.choice(LEAVES)
        elif kind == "list":
            self.children = [("element", Shape(chosen, depth - 1))]
            self.type = pa.list_(self._field(0))
        elif kind == "map":
            self.children = [("value", Shape(chosen, depth - 1))]
            self.type = pa.map_(pa.string(), self._field(0))
        else:
            self._be_struct(chosen.sample(NAMES, chosen.randrange(1, 5)), depth - 1)

    @classmethod
    def row(cls, chosen: random.Random, depth: int = DEPTH_MAX) -> "Shape":
        shape = cls(chosen, 0)
        shape.kind = "struct"
        names = [*NAMES, *(f"column_{n}" for n in range(16))][: chosen.randrange(1, 25)]
        if chosen.random() < 0.05:
            names += ESCAPED_NAMES
        shape._be_struct(names, depth)
        return shape

    def _be_struct(self, names: list[str], depth: int) -> None:
        self.children = [(name, Shape(self.chosen, depth)) for name in names]
        self.type = pa.struct([self._field(n) for n in range(len(names))])

    def _field(self, number_: int) -> Any:
        name, child = self.children[number_]
        return pa.field(name, child.type, nullable=self.chosen.random() < 0.8)

    def write(self, oddness: float) -> str:
        """Spell one value; with some chance, one that is odd."""
        chosen = self.chosen
        if chosen.random() < oddness:
            return odd_stamp(chosen) if chosen.random() < 0.2 else chosen.choice(ODD)
        if self.kind == "leaf":
            return self.spell(chosen)
        space = chosen.choice(SPACES) if chosen.random() < oddness else ""
        if self.kind == "list":
            child = self.children[0][1]
            parts = [child.write(oddness) for _ in range(chosen.randrange(4))]
            return f"[{space}{','.join(parts)}{space}]"
        if self.kind == "map":
            child = self.children[0][1]
            keys = chosen.sample(("a", "b", "kez", "key", "ä", ""), chosen.randrange(3))
            if chosen.random() < oddness:
                keys += [*keys[:1], "k\\u0065z"]
            if chosen.random() < oddness:
                keys += [f"k{n % 39}" for n in range(chosen.randrange(45))]
            parts = [f'"{key}"{space}:{space}{child.write(oddness)}' for key in keys]
            return f"{{{','.join(parts)}{space}}}"
        return self._write_struct(space, oddness)

    def _write_struct(self, space: str, oddness: float) -> str:
        chosen = self.chosen
        written = [pair for pair in self.children if chosen.random() > oddness]
        if chosen.random() < 0.2:
            chosen.shuffle(written)
        parts = [
            f"{self._key(name, oddness)}{space}:{space}{child.write(oddness)}"
            for name, child in written
        ]
        if chosen.random() < oddness:
            value = chosen.choice(EMPTY)
            parts.insert(
                chosen.randrange(len(parts) + 1), f'"{chosen.choice(("extra", "Extra"))}":{value}'
            )
        if parts and chosen.random() < oddness / 2:
            parts.append(chosen.choice(parts))
        return f"{{{space}{','.join(parts)}{space}}}"

    def _key(self, name: str, oddness: float) -> str:
        if self.chosen.random() < oddness / 2:
            return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'
        return json.dumps(name, ensure_ascii=self.chosen.random() < oddness)


def damaged(record: bytes, chosen: random.Random) -> bytes:
    place = chosen.randrange(len(record) + 1)
    piece = chosen.choice(
        (b"", b"{", b"}", b"[", b"]", b",", b'"', b"\\", b" ", b"\xff", b"\xc3", b"0", b":")
    )
    return record[:place] + piece + record[place + chosen.randrange(3) :]


def good_records(shape: Shape, chosen: random.Random, count: int) -> list[bytes]:
    """Records put together from a few values of each column, in one order of the columns."""
    children = list(shape.children)
    if chosen.random() < 0.5:
        chosen.shuffle(children)
    pools = [
        [f"{json.dumps(name, ensure_ascii=False)}:{child.write(0)}" for _ in range(POOL_SIZE)]
        for name, child in children
    ]
    columns = [chosen.choices(pool, k=count) for pool in pools]
    return [f"{{{','.join(parts)}}}".encode() for parts in zip(*columns, strict=True)]


def mixed_records(good: list[bytes], shape: Shape, chosen: random.Random) -> list[bytes]:
    records = good[:MIXED_BATCH_RECORDS]
    for _ in range(chosen.choice((1, 5))):
        records[chosen.randrange(len(records))] = odd_record(shape, chosen)
    return records


def odd_record(shape: Shape, chosen: random.Random) -> bytes:
    record = shape.write(chosen.choice((0.01, 0.05, 0.2))).encode()
    endings = (damaged(record, chosen), record + b" \r\n", b"", b"[]")
    return chosen.choice(endings) if chosen.random() < 0.2 else record


def odd_records(shape: Shape, chosen: random.Random) -> list[bytes]:
    records = [odd_record(shape, chosen) for _ in range(ODD_BATCH_RECORDS)]
    if chosen.random() < 0.2:
        # Cut inside a character, so that only together are they text.
        records[:2] = [b'{"name":"\xc3', b'\xa4"}']
    return records


def epochs_of(schema: pa.Schema, chosen: random.Random) -> dict[str, str]:
    stamps = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    unit = chosen.choice(("epoch_s", "epoch_ms", "epoch_us"))
    is_used = stamps and chosen.random() < 0.3 and stamps[0].isprintable()
    return {stamps[0]: unit} if is_used else {}


def bits(array: Any) -> Any:
    """Floats as their bits, because -0.0 equals 0.0."""
    if pa.types.is_floating(array.type):
        return array.view(pa.int64() if pa.types.is_float64(array.type) else pa.int32())
    return array


def check_equal(native: DecodedValues, python: DecodedValues, count: int) -> None:
    native.rows.validate(full=True)
    assert native.proposed_schema == python.proposed_schema
    if python.proposed_schema is not None:
        return
    assert native.failures == python.failures
    assert native.rows.schema.equals(python.rows.schema, check_metadata=True)
    places = [
        np.arange(count) if one.row_indices is None else one.row_indices.to_numpy()
        for one in (native, python)
    ]
    assert np.array_equal(*places)
    for ours, theirs in zip(native.rows.columns, python.rows.columns, strict=True):
        assert bits(ours).equals(bits(theirs)), ours.type


class Fuzz:
    """Counts what was compared."""

    def __init__(self, seed: int, batch_records: int) -> None:
        self.chosen = random.Random(seed)
        self.batch_records = batch_records
        self.record_count = self.certain_count = self.failure_count = 0

    def round(self) -> None:
        """Compare flat records, and fewer that are nested."""
        self._compare(Shape.row(self.chosen, 0), self.batch_records)
        self._compare(Shape.row(self.chosen), min(self.batch_records, NESTED_BATCH_RECORDS))

    def _compare(self, shape: Shape, good_count: int) -> None:
        """Compare a batch of good records, one of odd ones, and one of both, of one schema."""
        chosen = self.chosen
        schema = pa.schema(list(shape.type))
        may_add = bool(chosen.randrange(2))
        formats = epochs_of(schema, chosen)
        python = JsonDecoder(schema, time_formats=formats, may_add_columns=may_add)
        native = native_decoder(schema, time_formats=formats, may_add_columns=may_add)
        assert isinstance(native, NativeJsonDecoder)
        # Timestamps are spelled as texts here, so that with a time format no record is good.
        good = good_records(shape, chosen, MIXED_BATCH_RECORDS if formats else good_count)
        mixed = mixed_records(good, shape, chosen)
        for records in (good, mixed, odd_records(shape, chosen)):
            values = pa.array([b"{", *records, b'"}'], pa.binary()).slice(1, len(records))
            expected = python.decode(values)
            check_equal(native.decode(values), expected, len(records))
            self.record_count += len(records)
            self.failure_count += len(expected.failures)
            self.certain_count += len(native._reader.read(values)[1])


def test_both_make_the_same_of_records_of_any_kind(seed: int) -> None:
    fuzz = Fuzz(seed, BATCH_RECORDS)
    for _ in range(ROUNDS):
        fuzz.round()

    # Otherwise it would have been Python beside Python, or good records alone.
    assert fuzz.certain_count > fuzz.record_count / 2
    assert fuzz.failure_count > ROUNDS * ODD_BATCH_RECORDS / 20


@pytest.mark.soak
def test_both_make_the_same_for_as_long_as_told(
    seed: int, soak_seconds: float, record_property
) -> None:
    fuzz = Fuzz(seed, SOAK_BATCH_RECORDS)
    deadline = time.monotonic() + soak_seconds
    while time.monotonic() < deadline:
        fuzz.round()
    record_property("records", fuzz.record_count)
    record_property("natively", fuzz.certain_count)
    record_property("failures", fuzz.failure_count)


def test_a_panic_in_the_wheel_is_an_exception_that_quotes_nothing() -> None:
    library: Any = NATIVE.library

    with pytest.raises(RuntimeError, match=r"^panicked at src.\w+\.rs:\d+$"):
        library.panic()
