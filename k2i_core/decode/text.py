"""Values that are one column: the text, or the bytes as they are."""

import pyarrow as pa

from k2i_core.decode.framing import to_texts
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.records import DecodedValues, DecodeFailure

VALUE_COLUMN = "value"


class StringDecoder:
    """Decodes UTF-8 text into the one column `value`."""

    @property
    def row_schema(self) -> pa.Schema:
        """The one column."""
        return pa.schema([pa.field(VALUE_COLUMN, pa.string())])

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values; what is not UTF-8 is a failure, the empty text is not."""
        try:
            return DecodedValues(self._rows(values))
        except UnfitError:
            unfit = find_unfit(values, to_texts)
        bad = set(unfit)
        kept = pa.array([index for index in range(len(values)) if index not in bad], pa.int64())
        return DecodedValues(
            rows=self._rows(values.take(kept)),
            row_indices=kept,
            failures=tuple(
                DecodeFailure(index, str(ErrorClass.INVALID_UTF8), "not utf-8") for index in unfit
            ),
        )

    def _rows(self, values: pa.BinaryArray) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([to_texts(values)], schema=self.row_schema)


class RawDecoder:
    """Keeps the bytes in the one column `value`; nothing can fail."""

    @property
    def row_schema(self) -> pa.Schema:
        """The one column."""
        return pa.schema([pa.field(VALUE_COLUMN, pa.binary())])

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        return DecodedValues(pa.RecordBatch.from_arrays([values], schema=self.row_schema))
