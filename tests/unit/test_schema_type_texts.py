"""Goal: a type text means one type, and a wrong one says where and what is allowed.

Method: tables of texts, each read and compared; the round trip over all types is a property test.
"""

import pytest

from k2i_core.errors import ConfigError
from k2i_core.schema.iceberg_types import (
    DecimalType,
    FixedType,
    IcebergField,
    ListType,
    MapType,
    PrimitiveType,
    StructType,
)
from k2i_core.schema.type_texts import NESTING_MAX, TYPE_NAMES, parse_name, parse_type, type_text

READ = {
    "boolean": PrimitiveType.BOOLEAN,
    "int": PrimitiveType.INT,
    "long": PrimitiveType.LONG,
    "float": PrimitiveType.FLOAT,
    "double": PrimitiveType.DOUBLE,
    "decimal(9,2)": DecimalType(9, 2),
    " decimal ( 38 , 38 ) ": DecimalType(38, 38),
    "date": PrimitiveType.DATE,
    "time": PrimitiveType.TIME,
    "timestamp": PrimitiveType.TIMESTAMP,
    "timestamptz": PrimitiveType.TIMESTAMPTZ,
    "string": PrimitiveType.STRING,
    "binary": PrimitiveType.BINARY,
    "uuid": PrimitiveType.UUID,
    "fixed[16]": FixedType(16),
    "fixed(16)": FixedType(16),
    "list<string>": ListType(PrimitiveType.STRING),
    "list<long not null>": ListType(PrimitiveType.LONG, element_required=True),
    "map<string, double NOT  NULL>": MapType(
        PrimitiveType.STRING, PrimitiveType.DOUBLE, value_required=True
    ),
    "struct<a: int, b:list<string>>": StructType(
        (
            IcebergField("a", PrimitiveType.INT),
            IcebergField("b", ListType(PrimitiveType.STRING)),
        )
    ),
    "struct<order-id: uuid not null, `a ``b``: c`: int>": StructType(
        (
            IcebergField("order-id", PrimitiveType.UUID, required=True),
            IcebergField("a `b`: c", PrimitiveType.INT),
        )
    ),
    "struct<a: list<int not null> not null, b: map<string, int>>": StructType(
        (
            IcebergField("a", ListType(PrimitiveType.INT, element_required=True), required=True),
            IcebergField("b", MapType(PrimitiveType.STRING, PrimitiveType.INT)),
        )
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
def test_a_type_text_is_read_as_its_type(text):
    assert parse_type(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_a_written_type_is_read_back_the_same(text):
    assert parse_type(type_text(READ[text])) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_text_says_where_and_what_is_allowed(text):
    with pytest.raises(ConfigError) as raised:
        parse_type(text)
    assert str(raised.value) == REFUSED[text]


def test_nesting_is_bounded_instead_of_exhausting_the_stack():
    deepest = "list<" * NESTING_MAX + "int" + ">" * NESTING_MAX
    assert type_text(parse_type(deepest)) == deepest
    with pytest.raises(ConfigError, match="types nest at most 32 deep"):
        parse_type("list<" * 100_000)


def test_a_name_is_plain_or_in_backquotes_and_nothing_else():
    assert parse_name("customer.id") == "customer.id"
    assert parse_name(" `total ``net``` ") == "total `net`"
    for text in ("", "a b", "`a", "a,"):
        with pytest.raises(ConfigError):
            parse_name(text)
