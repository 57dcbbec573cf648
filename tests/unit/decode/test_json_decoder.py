"""The JSON decoder on records that are known to go wrong somewhere.

Goal: every kind of bad record is a failure of its class, with the field named and nothing quoted,
and the good records beside it are rows at their own places.
Method: the real decoder on small batches; each bad record is tried alone, between good ones, and
with all other bad ones.
"""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.errors import ConfigError
from k2i_core.records import DecodedValues
from tests.json_paths import both_json_paths  # noqa: F401 - runs by itself

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
        pa.field("ratio", pa.float32()),
        pa.field("share", pa.float64()),
        pa.field("flag", pa.bool_()),
        pa.field("name", pa.string()),
        pa.field("amount", pa.decimal128(10, 2)),
        pa.field("wide", pa.decimal128(38, 2)),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("local", pa.timestamp("us")),
        pa.field("seen", TIMESTAMPTZ),
        pa.field("seconds", TIMESTAMPTZ),
        pa.field("micros", pa.timestamp("us")),
        pa.field("key", pa.uuid()),
        pa.field("blob", pa.binary()),
        pa.field("tag", pa.binary(2)),
        pa.field("items", pa.list_(pa.field("element", ITEM, nullable=False))),
        pa.field(
            "place",
            pa.struct(
                [
                    pa.field("city", pa.string(), nullable=False),
                    pa.field("days", pa.list_(pa.field("element", pa.date32()))),
                ]
            ),
        ),
    ]
)
TIME_FORMATS = {"seconds": "epoch_s", "micros": "epoch_us"}
MAP_SCHEMA = ROW_SCHEMA.append(
    pa.field("labels", pa.map_(pa.string(), pa.field("value", pa.int32(), nullable=False)))
)
SCHEMAS = [pytest.param(ROW_SCHEMA, id="columns"), pytest.param(MAP_SCHEMA, id="rows")]


def naive(*parts: int) -> datetime:
    year, month, day, *clock = parts
    return datetime(year, month, day, *clock, tzinfo=UTC).replace(tzinfo=None)


