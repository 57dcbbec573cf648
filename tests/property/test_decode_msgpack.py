"""Properties of the MessagePack decoder.

Goal: a record is a row with exactly the values that were written, in whatever width, or a failure;
growing takes nothing away; and neither depends on the records beside it, nor on whether records are
passed over together or one by one.
Method: random values written by a writer of the tests' own after the specification, damaged and
mixed, decoded in large batches, in small ones and alone, and read back.
"""

import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from k2i_core.decode.msgpack_decoder import MsgpackDecoder
from k2i_core.decode.msgpack_tokens import STRAGGLERS
from tests.property.msgpack_records import Extension, Pairs, encode
from tests.property.verdicts import verdicts

ITEM = pa.struct([pa.field("sku", pa.string(), nullable=False), pa.field("count", pa.int32())])
ROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("count", pa.int32()),
        pa.field("ratio", pa.float32()),
        pa.field("share", pa.float64()),
        pa.field("flag", pa.bool_()),
        pa.field("name", pa.string()),
        pa.field("blob", pa.binary()),
        pa.field("amount", pa.decimal128(20, 0)),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("key", pa.uuid()),
        pa.field("items", pa.list_(pa.field("element", ITEM, nullable=False))),
        pa.field("place", pa.struct([pa.field("days", pa.list_(pa.field("element", pa.int64())))])),
        pa.field("labels", pa.map_(pa.string(), pa.int32())),
    ]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
INTS = st.integers(-(2**31), 2**31 - 1) | st.integers(-40, 140)
LONGS = st.integers(-(2**63), 2**63 - 1) | INTS
SINGLES = st.floats(width=32)
ITEMS = st.fixed_dictionaries({"sku": TEXTS}, optional={"count": INTS | st.none()})
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "count": INTS,
    "ratio": SINGLES,
    "share": st.floats(),
    "flag": st.booleans(),
    "name": TEXTS,
    "blob": st.binary(max_size=5),
    "amount": st.integers(-(2**63), 2**64 - 1),
    "at": st.datetimes(timezones=st.just(UTC)),
    "key": st.uuids().map(str),
    "items": st.lists(ITEMS, max_size=3),
    "place": st.fixed_dictionaries({"days": st.lists(LONGS | st.none(), max_size=3)}),
    "labels": st.dictionaries(TEXTS, INTS | st.none(), max_size=3),
}
RECORDS = st.fixed_dictionaries(
    {"id": LONGS}, optional={name: each | st.none() for name, each in GOOD.items()}
)
ANYTHING = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), TEXTS, st.binary(max_size=3), st.floats()),
        st.integers(-(2**63), 2**64 - 1),
        st.datetimes(timezones=st.just(UTC)),
        st.sampled_from([Extension(b"\x01a"), Extension(b"\xffabc"), Extension(b"\xff" * 13)]),
    ),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(TEXTS, below, max_size=3)
        | st.lists(st.tuples(st.sampled_from(["a", "a", 1, b"b"]), below), max_size=2).map(Pairs)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from([*GOOD, "id", "x", "y", "Y", "place.days", ""])
ODD = st.dictionaries(NAMES, ANYTHING, max_size=4).map(lambda record: {"id": 1} | record) | ANYTHING
SEEDS = st.integers(0, 2**32)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(below) for name, below in value.items() if below is not None}
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return str(int(value))
    return None if value is None else str(value)


def expected(record: dict[str, Any]) -> Any:
    shown = dict(record)
    if isinstance(shown.get("labels"), dict):
        shown["labels"] = list(shown["labels"].items())
    return plain(shown)


def decode(values: list[bytes], schema: pa.Schema, *, may_add: bool = False) -> Any:
    decoder = MsgpackDecoder(schema, may_add_columns=may_add, time_formats={})
    array = pa.array([b"\x81", *values, b"\xc0"], pa.binary()).slice(1, len(values))
    return decoder.decode(array)


def damaged(value: bytes, chosen: random.Random) -> bytes:
    match chosen.randrange(4):
        case 0:
            return value[: chosen.randrange(len(value) + 1)]
        case 1:
            return value + b"\xc0"
        case _:
            at = chosen.randrange(len(value))
            return value[:at] + bytes([chosen.randrange(256)]) + value[at + 1 :]


