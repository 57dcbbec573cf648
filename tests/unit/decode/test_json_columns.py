"""Facts of Arrow's JSON parser that the columnar reader stands on.

Goal: a new Arrow that behaves otherwise is noticed here, not in a table.
Method: the reader on texts that would break the proof that row k is text k.
"""

import pyarrow as pa
import pytest

from k2i_core.decode.isolation import UnreadableError
from k2i_core.decode.json_columns import ColumnReader

PARSE_SCHEMA = pa.schema(
    [("a", pa.int64()), ("s", pa.string()), ("o", pa.struct([pa.field("b", pa.float64())]))]
)


def read(*texts: str, block_bytes_max: int = 1 << 20) -> pa.RecordBatch:
    return ColumnReader(PARSE_SCHEMA, block_bytes_max=block_bytes_max).read(pa.array(texts))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1}{"a":2}',
        '{"a":1} {"a":2}',
        '{"a":1}\n{"a":2}',
        '{"a":1} null {"a":2}',
        "{}\nnull\nnull\n{}",
        '{"a":1,"a":1}',
        '{"o":{"b":1,"b":1}}',
        '{"a":1,"\\u0061":1}',
        '{"x":null}',
        '{"o":{"x":1}}',
        '{"s":"x\ny"}',
        '{"s":"}\n{"}',
        '{"s":"\\ud800"}',
        '{"a":1}}',
        '{{"a":1}',
        '{"a":NaN}',
        '{"a":1.0}',
        '{"a":9223372036854775808}',
    ],
)
def test_a_text_that_is_not_one_object_of_the_schema_is_refused(text: str) -> None:
    for texts in ([text], [text, "{}"], ["{}", text], ["{}", text, "{}"]):
        with pytest.raises(UnreadableError):
            read(*texts)


def test_a_string_cannot_run_on_into_the_next_text() -> None:
    # Joined without a newline these would be three values, as many as there are texts.
    with pytest.raises(UnreadableError):
        read('{"s":"x}', '{"}', "{}{}")


def test_a_newline_between_tokens_is_no_boundary() -> None:
    rows = read('{\n"a":\n1}', '{"a"\n:2\n,"o"\n:\n{\n}\n}')

    assert rows.column("a").to_pylist() == [1, 2]


def test_a_parse_error_names_its_row_across_blocks() -> None:
    texts = ['{"a":1}'] * 7 + ['{"a":"x"}']

    for block_bytes_max in (1 << 20, 20):
        with pytest.raises(UnreadableError) as caught:
            read(*texts, block_bytes_max=block_bytes_max)
        assert caught.value.row == 7


def test_many_blocks_read_as_one() -> None:
    texts = [f'{{"a":{index}}}' for index in range(100)]

    assert read(*texts, block_bytes_max=64).equals(read(*texts))


def test_what_the_parser_accepts_wrongly_is_known() -> None:
    rows = read('{"o":{"b":NaN}}', '{"o":{"b":-Infinity}}', '{"o":null}')

    assert [str(o["b"].as_py()) for o in rows.column("o")[:2]] == ["nan", "-inf"]
    assert rows.column("o")[2].as_py() is None