BAD = {
    b"": ("invalid_json", "empty"),
    b" \r\n\t": ("invalid_json", "empty"),
    b"{": ("invalid_json", "not one json value"),
    b"}": ("invalid_json", "not one json value"),
    b'{"id":1': ("invalid_json", "not one json value"),
    b'{"id":1,}': ("invalid_json", "not one json value"),
    b'{"id":1}}': ("invalid_json", "extra data"),
    b'{"id":1} x': ("invalid_json", "extra data"),
    b'{"id":1}{"id":2}': ("invalid_json", "extra data"),
    b'{"id":1}\n{"id":2}': ("invalid_json", "extra data"),
    b'{"id":1} null {"id":2}': ("invalid_json", "extra data"),
    b'{"id":1}\nnull\n{"id":2}': ("invalid_json", "extra data"),
    b'{"id":1},{"id":2}': ("invalid_json", "extra data"),
    b'\xef\xbb\xbf{"id":1}': ("invalid_json", "not one json value"),
    b'{"id":1,"name":"a\nb"}': ("invalid_json", "control character"),
    b'{"id":1,"name":"a\x00b"}': ("invalid_json", "control character"),
    b'{"id":1,"name":"\\x"}': ("invalid_json", "escape"),
    b'{"id":1,"name":"\\ud800"}': ("invalid_json", "surrogate"),
    b'{"id":1,"name":"\\udc00\\ud800"}': ("invalid_json", "surrogate"),
    b'{"id":1,"share":NaN}': ("invalid_json", "NaN"),
    b'{"id":1,"share":-Infinity}': ("invalid_json", "Infinity"),
    b'{"id":01}': ("invalid_json", "not one json value"),
    b"{'id':1}": ("invalid_json", "not one json value"),
    b'{"id":1/**/}': ("invalid_json", "not one json value"),
    b'{"id":1,"name":"\xff"}': ("invalid_utf8", "byte=16"),
    b'{"id":1,"name":"\xc0\x80"}': ("invalid_utf8", "byte=16"),
    b'{"id":1,"name":"\xed\xa0\x80"}': ("invalid_utf8", "byte=16"),
    b"null": ("not_an_object", "got null"),
    b"7": ("not_an_object", "got number"),
    b'"{}"': ("not_an_object", "got string"),
    b'[{"id":1}]': ("not_an_object", "got array"),
    b'{"id":1,"id":2}': ("duplicate_key", "id"),
    b'{"id":1,"\\u0069d":1}': ("duplicate_key", "id"),
    b'{"id":null,"id":2}': ("duplicate_key", "id"),
    b'{"id":1,"items":[{"sku":"a","sku":"b"}]}': ("duplicate_key", "items[].sku"),
    b"{}": ("required_field_missing", "id: "),
    b'{"id":null}': ("required_field_missing", "id: "),
    b'{"id":1,"items":[null]}': ("required_field_missing", "items[]: "),
    b'{"id":1,"items":[{"sku":"a"},{}]}': ("required_field_missing", "items[].sku: "),
    b'{"id":1,"place":{}}': ("required_field_missing", "place.city: "),
    b'{"id":1,"extra":2}': ("unknown_field", "extra: "),
    b'{"id":1,"extra":null}': ("unknown_field", "extra: "),
    b'{"id":1,"items":[{"sku":"a","extra":1}]}': ("unknown_field", "items[].extra: "),
    b'{"id":1,"place":{"city":"a","extra":[]}}': ("unknown_field", "place.extra: "),
    b'{"id":"1"}': ("wrong_type", "id: expected long, got string"),
    b'{"id":1.0}': ("wrong_type", "id: expected long, got a number with a fraction"),
    b'{"id":1e2}': ("wrong_type", "id: "),
    b'{"id":true}': ("wrong_type", "id: expected long, got boolean"),
    b'{"id":1,"flag":1}': ("wrong_type", "flag: expected boolean, got number"),
    b'{"id":1,"name":1}': ("wrong_type", "name: expected string, got number"),
    b'{"id":1,"name":{}}': ("wrong_type", "name: expected string, got object"),
    b'{"id":1,"share":"1.5"}': ("wrong_type", "share: expected double, got string"),
    b'{"id":1,"amount":true}': ("wrong_type", "amount: expected decimal(10,2), got boolean"),
    b'{"id":1,"items":{}}': ("wrong_type", "items: "),
    b'{"id":1,"items":[[]]}': ("wrong_type", "items[]: "),
    b'{"id":1,"place":[]}': ("wrong_type", "place: "),
    b'{"id":1,"day":19723}': ("wrong_type", "day: expected date, got number"),
    b'{"id":1,"seconds":"1"}': ("wrong_type", "seconds: expected timestamptz, got string"),
    b'{"id":1,"seconds":1.5}': ("wrong_type", "seconds: "),
    b'{"id":9223372036854775808}': ("number_out_of_range", "id: "),
    b'{"id":1,"count":2147483648}': ("number_out_of_range", "count: "),
    b'{"id":1,"ratio":1e39}': ("number_out_of_range", "ratio: "),
    b'{"id":1,"share":1e400}': ("number_out_of_range", "share: "),
    b'{"id":1,"amount":1.005}': ("number_out_of_range", "amount: expected decimal(10,2)"),
    b'{"id":1,"amount":100000000}': ("number_out_of_range", "amount: "),
    b'{"id":1,"amount":123456789.5}': ("number_out_of_range", "amount: "),
    b'{"id":1,"amount":"-1e8"}': ("number_out_of_range", "amount: "),
    b'{"id":1,"wide":%s}' % (b"1" * 38): ("number_out_of_range", "wide: "),
    # Moved by two digits, this overflows 256 bits.
    b'{"id":1,"wide":%d}' % ((2**256 + 64) // 100): ("number_out_of_range", "wide: "),
    b'{"id":1,"seconds":253402300800}': ("number_out_of_range", "seconds: "),
    b'{"id":1,"seconds":9223372036854775807}': ("number_out_of_range", "seconds: "),
    b'{"id":1,"items":[{"sku":"a","price":1.005}]}': ("number_out_of_range", "items[].price: "),
    b'{"id":1,"amount":"1,5"}': ("invalid_value", "amount: "),
    b'{"id":1,"amount":""}': ("invalid_value", "amount: "),
    b'{"id":1,"amount":"NaN"}': ("invalid_value", "amount: "),
    b'{"id":1,"day":"2023-02-29"}': ("invalid_value", "day: expected date"),
    b'{"id":1,"day":"0000-01-01"}': ("invalid_value", "day: expected date"),
    b'{"id":1,"clock":"24:00"}': ("invalid_value", "clock: expected time"),
    b'{"id":1,"clock":"10:11:12Z"}': ("invalid_value", "clock: expected time"),
    b'{"id":1,"local":"2024-01-01T00:00:00Z"}': ("invalid_value", "local: expected timestamp,"),
    b'{"id":1,"seen":"2024-01-01T00:00:00"}': ("invalid_value", "seen: expected timestamptz,"),
    b'{"id":1,"seen":"2024-01-01T23:59:60Z"}': ("invalid_value", "seen: "),
    b'{"id":1,"seen":"0001-01-01T00:00:00+01:00"}': ("invalid_value", "seen: "),
    b'{"id":1,"seen":"9999-12-31T23:59:59-01:00"}': ("invalid_value", "seen: "),
    b'{"id":1,"seen":"2024-01-01T00:00:00.1234567"}': ("invalid_value", "seen: "),
    b'{"id":1,"items":[{"sku":"a","at":"soon"}]}': ("invalid_value", "items[].at: "),
    b'{"id":1,"place":{"city":"a","days":["2024-01-01","?"]}}': ("invalid_value", "place.days[]: "),
    b'{"id":1,"key":"123e4567e89b12d3a456426614174000"}': ("invalid_value", "key: expected uuid"),
    b'{"id":1,"blob":"YQ"}': ("invalid_value", "blob: expected binary"),
    b'{"id":1,"blob":"YQ==YQ=="}': ("invalid_value", "blob: expected binary"),
    b'{"id":1,"blob":"-_-_"}': ("invalid_value", "blob: expected binary"),
    b'{"id":1,"tag":"YQ=="}': ("invalid_value", "tag: expected fixed[2]"),
}

GOOD = {
    b'{"id":9007199254740993}': {"id": 9007199254740993},
    b' \t\r\n{ "id" : -9223372036854775808 }\n': {"id": -(2**63)},
    b'{"\\u0069d":-0}': {"id": 0},
    b'{"id":1,"name":null,"items":null,"place":null}': {"id": 1},
    b'{"id":1,"name":"\\u0000\\ud83d\\ude00\xc3\xa9\\n"}': {"id": 1, "name": "\0😀é\n"},
    b'{"id":1,"name":"}\\n{"}': {"id": 1, "name": "}\n{"},
    b'{"id":1,"name":""}': {"id": 1, "name": ""},
    b'{"id":1,"flag":false,"count":-2147483648}': {"id": 1, "flag": False, "count": -(2**31)},
    b'{"id":1,"share":1e-400,"ratio":0.5}': {"id": 1, "share": 0.0, "ratio": 0.5},
    b'{"id":1,"share":12345678901234567890}': {"id": 1, "share": 12345678901234567890.0},
    b'{"id":1,"amount":-99999999.99}': {"id": 1, "amount": Decimal("-99999999.99")},
    b'{"id":1,"amount":"0.10"}': {"id": 1, "amount": Decimal("0.10")},
    b'{"id":1,"amount":12345678.2500}': {"id": 1, "amount": Decimal("12345678.25")},
    b'{"id":1,"amount":1e7}': {"id": 1, "amount": Decimal(10000000)},
    b'{"id":1,"wide":%s.99}' % (b"9" * 36): {"id": 1, "wide": Decimal("9" * 36 + ".99")},
    b'{"id":1,"day":"2024-02-29"}': {"id": 1, "day": date(2024, 2, 29)},
    b'{"id":1,"clock":"10:11"}': {"id": 1, "clock": time(10, 11)},
    b'{"id":1,"clock":"10:11:12.123456789"}': {"id": 1, "clock": time(10, 11, 12, 123456)},
    b'{"id":1,"local":"2024-01-01"}': {"id": 1, "local": naive(2024, 1, 1)},
    b'{"id":1,"local":"2024-01-01 10:11:12.5"}': {
        "id": 1,
        "local": naive(2024, 1, 1, 10, 11, 12, 500000),
    },
    b'{"id":1,"seen":"1969-12-31T23:59:59.9999999Z"}': {
        "id": 1,
        "seen": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    },
    b'{"id":1,"seen":"2024-01-01T01:00:00+0130"}': {
        "id": 1,
        "seen": datetime(2023, 12, 31, 23, 30, tzinfo=UTC),
    },
    b'{"id":1,"seconds":-1,"micros":1}': {
        "id": 1,
        "seconds": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        "micros": naive(1970, 1, 1, 0, 0, 0, 1),
    },
    b'{"id":1,"key":"123E4567-e89b-12d3-a456-426614174000"}': {
        "id": 1,
        "key": UUID("123e4567-e89b-12d3-a456-426614174000"),
    },
    b'{"id":1,"blob":"","tag":"YWI="}': {"id": 1, "blob": b"", "tag": b"ab"},
    b'{"id":1,"blob":"+/+/YQ=="}': {"id": 1, "blob": b"\xfb\xff\xbfa"},
    b'{"id":1,"items":[]}': {"id": 1, "items": []},
    b'{"id":1,"items":[{"sku":"a","price":"1.5","at":"2024-01-01T00Z"},{"sku":""}]}': {
        "id": 1,
        "items": [
            {"sku": "a", "price": Decimal("1.50"), "at": datetime(2024, 1, 1, tzinfo=UTC)},
            {"sku": "", "price": None, "at": None},
        ],
    },
    b'{"id":1,"place":{"days":[null,"2024-01-01"],"city":"a"}}': {
        "id": 1,
        "place": {"city": "a", "days": [None, date(2024, 1, 1)]},
    },
}


def decode(values: list[bytes], schema: pa.Schema = ROW_SCHEMA) -> DecodedValues:
    return JsonDecoder(schema, time_formats=TIME_FORMATS).decode(pa.array(values, pa.binary()))


def row(fields: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    return dict.fromkeys(schema.names) | fields


def interleave(first: list[bytes], second: list[bytes]) -> Iterator[bytes]:
    for index, value in enumerate(first):
        yield value
        yield second[index % len(second)]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("value", BAD, ids=repr)
def test_a_bad_record_is_a_failure_alone_and_between_good_ones(
    value: bytes, schema: pa.Schema
) -> None:
    error_class, words = BAD[value]
    good = b'{"id":7,"name":"good"}'

    alone = decode([value], schema)
    between = decode([good, value, good], schema)

    assert alone.rows.num_rows == 0
    assert alone.row_indices is not None
    assert alone.row_indices.to_pylist() == []
    (failure,) = alone.failures
    assert (failure.index, failure.error_class) == (0, error_class)
    assert words in failure.message
    assert between.row_indices is not None
    assert between.row_indices.to_pylist() == [0, 2]
    assert between.rows.to_pylist() == [row({"id": 7, "name": "good"}, schema)] * 2
    assert [(f.index, f.error_class, f.message) for f in between.failures] == [
        (1, error_class, failure.message)
    ]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("value", GOOD, ids=repr)
def test_a_good_record_is_a_row_with_its_exact_values(value: bytes, schema: pa.Schema) -> None:
    decoded = decode([value], schema)

    assert decoded.failures == ()
    assert decoded.row_indices is None
    assert decoded.rows.to_pylist() == [row(GOOD[value], schema)]
    assert decoded.rows.schema.equals(schema, check_metadata=True)
    decoded.rows.validate(full=True)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_good_rows_keep_their_places_among_all_kinds_of_bad_records(schema: pa.Schema) -> None:
    values = list(interleave(list(BAD), list(GOOD)))

    decoded = decode(values, schema)

    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == list(range(1, len(values), 2))
    assert decoded.rows.to_pylist() == [row(GOOD[v], schema) for v in values[1::2]]
    assert [failure.index for failure in decoded.failures] == list(range(0, len(values), 2))
    assert [failure.error_class for failure in decoded.failures] == [c for c, _ in BAD.values()]


def test_an_empty_value_and_a_double_one_do_not_shift_the_rows_between_them() -> None:
    decoded = decode([b'{"id":0}', b"", b'{"id":2}', b'{"id":3}{"id":4}', b'{"id":5}'])

    assert decoded.rows.column("id").to_pylist() == [0, 2, 5]
    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [0, 2, 4]


def test_no_values_are_no_rows() -> None:
    decoded = decode([])

    assert decoded.rows.num_rows == 0
    assert decoded.rows.schema.equals(ROW_SCHEMA)
    assert (decoded.row_indices, decoded.failures) == (None, ())


def test_a_slice_decodes_as_its_own_values() -> None:
    values = pa.array([b"{", b'{"id":1}', b"}", b' {"id":3}', b"{"], pa.binary()).slice(1, 3)

    decoded = JsonDecoder(ROW_SCHEMA, time_formats=TIME_FORMATS).decode(values)

    assert decoded.rows.column("id").to_pylist() == [1, 3]
    assert [failure.index for failure in decoded.failures] == [1]


def test_messages_name_fields_but_never_show_values() -> None:
    secret = b"hunter2"
    bad = [
        b'{"id":"%s"}' % secret,
        b'{"id":1,"seen":"%s"}' % secret,
        b'{"id":1,"amount":"%s"}' % secret,
        b'{"id":1,"extra":"%s"}' % secret,
        b'{"id":1,"name":"%s' % secret,
        b'{"id":1,"name":"\\u%s"}' % secret,
        b"%s" % secret,
        b'"%s"' % secret,
        b'{"id":1,"name":"\\ud800%s"}' % secret,
    ]

    decoded = decode(bad)

    assert len(decoded.failures) == len(bad)
    assert not any(secret.decode() in failure.message for failure in decoded.failures)


def test_a_hostile_field_name_is_cut_and_escaped_in_the_message() -> None:
    (failure,) = decode([b'{"id":1,"a\\n%s":1}' % (b"x" * 10_000)]).failures

    assert re.fullmatch(r"'a\\nx{78}': .*", failure.message)


def test_a_name_that_needs_an_escape_is_not_read_without_it() -> None:
    schema = pa.schema([pa.field('q"', pa.int64()), pa.field("b\\", pa.int64())])
    values = [rb'{"q\"":1,"b\\":2}', rb'{"q"":1}', rb'{"q\"":1,"b\":2}']

    decoded = JsonDecoder(schema).decode(pa.array(values, pa.binary()))

    assert decoded.rows.to_pylist() == [{'q"': 1, "b\\": 2}]
    assert [failure.index for failure in decoded.failures] == [1, 2]


@pytest.mark.parametrize("may_add_columns", [False, True])
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"id":'])
def test_deep_nesting_is_a_failure_and_no_crash(
    opening: bytes, schema: pa.Schema, *, may_add_columns: bool
) -> None:
    deep = opening * 100_000
    closing = (b"]" if opening == b"[" else b"}" if opening == b'{"a":' else b"}]") * 100_000
    decoder = JsonDecoder(schema, time_formats=TIME_FORMATS, may_add_columns=may_add_columns)
    values = [b'{"id":1,"x":%s1%s}' % (deep, closing), b'{"id":2}', b'{"id":3,"items":%s' % deep]

    decoded = decoder.decode(pa.array(values, pa.binary()))

    assert decoded.rows.column("id").to_pylist() == [2]
    assert [failure.error_class for failure in decoded.failures] == ["nested_too_deep"] * 2


def test_brackets_in_strings_are_not_nesting() -> None:
    (failure,) = decode([b'{"id":"","name":"%s\\""}' % (b"[{" * 100)]).failures

    assert failure.error_class == "wrong_type"


def test_records_of_16_mb_are_decoded_whole() -> None:
    text = b"x" * (16 << 20)
    good, bad = b'{"id":1,"name":"%s"}' % text, b'{"id":1,"name":"%s"' % text

    decoded = decode([good, bad, b'{"id":2}'])

    assert decoded.rows.column("name")[0].as_py() == text.decode()
    assert decoded.rows.column("id").to_pylist() == [1, 2]
    assert [failure.error_class for failure in decoded.failures] == ["invalid_json"]


def test_one_decoder_serves_many_threads() -> None:
    decoder = JsonDecoder(ROW_SCHEMA, time_formats=TIME_FORMATS)
    values = pa.array(list(interleave(list(BAD), list(GOOD))), pa.binary())
    expected = decoder.decode(values)
    answers: list[DecodedValues] = []
    threads = [
        threading.Thread(target=lambda: answers.append(decoder.decode(values))) for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == 4
    assert all(answer.rows.equals(expected.rows) for answer in answers)
    assert all(answer.failures == expected.failures for answer in answers)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (b'{"labels":{"a":1,"":2}}', [("a", 1), ("", 2)]),
        (b'{"labels":{}}', []),
        (b'{"labels":null}', None),
        (b'{"labels":{"a":1,"a":1}}', "labels.a: the key is there twice"),
        (b'{"labels":{"a":null}}', "labels{}: required, got null"),
        (b'{"labels":{"a":"1"}}', "labels{}: expected int, got string"),
        (b'{"labels":[["a",1]]}', "labels: expected map<string, int not null>, got array"),
    ],
)
def test_an_object_is_a_map_with_its_keys_in_order(value: bytes, outcome: object) -> None:
    schema = pa.schema([MAP_SCHEMA.field("labels")])

    decoded = JsonDecoder(schema).decode(pa.array([b'{"labels":{"z":0}}', value], pa.binary()))

    assert decoded.rows.column("labels")[0].as_py() == [("z", 0)]
    if isinstance(outcome, str):
        assert [failure.message for failure in decoded.failures] == [outcome]
    else:
        assert decoded.rows.column("labels")[1].as_py() == outcome


def test_nested_maps_of_converted_values_are_rebuilt() -> None:
    inner = pa.map_(pa.string(), pa.list_(pa.field("element", pa.uuid())))
    schema = pa.schema([pa.field("outer", pa.map_(pa.string(), inner))])
    key = "123e4567-e89b-12d3-a456-426614174000"

    decoded = JsonDecoder(schema).decode(
        pa.array([b"{}", b'{"outer":{"a":{"b":["%s",null]},"c":null}}' % key.encode()], pa.binary())
    )

    assert decoded.rows.to_pylist() == [
        {"outer": None},
        {"outer": [("a", [("b", [UUID(key), None])]), ("c", None)]},
    ]


def test_a_null_struct_beside_a_map_has_no_values_below_it() -> None:
    place = pa.struct([pa.field("day", pa.date32(), nullable=False), pa.field("key", pa.uuid())])
    schema = MAP_SCHEMA.append(pa.field("where", place))
    values = [b'{"id":1}', b'{"id":2,"where":{"day":"2024-01-01"}}', b'{"id":3,"where":{}}']

    decoded = decode(values, schema)

    assert decoded.rows.column("where").to_pylist() == [
        None,
        {"day": date(2024, 1, 1), "key": None},
    ]
    assert [failure.index for failure in decoded.failures] == [2]


def test_a_null_struct_hides_the_required_fields_below_it() -> None:
    inner = pa.struct([pa.field("at", pa.date32(), nullable=False)])
    outer = pa.struct([pa.field("inner", inner), pa.field("note", pa.string())])
    schema = pa.schema([pa.field("outer", outer)])

    decoded = JsonDecoder(schema).decode(
        pa.array([b'{"outer":null}', b'{"outer":{}}', b'{"outer":{"inner":{}}}'], pa.binary())
    )

    assert decoded.rows.to_pylist() == [{"outer": None}, {"outer": {"inner": None, "note": None}}]
    assert [failure.error_class for failure in decoded.failures] == ["required_field_missing"]


def test_epoch_formats_reach_into_lists_and_maps() -> None:
    element = pa.struct([pa.field("at", TIMESTAMPTZ)])
    schema = pa.schema(
        [
            pa.field("items", pa.list_(pa.field("element", element))),
            pa.field("m", pa.map_(pa.string(), TIMESTAMPTZ)),
        ]
    )
    decoder = JsonDecoder(schema, time_formats={"items[].at": "epoch_ms", "m{}": "epoch_us"})

    decoded = decoder.decode(pa.array([b'{"items":[{"at":1000}],"m":{"a":1}}'], pa.binary()))

    assert decoded.rows.to_pylist() == [
        {
            "items": [{"at": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)}],
            "m": [("a", datetime(1970, 1, 1, microsecond=1, tzinfo=UTC))],
        }
    ]


@pytest.mark.parametrize(
    ("column_type", "time_formats", "words"),
    [
        (pa.timestamp("us"), {"x": "epoch"}, "unknown time format, column=x format=epoch"),
        (pa.timestamp("us"), {"y": "epoch_s"}, "names no column, columns=y"),
        (pa.string(), {"x": "epoch_s"}, "needs a timestamp, column=x"),
        (pa.timestamp("ns"), {}, "cannot fill this column, column=x"),
        (pa.map_(pa.int64(), pa.string()), {}, "cannot fill this column, column=x"),
        (pa.list_(pa.field("element", pa.duration("us"))), {}, "column=x[]"),
    ],
)
def test_a_schema_that_json_cannot_fill_is_refused(
    column_type: pa.DataType, time_formats: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        JsonDecoder(pa.schema([pa.field("x", column_type)]), time_formats=time_formats)


def test_field_metadata_of_the_schema_is_kept() -> None:
    schema = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])

    decoded = JsonDecoder(schema).decode(pa.array([b'{"id":1}', b"x"], pa.binary()))

    assert decoded.rows.schema.equals(schema, check_metadata=True)
