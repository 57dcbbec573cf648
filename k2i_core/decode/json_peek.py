"""One field of JSON objects as text, without looking at the rest: for those who only sort records.

A record that is no object, or has another kind of value there, gives null: whoever decodes it says
what is wrong with it.
"""

import re
from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.framing import frame
from k2i_core.decode.isolation import UnreadableError, read_good
from k2i_core.decode.json_columns import ColumnReader
from k2i_core.decode.places import spread


class _FieldReader:
    """Reads one field, which is text in some records and a whole number in others."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path
        self._readers = [
            ColumnReader(nested_schema(path, kind), ignores_others=True)
            for kind in (pa.string(), pa.int64())
        ]
        self.parse_schema = pa.schema([pa.field("text", pa.string())])

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        """Read n texts as n rows of the one column; raises `UnreadableError` for all or none."""
        as_text, as_number = self._readers
        try:
            rows = as_text.read(texts)
        except UnreadableError as error:
            try:
                rows = as_number.read(texts)
            except UnreadableError:
                raise error from None  # which points at what is no text, not at what is
        first, *below = self._path
        column = reduce(pc.struct_field, below, rows.column(first))
        return pa.RecordBatch.from_arrays([column.cast(pa.string())], schema=self.parse_schema)


class FieldPeek:
    """Reads one field of n records; thread-safe."""

    def __init__(self, path: str) -> None:
        """Bind the field; dots lead into objects."""
        names = tuple(path.split("."))
        self._reader = _FieldReader(names)
        # A guess at records with another kind of value than most, which saves looking for them.
        self._odd = re.compile(rf'"{re.escape(names[-1])}"\s*:\s*[^"\s]')

    def __call__(self, values: pa.BinaryArray) -> pa.StringArray:
        """Return n texts; null where there is none."""
        places = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        framed = frame(values.drop_null())
        if framed.indices is not None:
            places = places[np.array(framed.indices, np.int64)]
        rows, unreadable = read_good(framed.texts, self._reader, self._is_odd)
        places = np.delete(places, unreadable)
        texts = spread(rows.column("text"), places, len(values))
        assert isinstance(texts, pa.StringArray)
        return texts

    def _is_odd(self, text: str) -> bool:
        return self._odd.search(text) is not None


def nested_schema(path: Sequence[str], kind: pa.DataType) -> pa.Schema:
    """Return the one column that holds nothing but a field of this type."""
    for name in reversed(path[1:]):
        kind = pa.struct([pa.field(name, kind)])
    return pa.schema([pa.field(path[0], kind)])
