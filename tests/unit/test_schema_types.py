"""Goal: a type text means one Arrow type, and a wrong one says where and what is allowed.

Method: tables of texts, each read and compared; the round trip over all types is a property test.
"""

import pyarrow as pa
import pytest

from k2i_core.errors import ConfigError
from k2i_core.schema import TYPE_NAMES, parse_name, parse_type, type_text
from k2i_core.schema.types import NESTING_MAX

READ = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "decimal(9,2)": pa.decimal128(9, 2),
    " decimal ( 38 , 38 ) ": pa.decimal128(38, 38),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
    "uuid": pa.uuid(),
    "fixed[16]": pa.binary(16),
    "fixed(16)": pa.binary(16),
    "list<string>": pa.list_(pa.field("element", pa.string())),
    "list<long not null>": pa.list_(pa.field("element", pa.int64(), nullable=False)),
    "map<string, double NOT  NULL>": pa.map_(
        pa.string(), pa.field("value", pa.float64(), nullable=False)
    ),
    "struct<a: int, b:list<string>>": pa.struct(
        [pa.field("a", pa.int32()), pa.field("b", pa.list_(pa.string()))]
    ),
    "struct<order-id: uuid not null, `a ``b``: c`: int>": pa.struct(
        [pa.field("order-id", pa.uuid(), nullable=False), pa.field("a `b`: c", pa.int32())]
    ),
}

ALLOWED = ", ".join(TYPE_NAMES)

REFUSED = {
    "": f'"" cannot be read at position 1: expected a type; allowed: {ALLOWED}',
    "bigint": '"bigint" cannot be read at position 1: "bigint" is not a type; '
    f'did you mean "long"?; allowed: {ALLOWED}',
    "Long": '"Long" cannot be read at position 1: "Long" is not a type; '
    f'did you mean "long"?; allowed: {ALLOWED}',
    "list<int64>": '"list<int64>" cannot be read at position 6: "int64" is not a type; '
    f'did you mean "long"?; allowed: {ALLOWED}',
    "tiny": f'"tiny" cannot be read at position 1: "tiny" is not a type; allowed: {ALLOWED}',
    "decimal": '"decimal" cannot be read at position 8: '
    'expected "(" after "decimal", as in decimal(9,2)',
    "decimal(39,2)": '"decimal(39,2)" cannot be read at position 9: '
    "expected the precision, a whole number from 1 to 38",
    "decimal(9,10)": '"decimal(9,10)" cannot be read at position 11: '
    "expected the scale, a whole number from 0 to 9",
    "fixed[0]": '"fixed[0]" cannot be read at position 7: '
    "expected the number of bytes, a whole number from 1 to 2147483647",
    "fixed[16)": '"fixed[16)" cannot be read at position 9: expected "]" after the number of bytes',
    "int not null": '"int not null" cannot be read at position 13: '
    "`not null` stands only inside list, map and struct; write `required: true`",
    "int>": '"int>" cannot be read at position 4: ">" is left over',
    "struct<a int>": '"struct<a int>" cannot be read at position 10: '
    'expected ":" after the field name "a"',
    "struct<>": '"struct<>" cannot be read at position 8: '
    "expected a name; other than letters, digits and _ - . $ @ in backquotes",
    "struct<a: int, A: int>": '"struct<a: int, A: int>" cannot be read at position 16: '
    'the name "A" is there already, letter case aside',
    "struct<a: int b: int>": '"struct<a: int b: int>" cannot be read at position 15: '
    'expected ">" or "," after a field',
    "map<string>": '"map<string>" cannot be read at position 11: '
    'expected "," between key and value type',
    "map<string not null, int>": '"map<string not null, int>" cannot be read at position 12: '
    'expected "," between key and value type',
}


@pytest.mark.parametrize("text", READ)
def test_a_type_text_is_read_as_its_arrow_type(text):
    assert parse_type(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_a_written_type_is_read_back_the_same(text):
    assert parse_type(type_text(READ[text])) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_text_says_where_and_what_is_allowed(text):
    with pytest.raises(ConfigError) as raised:
        parse_type(text)
    assert str(raised.value) == REFUSED[text]


def test_required_parts_of_nested_types_are_not_nullable():
    parsed = parse_type("struct<a: list<int not null> not null, b: map<string, int>>")
    assert not parsed.field("a").nullable
    assert not parsed.field("a").type.value_field.nullable
    assert parsed.field("b").type.item_field.nullable
    assert not parsed.field("b").type.key_field.nullable


def test_nesting_is_bounded_instead_of_exhausting_the_stack():
    deepest = "list<" * NESTING_MAX + "int" + ">" * NESTING_MAX
    assert type_text(parse_type(deepest)) == deepest
    with pytest.raises(ConfigError, match="types nest at most 32 deep"):
        parse_type("list<" * 100_000)


@pytest.mark.parametrize(
    "type_",
    [
        pa.null(),
        pa.int8(),
        pa.uint64(),
        pa.timestamp("ns"),
        pa.timestamp("us", tz="Europe/Berlin"),
        pa.large_string(),
        pa.duration("s"),
        pa.struct([]),
        pa.decimal128(4, -2),
    ],
    ids=str,
)
def test_a_type_that_iceberg_lacks_is_not_written(type_):
    with pytest.raises(ConfigError, match="Iceberg has no type for Arrow's"):
        type_text(type_)


def test_a_name_is_plain_or_in_backquotes_and_nothing_else():
    assert parse_name("customer.id") == "customer.id"
    assert parse_name(" `total ``net``` ") == "total `net`"
    for text in ("", "a b", "`a", "a,"):
        with pytest.raises(ConfigError):
            parse_name(text)
