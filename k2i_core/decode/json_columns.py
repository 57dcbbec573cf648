"""n JSON texts → n rows of Arrow columns, by Arrow's own parser in one call.

Why row k is text k. Texts are joined with newlines; each starts with `{` and ends with `}`. Inside
one JSON value the characters `}`, newline, `{` cannot follow each other: outside a string a comma
would be missing, and a string cannot hold a newline. So either the parser refuses, or every
newline of the join ends a value, and a text yields at least one row. Then n rows from n texts means
one row each. Counting alone would not do: an empty text and a double one also add up to two.

Facts of Arrow 26 that this module stands on, each pinned by a test:

- A block must begin with `{`: a leading `null` reads through an empty stack. Texts do begin so,
  and the closing newline makes all texts one block.
- Without a required field the parser's errors concern types, unknown fields and syntax only.
- Duplicate keys are refused at every level, escaped or not; ignoring fields would hide some, so
  unknown fields are an error here.
- NaN, Infinity and overflow to a float32 infinity are accepted: `json_values` refuses them.
- UTF-8 is not checked: `framing` does.
- The parser does not recurse, and only into fields of the schema; depth is no danger.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from k2i_core.decode.arrow import byte_lengths, concat_batches, read_json, surround
from k2i_core.decode.isolation import UnreadableError, no_rows

BLOCK_BYTES_MAX = 64 << 20
"""Texts are parsed in blocks of about so many bytes. Larger: more memory, three times this, and at
2 GiB Arrow's offsets end; smaller: the fixed cost of a call shows. One text may exceed it."""

ROW_HINT = re.compile(r" in row (\d+)\Z")


class ColumnReader:
    """Reads texts into columns of the parse types; immutable."""

    def __init__(
        self,
        parse_schema: pa.Schema,
        *,
        block_bytes_max: int = BLOCK_BYTES_MAX,
        ignores_others: bool = False,
    ) -> None:
        """Bind the schema; only whoever makes no rows of what is read may ignore other fields."""
        self._block_bytes_max = block_bytes_max
        self.parse_schema = parse_schema
        self._parse_options = pj.ParseOptions(
            explicit_schema=parse_schema,
            newlines_in_values=False,
            unexpected_field_behavior="ignore" if ignores_others else "error",
        )

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        """Read n texts as n rows.

        Args:
            texts: Each `{…}`, valid UTF-8, without surrounding whitespace.

        Raises:
            UnreadableError: At least one is not one object of the schema's fields. Try parts.

        """
        if len(texts) == 0:
            return no_rows(self.parse_schema)
        if len(texts) > 1 and _byte_count(texts) > self._block_bytes_max:
            middle = len(texts) // 2
            return concat_batches(
                [self.read(texts.slice(0, middle)), self._read_from(texts, middle)]
            )
        block = surround("", texts, "\n").buffers()[2]
        assert block is not None
        try:
            table = read_json(block, self._parse_options)
        except pa.ArrowInvalid as error:
            hint = ROW_HINT.search(str(error))
            raise UnreadableError(int(hint[1]) if hint else None) from error
        if table.num_rows != len(texts):
            raise UnreadableError
        return table.combine_chunks().to_batches()[0]

    def _read_from(self, texts: pa.StringArray, start: int) -> pa.RecordBatch:
        try:
            return self.read(texts.slice(start))
        except UnreadableError as error:
            raise UnreadableError(None if error.row is None else start + error.row) from error


def _byte_count(texts: pa.StringArray) -> int:
    return pc.sum(byte_lengths(texts)).as_py() or 0
