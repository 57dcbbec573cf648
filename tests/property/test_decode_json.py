"""Properties of the JSON decoder.

Goal: the verdict on a record is that of the documented rules, the row is what Python's own JSON
reader sees, and neither depends on the records beside it.
Method: build records from fields that fit or do not fit one schema with every kind of column, spell
them freely, damage some of them byte by byte, mix them into batches, and compare the batch with the
same records decoded one by one and with a reference decoder written here, record by record, from
`json`, `decimal`, `datetime`, `uuid` and `base64`.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import pyarrow as pa
from hypothesis import event, given, settings
from hypothesis import strategies as st

from k2i_core.decode.json_decoder import JsonDecoder
from tests.json_paths import both_json_paths  # noqa: F401 - runs by itself
from tests.property.dear import dear
from tests.property.verdicts import verdicts

TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
ITEM = pa.struct(
    [
        pa.field("sku", pa.string(), nullable=False),
        pa.field("price", pa.decimal128(10, 2)),
        pa.field("at", TIMESTAMPTZ),
    ]
)
ROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("count", pa.int32()),
        pa.field("share", pa.float64()),
        pa.field("ratio", pa.float32()),
        pa.field("flag", pa.bool_()),
        pa.field("name", pa.string()),
        pa.field("amount", pa.decimal128(38, 3)),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("local", pa.timestamp("us")),
        pa.field("seen", TIMESTAMPTZ),
        pa.field("epoch", TIMESTAMPTZ),
        pa.field("key", pa.uuid()),
        pa.field("blob", pa.binary()),
        pa.field("tag", pa.binary(2)),
        pa.field("numbers", pa.list_(pa.field("element", pa.int64()))),
        pa.field("items", pa.list_(pa.field("element", ITEM, nullable=False))),
        pa.field(
            "place",
            pa.struct(
                [
                    pa.field("city", pa.string()),
                    pa.field("days", pa.list_(pa.field("element", pa.date32()))),
                ]
            ),
        ),
    ]
)
MAP_SCHEMA = ROW_SCHEMA.append(
    pa.field("labels", pa.map_(pa.string(), pa.field("value", TIMESTAMPTZ, nullable=False)))
)
COUNTS = pa.map_(pa.string(), pa.int32())
SHELF = pa.struct([pa.field("name", pa.string()), pa.field("tags", pa.map_(pa.string(), COUNTS))])
NESTED_MAP_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("labels", pa.map_(pa.string(), pa.float64())),
        pa.field("shelves", pa.list_(pa.field("element", SHELF))),
        pa.field("place", pa.struct([pa.field("labels", COUNTS)])),
    ]
)
EPOCH = datetime.fromisoformat("1970-01-01")
TIME_FORMATS = {"epoch": "epoch_ms"}


class BadRecordError(Exception):
    """The reference refuses a record."""


class Literal(str):
    """A number as it is spelled."""

    __slots__ = ()


def refuse(*_: object) -> None:
    raise BadRecordError


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        refuse()
    return dict(pairs)


def reference_row(value: bytes, schema: pa.Schema) -> dict[str, Any]:
    try:
        tree = json.loads(
            value.decode("utf-8").strip(" \t\r\n"),
            parse_int=Literal,
            parse_float=Literal,
            parse_constant=refuse,
            object_pairs_hook=members,
        )
        json.dumps(tree, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise BadRecordError from error
    return reference_struct(tree, list(schema), "")


def reference_struct(tree: Any, fields: list[Any], path: str) -> dict[str, Any]:
    if not isinstance(tree, dict) or set(tree) - {field.name for field in fields}:
        refuse()
    return {f.name: reference_field(tree.get(f.name), f, f"{path}{f.name}") for f in fields}


def reference_field(tree: Any, field: Any, path: str) -> Any:
    if tree is None:
        return None if field.nullable else refuse()
    kind = field.type
    if pa.types.is_map(kind):
        if not isinstance(tree, dict):
            refuse()
        return [(k, reference_field(v, kind.item_field, f"{path}{{}}")) for k, v in tree.items()]
    if pa.types.is_list(kind):
        if not isinstance(tree, list):
            refuse()
        return [reference_field(below, kind.value_field, f"{path}[]") for below in tree]
    if pa.types.is_struct(kind):
        return reference_struct(tree, list(kind), f"{path}.")
    return reference_leaf(tree, kind, path)


def reference_leaf(tree: Any, kind: Any, path: str) -> Any:
    if pa.types.is_boolean(kind):
        return tree if isinstance(tree, bool) else refuse()
    if path in TIME_FORMATS:
        return in_years(EPOCH, timedelta(milliseconds=whole(tree, 64)), utc=True)
    if pa.types.is_integer(kind):
        return whole(tree, kind.bit_width)
    if pa.types.is_floating(kind):
        return finite(tree, kind)
    if pa.types.is_decimal(kind):
        return exact(tree, kind)
    if not isinstance(tree, str) or isinstance(tree, Literal):
        refuse()
    try:
        return TEXTS[str(kind)](tree)
    except (ValueError, binascii.Error) as error:
        raise BadRecordError from error


def whole(tree: Any, bits: int) -> int:
    if not isinstance(tree, Literal) or not re.fullmatch(r"-?\d+", tree):
        refuse()
    number = int(tree)
    return number if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1) else refuse()  # type: ignore[return-value]


def finite(tree: Any, kind: Any) -> float:
    if not isinstance(tree, Literal):
        refuse()
    number = float(tree)
    if pa.types.is_float32(kind):
        try:
            number = struct.unpack("f", struct.pack("f", number))[0]
        except OverflowError:
            refuse()
    return number if math.isfinite(number) else refuse()  # type: ignore[return-value]


def exact(tree: Any, kind: Any) -> Decimal:
    if not isinstance(tree, str) or not re.fullmatch(
        r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", tree, re.ASCII
    ):
        refuse()
    with localcontext() as context:
        context.prec = 200
        number = Decimal(tree)
        scaled = number.scaleb(kind.scale)
        if scaled != scaled.to_integral_value() or abs(scaled) >= 10**kind.precision:
            refuse()
        return scaled.to_integral_value().scaleb(-kind.scale) + Decimal(0)


def in_years(moment: datetime, shift: timedelta, *, utc: bool) -> datetime:
    try:
        shifted = moment + shift
    except OverflowError as error:
        raise BadRecordError from error
    return shifted.replace(tzinfo=UTC) if utc else shifted


def stamp(text: str, *, utc: bool) -> datetime:
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?"
        r"(Z|[+-]\d\d(?::?\d\d)?)?)?",
        text,
        re.ASCII,
    )
    if match is None or bool(match[6]) != utc:
        refuse()
    assert match is not None
    fraction = int(((match[5] or "") + "000000")[:6])
    moment = datetime.combine(
        date.fromisoformat(match[1]),
        time(int(match[2] or 0), int(match[3] or 0), int(match[4] or 0), fraction),
    )
    zone = match[6] or "Z"
    hours, minutes = (0, 0) if zone == "Z" else (int(zone[1:3]), int(zone[3:].strip(":") or 0))
    if hours > 23 or minutes > 59:
        refuse()
    shift = timedelta(hours=hours, minutes=minutes)
    return in_years(moment, shift if zone[0] == "-" else -shift, utc=utc)


def clock(text: str) -> time:
    match = re.fullmatch(r"(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?", text, re.ASCII)
    if match is None:
        refuse()
    assert match is not None
    fraction = int(((match[4] or "") + "000000")[:6])
    return time(int(match[1]), int(match[2] or 0), int(match[3] or 0), fraction)


def day(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        refuse()
    return date.fromisoformat(text)


def key(text: str) -> UUID:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        refuse()
    return UUID(text)


def blob(text: str) -> bytes:
    if not text.isascii():
        refuse()
    return base64.b64decode(text, validate=True)


def tag(text: str) -> bytes:
    decoded = blob(text)
    return decoded if len(decoded) == 2 else refuse()  # type: ignore[return-value]


TEXTS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "date32[day]": day,
    "time64[us]": clock,
    "timestamp[us]": lambda text: stamp(text, utc=False),
    "timestamp[us, tz=UTC]": lambda text: stamp(text, utc=True),
    "extension<arrow.uuid>": key,
    "binary": blob,
    "fixed_size_binary[2]": tag,
}

# Spellings of values, right and wrong for some column: every field draws from its own and, seldom,
# from all of them.
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(json.dumps) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
).map(lambda text: json.dumps(text, ensure_ascii=False))
DATES = st.sampled_from(
    ["2024-02-29", "2023-02-29", "0001-01-01", "0000-01-01", "9999-12-31", "2024-1-1", ""]
)
ZONES = st.sampled_from(["", "", "Z", "+01", "-0130", "+23:59", "+24:00", "z", " Z", "-00:00"])
CLOCKS = st.sampled_from(
    [
        "00",
        "10:11",
        "10:11:12",
        "23:59:59.9",
        "10:11:12.123456",
        "10:11:12.123456789",
        "10:11:12.",
        "24:00:00",
        "23:59:60",
        "1:2:3",
        "10:60",
        "10:11:12.1234567x",
        "",
    ]
)
STAMPS = st.builds(
    lambda d, s, c, z: f'"{d}{s}{c}{z}"', DATES, st.sampled_from("T  t"), CLOCKS, ZONES
)
NUMBERS = st.one_of(
    st.integers(-(2**64), 2**64).map(str),
    st.integers(-100, 100).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, max_value=10**12).map(str),
    st.sampled_from(["1.0", "1e2", "-0", "1E-2", "1.500", "99999999.99", "123456789.5", "1e39"])
    | st.sampled_from(["NaN", "-Infinity", "01", "+1", "1.", ".5", "1e400", "1e-400", "0e7"])
    | st.sampled_from(["2147483648", "9223372036854775808", "1" * 38, "9" * 35 + ".999", "1" * 36])
    | st.sampled_from(["253402300799999", "253402300800000", "-62135596800001", "3.4028236e38"]),
)
QUOTED = NUMBERS.map(lambda number: f'"{number}"')
BLOBS = st.binary(max_size=4).map(lambda b: f'"{base64.b64encode(b).decode()}"') | st.sampled_from(
    ['"YQ"', '"YQ=="', '"YR=="', '"Y Q="', '"YWI=YWI="', '"-_-_"', '"===="', '"YWJj\\n"']
)
KEYS = st.uuids().map(lambda key: f'"{key}"') | st.sampled_from(
    ['"123e4567e89b12d3a456426614174000"', '"{123e4567-e89b-12d3-a456-426614174000}"', '"x"']
)
WORDS = st.sampled_from(["null", "true", "false", "{}", "[]", "nul", "True", '"\\ud800"', '"\\x"'])
ANYTHING = st.one_of(STRINGS, STAMPS, NUMBERS, QUOTED, BLOBS, KEYS, WORDS)


def array_of(elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(elements, max_size=3).map(lambda parts: f"[{','.join(parts)}]")


def spell_object(pairs: list[tuple[str, str]], space: str) -> str:
    return "{" + ",".join(f'{space}"{name}"{space}:{value}' for name, value in pairs) + space + "}"


@st.composite
def objects(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[str]], required: str) -> str:
    names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True))
    if required and required not in names and not draw(rarely):
        names.append(required)
    pairs = [(name, draw(ANYTHING if draw(rarely) else fields[name])) for name in names]
    if draw(rarely):
        pairs.append((draw(st.sampled_from([*names, "extra", "i\\u0064"])), draw(ANYTHING)))
    return spell_object(pairs, draw(st.sampled_from(["", " ", "\n", "\t\r\n"])))


rarely = st.integers(0, 15).map(lambda number: number == 15)
FIELDS = {
    "id": st.integers(-(2**63), 2**63 - 1).map(str),
    "count": st.integers(-(2**31), 2**31 - 1).map(str),
    "share": NUMBERS,
    "ratio": NUMBERS,
    "flag": st.sampled_from(["true", "false", "null"]),
    "name": STRINGS,
    "amount": NUMBERS | QUOTED,
    "day": DATES.map(lambda text: f'"{text}"'),
    "clock": CLOCKS.map(lambda text: f'"{text}"'),
    "local": STAMPS,
    "seen": STAMPS,
    "epoch": st.integers(-(10**14), 10**15).map(str),
    "key": KEYS,
    "blob": BLOBS,
    "tag": BLOBS,
    "numbers": array_of(st.integers(-9, 9).map(str) | st.just("null")),
    "items": array_of(objects({"sku": STRINGS, "price": NUMBERS | QUOTED, "at": STAMPS}, "sku")),
    "place": objects({"city": STRINGS, "days": array_of(DATES.map(lambda text: f'"{text}"'))}, ""),
}
SIMPLE = {name: FIELDS[name] for name in ("id", "count", "name", "numbers", "flag")}
LABELS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), STAMPS), max_size=2)
MAP_FIELDS = SIMPLE | {"labels": LABELS.map(lambda pairs: spell_object(pairs, ""))}
LABEL_NAMES = st.sampled_from(["a", "b", "key", "value", "\\u0061", '\\"', "labels", ""])


def maps_of(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(LABEL_NAMES, values), max_size=3)
    return st.tuples(pairs, st.sampled_from(["", " ", "\n"])).map(
        lambda drawn: spell_object(*drawn)
    )


SMALL = st.sampled_from(["1", "-7", "1", "null", "7", "2", "1.5", "NaN", "{}", '"x"'])
SMALL_MAPS = maps_of(SMALL)
SOUP = st.lists(
    st.sampled_from(['"a"', '"b":1', '"key"', '"a":1', "1", "null", *"{}[]:,,", " ", "{}", "\\"]),
    max_size=6,
).map("".join)
ODD_MAPS = (
    *("[]", "[}", "{]", "[1]", "{null}", "{ null }", "{null:1}", '{"a":1:2}', '{"a":1]', "{ }"),
    *('{"a" "b":1}', '{"a","value":1}', '{"a":1,}', '{,"a":1}', "{:1}", "{1:1}", '"a"', "{null:1}"),
    *('[{"key":"a","value":1}]', '{"a":1,"a":2}', '{"a":{"b":1,"b":1}}', '{"a":{"b":1}},"c":{}}'),
    *('{"a":{"b":1},"c":{"d":2, "e":null}}', '{"a":{},"b":{"c":1}}', '{"\\u0061":{},"a":{}}'),
)
MAP_SPELLINGS = st.one_of(
    SMALL_MAPS,
    SOUP.map(lambda soup: "{" + soup + "}"),
    SOUP.map(lambda soup: '{"b":1,' + soup + "}"),
    SOUP,
    st.sampled_from(ODD_MAPS),
)
NESTED_MAP_FIELDS = {
    "labels": MAP_SPELLINGS,
    "l\\u0061bels": SMALL_MAPS,
    "shelves": array_of(
        objects({"name": STRINGS, "tags": MAP_SPELLINGS | maps_of(MAP_SPELLINGS)}, "")
    ),
    "place": objects({"labels": SMALL_MAPS, "lab\\u0065ls": SMALL_MAPS}, ""),
}


@st.composite
def map_records(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(sorted(NESTED_MAP_FIELDS)))
    return f'{{"id":1,"{name}":{draw(NESTED_MAP_FIELDS[name])}}}'.encode()


DAMAGE = st.sampled_from([b"{", b"}", b"[", b"]", b",", b'"', b"\\", b" ", b"\n", b"null", b"\x00"])
ODD = DAMAGE | st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"}{", b"} null {", b"0", b"-"])


@st.composite
def records(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[str]]) -> bytes:
    record = draw(objects(draw(st.sampled_from([fields, SIMPLE])), "id")).encode()
    while draw(rarely) or draw(rarely):
        place = draw(st.integers(0, len(record)))
        end = place + draw(st.integers(0, 2))
        record = record[:place] + draw(ODD) + record[end:]
    if draw(rarely):
        record = draw(st.sampled_from([b"", b"  ", b"null", b"7", b"[]", record + record, b"{}"]))
    return draw(st.sampled_from([b"", b"", b" ", b"\r\n"])) + record


def expected(value: bytes, schema: pa.Schema) -> Any:
    try:
        return reference_row(value, schema)
    except BadRecordError:
        return None


def check_batch(values: list[bytes], schema: pa.Schema) -> None:
    time_formats = {k: v for k, v in TIME_FORMATS.items() if k in schema.names}
    decoder = JsonDecoder(schema, time_formats=time_formats)
    array = pa.array([b"{", *values, b"}"], pa.binary()).slice(1, len(values))

    together = verdicts(decoder.decode(array), len(values))

    alone = [verdicts(decoder.decode(pa.array([v], pa.binary())), 1)[0] for v in values]
    assert together == alone
    for value, outcome in zip(values, together, strict=True):
        row = expected(value, schema)
        event(outcome[0] if isinstance(outcome, tuple) else "row")
        assert (outcome if isinstance(outcome, dict) else None) == row, (value, outcome, row)
        assert isinstance(outcome, dict) or outcome[0] != "undecodable", (value, outcome)


@dear
@given(st.lists(records(FIELDS), min_size=1, max_size=12))
def test_a_batch_is_its_records_one_by_one_and_each_is_what_python_reads(
    values: list[bytes],
) -> None:
    check_batch(values, ROW_SCHEMA)


@dear
@given(st.lists(records(MAP_FIELDS), min_size=1, max_size=8))
def test_the_same_holds_with_a_map(values: list[bytes]) -> None:
    check_batch(values, MAP_SCHEMA)


@settings(max_examples=10)
@given(st.permutations(ODD_MAPS))
def test_the_same_holds_for_every_odd_spelling_of_a_map(spellings: list[str]) -> None:
    labels = [f'{{"id":1,"labels":{spelling}}}'.encode() for spelling in spellings]
    tags = [f'{{"id":1,"shelves":[{{"tags":{spelling}}}]}}'.encode() for spelling in spellings]
    check_batch([*labels, *tags], NESTED_MAP_SCHEMA)


@dear
@given(st.lists(map_records(), min_size=1, max_size=12))
def test_the_same_holds_with_maps_inside_maps_lists_and_structs(values: list[bytes]) -> None:
    check_batch(values, NESTED_MAP_SCHEMA)
