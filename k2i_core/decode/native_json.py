"""JSON objects → rows, natively where a record is a row for certain.

    values ─► native reader ─► rows ──────────────────────┬─► rows
                    │ the rest                            │
                    └─► JsonDecoder ─► rows, failures, proposed schema

The native reader decides nothing but "this is a row": whatever it does not know for certain, a bad
record above all, goes to `JsonDecoder`, whose verdicts and messages are the only ones. Which of the
two read a record cannot be told from the outcome, because a verdict does not depend on the records
beside it. What would be the proposed schema is not changed either: a row needs nothing that the
schema lacks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import concat_batches, indices
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_values import EPOCH_UNITS
from k2i_core.native import NativeJsonReader, NativeLibrary
from k2i_core.records import DecodedValues


class NativeJsonDecoder:
    """Decodes JSON objects; see the package for what that guarantees."""

    def __init__(
        self,
        reader: NativeJsonReader,
        decoder: JsonDecoder,
        report_failure: Callable[[str], None],
    ) -> None:
        """Bind both.

        Args:
            reader: Of the columns of `decoder`.
            decoder: Has the last word.
            report_failure: Told when the reader itself fails; the records are decoded all the same.

        """
        self._reader = reader
        self._decoder = decoder
        self._report_failure = report_failure

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._decoder.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        try:
            rows, certain, uncertain = self._reader.read(values)
        except (RuntimeError, ValueError) as error:
            self._report_failure(str(error))
            return self._decoder.decode(values)
        if len(uncertain) == 0:
            return DecodedValues(rows)
        rest = self._decoder.decode(values.take(uncertain))
        if rest.proposed_schema is not None:
            return rest
        places = uncertain.to_numpy()
        failures = tuple(replace(one, index=int(places[one.index])) for one in rest.failures)
        if rest.rows.num_rows == 0:
            return DecodedValues(rows, certain, failures)
        if rest.row_indices is not None:
            places = places[rest.row_indices.to_numpy()]
        sources = np.concatenate([certain.to_numpy(), places])
        order = np.argsort(sources)
        return DecodedValues(
            rows=concat_batches([rows, rest.rows]).take(indices(order)),
            row_indices=indices(sources[order]) if failures else None,
            failures=failures,
        )


def accelerated(
    decoder: JsonDecoder,
    library: NativeLibrary,
    *,
    time_formats: Mapping[str, str],
    may_add_columns: bool,
    report_failure: Callable[[str], None],
) -> NativeJsonDecoder | JsonDecoder:
    """Return a decoder that asks the native reader first, if it reads such columns.

    Args:
        decoder: Made with the same `time_formats` and `may_add_columns`.
        library: With the reader.
        time_formats: As `JsonDecoder`.
        may_add_columns: As `JsonDecoder`.
        report_failure: As `NativeJsonDecoder`.

    """
    epochs = {path: EPOCH_UNITS[name] for path, name in time_formats.items()}
    try:
        reader = library.JsonReader(decoder.row_schema, epochs, skips_empty=may_add_columns)
    except ValueError:
        return decoder
    return NativeJsonDecoder(reader, decoder, report_failure)