@settings(max_examples=25)
@given(st.lists(RECORDS, min_size=1, max_size=6), SEEDS)
def test_rows_are_what_was_written_in_any_width(records: list[dict[str, Any]], seed: int) -> None:
    chosen = random.Random(seed)
    # More than are passed over one by one, so that both ways are taken.
    values = [encode(chosen.choice(records), chosen) for _ in range(STRAGGLERS)]
    values += [encode(record, chosen) for record in records]
    found = verdicts(decode(values, ROW_SCHEMA), len(values))[STRAGGLERS:]
    for record, row in zip(records, found, strict=True):
        assert isinstance(row, dict), row
        assert plain(row) == expected(record)


@example([{"id": 1, "count": 2**40}, {"id": 1, "ratio": 1e300}, {"id": 1, "x": [[None]]}], 0)
@example([{"id": 1, "count": 2**63}, {"id": 1, "at": Extension(b"\xff" * 13)}], 1)
@settings(max_examples=30)
@given(st.lists(RECORDS | ODD, min_size=1, max_size=6), SEEDS)
def test_a_batch_is_its_records_one_by_one(records: list[Any], seed: int) -> None:
    chosen = random.Random(seed)
    values = [encode(record, chosen) for record in records]
    values = [damaged(value, chosen) if chosen.random() < 0.2 else value for value in values]
    many = values * (1 + STRAGGLERS // len(values))
    for may_add in (False, True):
        schema = ROW_SCHEMA
        for _ in range(3):
            decoded = decode(many, schema, may_add=may_add)
            if decoded.proposed_schema is None:
                break
            schema = decoded.proposed_schema
        together = verdicts(decoded, len(many))
        assert repr(together[: len(values)] * (len(many) // len(values))) == repr(together)
        for value, verdict in zip(values, together, strict=False):
            event(verdict[0] if isinstance(verdict, tuple) else "row")
            [alone] = verdicts(decode([value], schema, may_add=may_add), 1)
            assert repr(alone) == repr(verdict)
            assert alone[0] != "undecodable" if isinstance(alone, tuple) else True


@settings(max_examples=25)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), ANYTHING, max_size=3), max_size=5), SEEDS)
def test_columns_grow_out_of_nothing_and_hold_what_was_written(
    records: list[dict[str, Any]], seed: int
) -> None:
    chosen = random.Random(seed)
    values = [encode(record, chosen) for record in records]
    schema = pa.schema([])
    for _ in range(3):
        decoded = decode(values, schema, may_add=True)
        if decoded.proposed_schema is None:
            break
        schema = decoded.proposed_schema
    assert decoded.proposed_schema is None
    found = verdicts(decoded, len(values))
    for record, row in zip(records, found, strict=True):
        if not isinstance(row, dict):
            continue
        for name, value in record.items():
            if isinstance(value, bytes) and not isinstance(value, Extension):
                assert row[name] in (value, value.decode(errors="ignore"))
            elif isinstance(value, int) and not isinstance(value, bool):
                kept = row[name]
                assert kept == value or (
                    isinstance(kept, float) and math.isclose(kept, value, rel_tol=1e-15)
                )
            elif isinstance(value, str | datetime):
                assert str(row[name])[:10] == str(value)[:10]


def test_bytes_of_the_specification() -> None:
    record = bytes.fromhex(
        "84 a26964 01 a46e616d65 d903 616263 a5636f756e74 d1 ff7f a26174 d7ff 00000000 00000001"
    )
    [row] = verdicts(decode([record], ROW_SCHEMA), 1)
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": 1,
        "name": "abc",
        "count": -129,
        "at": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
    }


def test_a_header_that_claims_billions_costs_nothing() -> None:
    hostile = [b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff\xc0", b"\xc6\xff\xff\xff\xffa"]
    deep = b"\x82\xa2id\x01\xa1x" + b"\x91" * 2_000 + b"\xc0"
    long_ = b"\x82\xa2id\x01\xa1x\xdd" + (2_000).to_bytes(4, "big") + b"\x01" * 2_000
    values = [*hostile, deep, long_, encode({"id": 1}, random.Random(0))]
    found = verdicts(decode(values * 10, ROW_SCHEMA), 10 * len(values))
    reasons = [*["invalid_encoding"] * 3, "nested_too_deep", "unknown_field"]
    assert [verdict[0] for verdict in found[:5]] == reasons
    assert found[5]["id"] == 1
