"""A decoder whose verdict is the value itself: `good`, `bad`, or `flaky`.

Flaky records stand for a change of code or registry between two incarnations of a worker: version 0
makes them rows, version 1 does not.
"""

import pyarrow as pa

from k2i_core.records import DecodedValues, DecodeFailure

GOOD, BAD, FLAKY = b"good", b"bad", b"flaky"
ROW_SCHEMA = pa.schema([pa.field("value", pa.binary())])


class JudgingDecoder:
    """Bytes to a row that holds the bytes."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self._refused = {BAD} if version == 0 else {BAD, FLAKY}

    @property
    def row_schema(self) -> pa.Schema:
        return ROW_SCHEMA

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        verdicts = [value in self._refused for value in values.to_pylist()]
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
