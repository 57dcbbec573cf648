"""Keys that are JSON: objects become a struct column, other values a plain one.

Which of the two a table has is seen by its column; while it has none, by the first key. A key that
is the other kind is bad then.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, indices, surround
from k2i_core.decode.framing import WHITESPACE, to_texts
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.key_columns import PackedDecoder, struct_part
from k2i_core.decode.places import among
from k2i_core.records import DecodedValues, DecodeFailure

_SCALAR = (
    r"^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
    r'|"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")$'
)
"""Exactly one JSON value that is no object and no array: put behind a name it stays one."""


class JsonKeyDecoder:
    """Decodes JSON keys into one column."""

    def __init__(
        self,
        column: str,
        row_schema: pa.Schema,
        *,
        time_formats: Mapping[str, str],
        may_add_columns: bool,
    ) -> None:
        """Plan the column.

        Args:
            column: Its name.
            row_schema: The column, or nothing where the table lacks it.
            time_formats: As `JsonDecoder`, by the column's name.
            may_add_columns: Propose the column, or fields of it.

        Raises:
            ConfigError: JSON cannot fill it.

        """
        self._column = column
        self._row_schema = row_schema
        fields = struct_part(row_schema, column)
        objects = JsonDecoder(fields, may_add_columns=may_add_columns)
        self._objects = PackedDecoder(objects, column, row_schema)
        self._scalars = JsonDecoder(
            pa.schema([]) if fields.names else row_schema,
            time_formats=time_formats,
            may_add_columns=may_add_columns,
        )
        self._has_objects = bool(fields.names) if row_schema.names else None

    @property
    def row_schema(self) -> pa.Schema:
        """The column."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null keys."""
        has_objects = self._has_objects
        if has_objects is None and len(values):
            has_objects = values[0].as_py().lstrip(WHITESPACE.encode()).startswith(b"{")
        if not has_objects:
            return self._decode_scalars(values)
        return self._objects.decode(values)

    def _decode_scalars(self, values: pa.BinaryArray) -> DecodedValues:
        texts, failures = _texts(values)
        is_scalar = _flags(pc.match_substring_regex(texts, pattern=_SCALAR))
        fault = (ErrorClass.INVALID_JSON, "not one JSON value beside objects and arrays")
        for place in np.flatnonzero(~is_scalar).tolist():
            failures.setdefault(place, DecodeFailure(place, str(fault[0]), fault[1]))
        places = np.flatnonzero(is_scalar)
        texts = texts if not failures else texts.take(indices(places))
        records = surround(f"{{{json.dumps(self._column)}:", texts, "}").cast(pa.binary())
        assert isinstance(records, pa.BinaryArray)
        return among(self._scalars.decode(records), places, failures)


def _texts(values: pa.BinaryArray) -> tuple[AnyArray, dict[int, DecodeFailure]]:
    """Return trimmed texts, empty for the failures."""
    try:
        return pc.ascii_trim(to_texts(values), characters=WHITESPACE), {}
    except UnfitError:
        unfit = find_unfit(values, to_texts)
    is_bad = np.zeros(len(values), np.bool_)
    is_bad[unfit] = True
    kept: Any = values.take(indices(np.arange(len(values)), is_bad)).fill_null(b"")
    failures = {
        place: DecodeFailure(place, str(ErrorClass.INVALID_UTF8), "not utf-8") for place in unfit
    }
    return pc.ascii_trim(to_texts(kept), characters=WHITESPACE), failures


def _flags(array: AnyArray) -> Any:  # noqa: ANN401 - NumPy's
    return array.to_numpy(zero_copy_only=False).astype(np.bool_)
