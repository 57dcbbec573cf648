"""A JSON decoder that may add columns, and inference of the first schema.

Goal: what good records have beyond the schema is proposed with the right types; bad records and
empty fields have no influence; what no table could hold is a failure.
Method: the real decoder on small batches, decoded again under the proposal.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from k2i_core.decode.json_decoder import JsonDecoder, infer_row_schema
from k2i_core.decode.json_growth import FIELDS_MAX
from k2i_core.records import DecodedValues
from tests.json_paths import both_json_paths  # noqa: F401 - runs by itself

TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
ITEM = pa.struct([pa.field("sku", pa.string(), nullable=False), pa.field("n", pa.int32())])
ROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int32(), metadata={"PARQUET:field_id": "1"}),
        pa.field("ratio", pa.float32(), nullable=False),
        pa.field("plain", pa.list_(pa.field("element", pa.struct([pa.field("a", pa.int32())])))),
        pa.field("items", pa.list_(pa.field("element", ITEM, nullable=False))),
    ]
)
MAP_SCHEMA = ROW_SCHEMA.append(
    pa.field("m", pa.map_(pa.string(), pa.struct([pa.field("a", pa.int32())])))
)
GOOD = b'{"ratio":1}'


def decode(values: list[bytes], schema: pa.Schema = ROW_SCHEMA) -> DecodedValues:
    return JsonDecoder(schema, may_add_columns=True).decode(pa.array(values, pa.binary()))


def proposed(values: list[bytes], schema: pa.Schema = ROW_SCHEMA) -> pa.Schema:
    decoded = decode(values, schema)
    assert decoded.proposed_schema is not None
    assert decoded.rows.num_rows == 0
    return decoded.proposed_schema


def list_of(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_))


@pytest.mark.parametrize("schema", [ROW_SCHEMA, MAP_SCHEMA], ids=["columns", "rows"])
@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (b"1", pa.int64()),
        (b"-9223372036854775808", pa.int64()),
        (b"9223372036854775808", pa.decimal128(38, 0)),
        (b"1%s" % (b"0" * 38), pa.float64()),
        (b"1.0", pa.float64()),
        (b"1e2", pa.float64()),
        (b"true", pa.bool_()),
        (b'"text"', pa.string()),
        (b'"2024-01-01"', pa.string()),
        (b'"2024-01-01T10:11:12.5"', pa.timestamp("us")),
        (b'"2024-01-01 10:11"', pa.timestamp("us")),
        (b'"2024-01-01T10:11:12+01:00"', TIMESTAMPTZ),
        (b'"2024-13-01T10:11:12Z"', pa.string()),
        (b"[null,1,2.5]", list_of(pa.float64())),
        (b'{"a":1,"b":{"c":[]},"d":null}', pa.struct([pa.field("a", pa.int64())])),
        (b'[{"a":1},{"b":"x"}]', list_of(pa.struct([("a", pa.int64()), ("b", pa.string())]))),
    ],
)
def test_an_unknown_field_is_proposed_as_an_optional_column(
    value: bytes, type_: pa.DataType, schema: pa.Schema
) -> None:
    grown = proposed([GOOD, b'{"ratio":1,"new":%s}' % value], schema)

    assert grown.equals(schema.append(pa.field("new", type_)), check_metadata=True)
    assert decode([GOOD, b'{"ratio":1,"new":%s}' % value], grown).failures == ()


def test_unknown_fields_are_added_inside_lists_and_maps() -> None:
    value = b'{"ratio":1,"items":[{"sku":"a","x":"y"}],"m":{"k":{"z":true}}}'

    grown = proposed([value], MAP_SCHEMA)

    assert grown.field("items").type.value_type == pa.struct([*ITEM, pa.field("x", pa.string())])
    assert not grown.field("items").type.value_field.nullable
    assert grown.field("m").type.item_type == pa.struct([("a", pa.int32()), ("z", pa.bool_())])
    row = decode([value], grown).rows.to_pylist()[0]
    assert row["items"] == [{"sku": "a", "n": None, "x": "y"}]
    assert row["m"] == [("k", {"a": None, "z": True})]


@pytest.mark.parametrize(
    ("first", "second", "type_"),
    [
        (b"1", b"2.5", pa.float64()),
        (b"2.5", b"1", pa.float64()),
        (b"1", b"9223372036854775808", pa.decimal128(38, 0)),
        (b"null", b"1", pa.int64()),
        (b"[]", b"[1]", list_of(pa.int64())),
        (b'"2024-01-01T00:00Z"', b'"later"', pa.string()),
        (b'"2024-01-01T00:00Z"', b'"2024-01-01T00:00"', pa.string()),
        (b'{"a":1}', b'{"b":2}', pa.struct([("a", pa.int64()), ("b", pa.int64())])),
    ],
)
def test_the_type_fits_all_good_records(first: bytes, second: bytes, type_: pa.DataType) -> None:
    values = [b'{"ratio":1,"new":%s}' % value for value in (first, second)]

    grown = proposed(values)

    assert grown.field("new").type == type_
    assert decode(values, grown).rows.num_rows == 2


@pytest.mark.parametrize(("first", "second"), [(b"1", b'"x"'), (b"[1]", b"{}"), (b"true", b"1")])
def test_of_two_types_the_first_stays_and_the_other_record_fails(
    first: bytes, second: bytes
) -> None:
    values = [b'{"ratio":1,"new":%s}' % value for value in (first, second)]

    decoded = decode(values, proposed(values))

    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [0]
    assert [failure.error_class for failure in decoded.failures] == ["wrong_type"]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"new":"x"}',
        b'{"ratio":"?","new":"x"}',
        b'{"ratio":1,"new":"x"',
        b'{"ratio":1,"new":NaN}',
        b'{"ratio":1,"new":"x","id":1.5}',
        b'{"ratio":1,"new":"x","new":"y"}',
    ],
)
def test_bad_records_have_no_influence(bad: bytes) -> None:
    grown = proposed([bad, b'{"ratio":1,"new":1}', bad])

    assert grown.field("new").type == pa.int64()
    assert decode([bad, b'{"ratio":1}', bad]).proposed_schema is None
    assert [f.index for f in decode([bad, b'{"ratio":1}', bad]).failures] == [0, 2]


def test_numbers_beyond_their_column_widen_it() -> None:
    values = [
        b'{"ratio":1e39}',
        b'{"ratio":1,"id":2147483648}',
        b'{"ratio":1,"items":[{"sku":"a","n":-2147483649}]}',
    ]

    grown = proposed(values)

    assert grown.field("id").type == pa.int64()
    assert grown.field("id").metadata == {b"PARQUET:field_id": b"1"}
    assert grown.field("ratio").type == pa.float64()
    assert not grown.field("ratio").nullable
    assert grown.field("items").type.value_type.field("n").type == pa.int64()
    assert decode(values, grown).failures == ()


@pytest.mark.parametrize("value", [b"9223372036854775808", b"1.5", b'"1"'])
def test_what_no_wider_number_holds_is_a_failure(value: bytes) -> None:
    decoded = decode([b'{"ratio":1,"id":%s}' % value])

    assert decoded.proposed_schema is None
    assert len(decoded.failures) == 1


EMPTY = [b"null", b"{}", b"[]", b"[null,null]", b'{"a":null}', b'[{},[],{"b":[null]}]']


@pytest.mark.parametrize("schema", [ROW_SCHEMA, MAP_SCHEMA], ids=["columns", "rows"])
def test_unknown_fields_that_hold_nothing_are_dropped(schema: pa.Schema) -> None:
    values = [b'{"ratio":%d,"new":%s}' % (index, value) for index, value in enumerate(EMPTY)]
    values += [b'{"ratio":6,"items":[{"sku":"a","new":%s}]}' % value for value in EMPTY]
    values.insert(3, b"bad")

    decoded = decode(values, schema)

    assert decoded.proposed_schema is None
    assert [failure.index for failure in decoded.failures] == [3]
    assert decoded.rows.column("ratio").to_pylist() == [0, 1, 2, 3, 4, 5] + [6] * len(EMPTY)
    assert decoded.rows.column("items").to_pylist()[-1] == [{"sku": "a", "n": None}]
    decoded.rows.validate(full=True)


def test_an_empty_unknown_field_in_every_record_costs_no_isolation() -> None:
    value = b'{"ratio":1,"items":[{"sku":"a","old":null}],"legacy":[],"gone":{"x":null}'
    values = [value + b',"plain":[null,{"a":1,"old":[]}]}', value + b"}"] * 150

    decoded = decode(values)

    assert (decoded.proposed_schema, decoded.failures) == (None, ())
    assert decoded.rows.schema.equals(ROW_SCHEMA, check_metadata=True)
    assert decoded.rows.column("items").to_pylist()[299] == [{"sku": "a", "n": None}]
    assert decoded.rows.column("plain").to_pylist()[298:] == [[None, {"a": 1}], None]
    decoded.rows.validate(full=True)


def test_a_list_of_nulls_is_empty_however_long() -> None:
    values = [b'{"ratio":1,"new":[null,null,null],"x":{"y":[[null,null]]}}', b"bad", GOOD]

    decoded = decode(values * 50)

    assert decoded.proposed_schema is None
    assert decoded.rows.num_rows == 100
    assert len(decoded.failures) == 50


def test_dropping_a_field_keeps_the_spelling_of_the_others() -> None:
    schema = pa.schema([("n", pa.int64()), ("d", pa.decimal128(38, 10)), ("s", pa.string())])
    value = (
        b'{"n":9007199254740993,"x":null,"d":1234567890123456789.0123456789,'
        b'"s":"\\u0000\xc3\xa9\\ud83d\\ude00\\""}'
    )

    # Records of several kinds, so that no one set of empty fields suits them all.
    decoded = decode([value, b'{"x":{}}', b'{"x":[]}'], schema)

    assert decoded.rows.to_pylist()[0] == {
        "n": 9007199254740993,
        "d": Decimal("1234567890123456789.0123456789"),
        "s": '\0é😀"',
    }


@pytest.mark.parametrize(
    "fields",
    [
        b'"ID":1',
        b'"_kafka":1',
        b'"_Kafka":{"offset":1}',
        b'"":1',
        b'"items.element.sku":1',
        b'"a":{"b":1,"B":2}',
        b'"a":{"":1}',
        b'"a":1,"A":1',
        b'"items":[{"sku":"a","SKU":"b"}]',
    ],
)
def test_a_field_that_no_table_could_tell_apart_is_a_failure(fields: bytes) -> None:
    decoded = decode([GOOD, b'{"ratio":1,%s}' % fields, GOOD])

    assert decoded.proposed_schema is None
    assert [(f.index, f.error_class) for f in decoded.failures] == [(1, "unknown_field")]
    assert "cannot get it" in decoded.failures[0].message
    assert decoded.rows.num_rows == 2


def test_of_two_records_whose_fields_differ_in_case_the_first_decides() -> None:
    values = [b'{"ratio":1,"new":1}', b'{"ratio":1,"New":1}']

    decoded = decode(values, proposed(values))

    assert [failure.index for failure in decoded.failures] == [1]


def test_a_schema_stops_growing_at_its_widest() -> None:
    def record(start: int, count: int) -> bytes:
        names = ",".join(f'"f{start + index}":1' for index in range(count))
        return b'{"ratio":1,%s}' % names.encode()

    values = [record(0, FIELDS_MAX - 20), record(FIELDS_MAX, 10), record(2 * FIELDS_MAX, 40)]
    grown = proposed(values)

    decoded = decode(values, grown)

    assert len(grown) < FIELDS_MAX
    assert decoded.proposed_schema is None
    assert [(f.index, f.error_class) for f in decoded.failures] == [(2, "unknown_field")]


def test_a_strict_decoder_proposes_nothing() -> None:
    decoded = JsonDecoder(ROW_SCHEMA).decode(pa.array([b'{"ratio":1,"new":1}'], pa.binary()))

    assert decoded.proposed_schema is None
    assert [failure.error_class for failure in decoded.failures] == ["unknown_field"]


def test_inference_reads_the_good_records_in_the_order_of_their_fields() -> None:
    values = [
        b'{"b":1,"a":{"x":[1,2.5,null]},"gone":null}',
        b"not json",
        b'\xff{"never":1}',
        b' {"a":{"y":true},"at":"2024-01-01T00:00:00.123Z","b":2} ',
    ]

    schema = infer_row_schema(values)

    a = pa.struct([("x", list_of(pa.float64())), ("y", pa.bool_())])
    assert schema.equals(pa.schema([("b", pa.int64()), ("a", a), ("at", TIMESTAMPTZ)]))
    assert decode(values, schema).rows.to_pylist()[1] == {
        "b": 2,
        "a": {"x": None, "y": True},
        "at": datetime(2024, 1, 1, 0, 0, 0, 123000, tzinfo=UTC),
    }


@pytest.mark.parametrize("values", [[], [b""], [b"{}", b'{"a":null}', b"[]"]])
def test_nothing_is_inferred_from_nothing(values: list[bytes]) -> None:
    assert infer_row_schema(values).equals(pa.schema([]))
