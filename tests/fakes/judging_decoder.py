"""A decoder whose verdict is the value itself: `good`, `bad`, `flaky` or `breaking`, and a router.

Flaky records stand for a change of code or registry between two incarnations of a worker: version 0
makes them rows, version 1 does not. Breaking ones are of a schema that no record can be a row of,
dead letters once it is accepted. Values that begin with `other ` belong to a second table; whether
`late` ones do, nobody can tell until their schema is registered.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from k2i_core.offsets import TopicPartition
from k2i_core.records import BreakingSchema, DecodedValues, DecodeFailure, Routes

GOOD, BAD, FLAKY, BREAKING = b"good", b"bad", b"flaky", b"breaking"
BREAKING_ID = 7
OTHER = b"other "
LATE = OTHER + b"late"
ROW_SCHEMA = pa.schema([pa.field("value", pa.binary())])


class JudgingDecoder:
    """Bytes to a row that holds the bytes."""

    def __init__(self, version: int = 0, *, accepts_breaking: bool = False) -> None:
        self.version = version
        self.accepts_breaking = accepts_breaking
        self._refused = {BAD, BREAKING} if version == 0 else {BAD, BREAKING, FLAKY}

    @property
    def row_schema(self) -> pa.Schema:
        return ROW_SCHEMA

    def decode(self, records: pa.RecordBatch) -> DecodedValues:
        values = records.column("value")
        judged = [v.removeprefix(OTHER) for v in values.to_pylist()]
        if BREAKING in judged and not self.accepts_breaking:
            breaking = BreakingSchema(judged.index(BREAKING), BREAKING_ID, "no record can be a row")
            none = pa.RecordBatch.from_pylist([], schema=ROW_SCHEMA)
            return DecodedValues(none, breaking=breaking)
        verdicts = [value in self._refused for value in judged]
        if not any(verdicts):
            return DecodedValues(pa.RecordBatch.from_arrays([values], schema=ROW_SCHEMA))
        kept = pa.array([i for i, refused in enumerate(verdicts) if not refused], pa.int64())
        failures = tuple(
            DecodeFailure(i, "refused", "the value is refused")
            for i, refused in enumerate(verdicts)
            if refused
        )
        rows = pa.RecordBatch.from_arrays([values.take(kept)], schema=ROW_SCHEMA)
        return DecodedValues(rows, kept, failures)


class PrefixRouter:
    """Records of two tables; tombstones are the first one's, and so is what cannot be told."""

    def __init__(
        self,
        first: str,
        other: str,
        swapped: bytes | None = None,
        knows: Callable[[TopicPartition, int], bool] = lambda _tp, _offset: True,
    ) -> None:
        """Bind the tables; other rules would swap the tables of one value.

        `knows` tells of a late record whether its schema is registered by now.
        """
        self._tables = first, other
        self._swapped = swapped
        self._knows = knows

    def __call__(self, records: pa.RecordBatch) -> Routes:
        values = records.column("value").to_pylist()
        late = [index for index, value in enumerate(values) if value == LATE]
        unknown = [index for index in late if not self._is_known(records, index)]
        codes = [
            is_other(value) != (value is not None and value == self._swapped) for value in values
        ]
        for index in unknown:
            codes[index] = False
        refused = tuple(DecodeFailure(i, "unknown", "no schema of this id") for i in unknown)
        return Routes(self._tables, np.array(codes, np.int32), refused)

    def _is_known(self, records: pa.RecordBatch, index: int) -> bool:
        topic, partition, offset = (
            records.column(name)[index].as_py() for name in ("topic", "partition", "offset")
        )
        return self._knows(TopicPartition(topic, partition), offset)


def is_other(value: bytes | None) -> bool:
    """Tell whether a record belongs to the second table."""
    return value is not None and value.startswith(OTHER)
