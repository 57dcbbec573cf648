"""How each column of a file is encoded, learned from the first rows.

A dictionary on everything is slower and larger than none: it pays on repeated values only. So a
sample is encoded in every way that could pay, with the real codec, and each column takes what came
out smallest. Delta encodings go on integers, dates and timestamps; on text and bytes only where
they save much, because few readers had them early.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2i_core.write_target import WriteTarget

SAMPLE_ROWS_MAX = 16_384
"""Larger costs time before the first row group; smaller takes a column with many repeats for one
without."""

SAMPLE_ROWS_MIN = 4_096
"""Fewer rows prove nothing, so such a file goes by the column's type alone. Larger leaves small
flushes without dictionaries for longer."""

ALWAYS_DICTIONARY = frozenset({"_kafka.topic"})

DELTA_INTEGER = "DELTA_BINARY_PACKED"
DELTA_LENGTH = "DELTA_LENGTH_BYTE_ARRAY"
DELTA_BYTES = "DELTA_BYTE_ARRAY"
PLAIN = "PLAIN"
DICTIONARY = "DICTIONARY"

UNCOMPRESSED_WEIGHT = 1 / 32
"""What a byte before compression counts against one after it, because writer and readers pay for it
too. Larger takes dictionaries that make files bigger; smaller compresses a constant column's text
over and over."""

_INTEGER_TYPES = frozenset({"INT32", "INT64"})

# What an encoding's cost is multiplied by before the smallest wins. A larger factor asks for a
# larger gain: plain text is the easiest to read, and a dictionary found in a sample may overflow
# in the whole.
_HANDICAPS = {PLAIN: 1.0, DICTIONARY: 1.05, DELTA_LENGTH: 1.25, DELTA_BYTES: 1.25}
_INTEGER_HANDICAPS = {DELTA_INTEGER: 1.0, DICTIONARY: 1.05, PLAIN: 1.1}


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The encoding of every leaf column.

    Attributes:
        schema: What it was made for.
        encodings: Leaf path as Parquet writes it (`items.list.element.sku`) → encoding.
        encoded_share: Encoded bytes per Arrow byte in the sample; None without one.
    """

    schema: pa.Schema
    encodings: Mapping[str, str]
    encoded_share: float | None = None

    def writer_options(self) -> Mapping[str, Any]:
        """Return the keyword arguments of Arrow's Parquet writer."""
        column_encoding = {
            path: encoding for path, encoding in self.encodings.items() if encoding != DICTIONARY
        }
        return {
            "use_dictionary": [p for p, e in self.encodings.items() if e == DICTIONARY] or False,
            "column_encoding": column_encoding or None,
        }


@dataclass(slots=True)
class EncodingMemory:
    """Keeps the plan of one table from one writer to the next, so that it is learned once.

    Two writers may share it: at worst both learn the same.
    """

    plan: EncodingPlan | None = field(default=None)

    def plan_for(self, rows: pa.Table, target: WriteTarget) -> EncodingPlan:
        """Return the plan for `rows`: the remembered one if it fits the schema, else a new one."""
        if self.plan is not None and self.plan.schema.equals(target.schema):
            return self.plan
        if rows.num_rows < SAMPLE_ROWS_MIN:
            return plan_by_type(target)
        self.plan = plan_by_sample(rows.slice(0, SAMPLE_ROWS_MAX), target)
        return self.plan


def compression_options(target: WriteTarget) -> Mapping[str, Any]:
    """Return the codec as keyword arguments of Arrow's Parquet writer."""
    return {"compression": target.codec.upper(), "compression_level": target.codec_level}


def plan_by_type(target: WriteTarget) -> EncodingPlan:
    """Choose by the columns' types alone."""
    encodings = {path: next(iter(able)) for path, able in _candidates(target).items()}
    return EncodingPlan(target.schema, encodings)


def plan_by_sample(sample: pa.Table, target: WriteTarget) -> EncodingPlan:
    """Encode the sample in every way that could pay and take the smallest of each column."""
    candidates = _candidates(target)
    best: dict[str, tuple[float, str, int]] = {}
    for trial in _trials(candidates):
        for path, chunk in _column_chunks(sample, trial, target).items():
            handicap = candidates[path][trial[path]]
            compressed_bytes = chunk.total_compressed_size
            cost = compressed_bytes + chunk.total_uncompressed_size * UNCOMPRESSED_WEIGHT
            if path not in best or cost * handicap < best[path][0]:
                best[path] = (cost * handicap, trial[path], compressed_bytes)
    encodings = {path: encoding for path, (_, encoding, _) in best.items()}
    encoded_bytes = sum(compressed_bytes for _, _, compressed_bytes in best.values())
    return EncodingPlan(target.schema, encodings, encoded_bytes / max(sample.nbytes, 1))


def leaf_types(schema: pa.Schema) -> Mapping[str, str]:
    """Return leaf path → Parquet physical type, as Parquet itself names them, in file order."""
    writer = pq.ParquetWriter(pa.BufferOutputStream(), schema, store_decimal_as_integer=True)
    writer.close()
    parquet_schema = writer.writer.metadata.schema
    columns = [parquet_schema.column(index) for index in range(len(parquet_schema))]
    return {column.path: column.physical_type for column in columns}


def _candidates(target: WriteTarget) -> Mapping[str, Mapping[str, float]]:
    """Return leaf path → the encodings that could pay with their handicaps, the default first."""
    return {
        path: {DICTIONARY: 1.0}
        if path in ALWAYS_DICTIONARY
        else _candidates_of(physical_type, target)
        for path, physical_type in leaf_types(target.schema).items()
    }


def _candidates_of(physical_type: str, target: WriteTarget) -> Mapping[str, float]:
    if physical_type == "BOOLEAN":
        return {PLAIN: 1.0}
    allowed = dict(_INTEGER_HANDICAPS if physical_type in _INTEGER_TYPES else _HANDICAPS)
    if physical_type not in _INTEGER_TYPES and physical_type != "BYTE_ARRAY":
        return {PLAIN: allowed[PLAIN], DICTIONARY: allowed[DICTIONARY]}
    if not target.delta_encodings:
        return {PLAIN: 1.0, DICTIONARY: allowed[DICTIONARY]}
    return allowed


def _trials(candidates: Mapping[str, Mapping[str, float]]) -> Iterator[Mapping[str, str]]:
    """Yield assignments that together try every candidate of every column once.

    A column without a further candidate is left out, so that it is not encoded again.
    """
    for number in range(max(len(of_column) for of_column in candidates.values())):
        yield {
            path: list(of_column)[number]
            for path, of_column in candidates.items()
            if number < len(of_column)
        }


def _column_chunks(
    sample: pa.Table, trial: Mapping[str, str], target: WriteTarget
) -> Mapping[str, pq.ColumnChunkMetaData]:
    # Safe with dots in names: a leaf's path is its top-level column's name, or goes on with a dot.
    columns = sample.select(
        [n for n in sample.schema.names if any(f"{path}.".startswith(f"{n}.") for path in trial)]
    )
    writer = pq.ParquetWriter(
        pa.BufferOutputStream(),
        columns.schema,
        store_decimal_as_integer=True,
        write_statistics=False,
        **compression_options(target),
        **EncodingPlan(target.schema, trial).writer_options(),
    )
    writer.write_table(columns, row_group_size=columns.num_rows)
    writer.close()
    row_group = writer.writer.metadata.row_group(0)
    chunks = [row_group.column(index) for index in range(row_group.num_columns)]
    return {c.path_in_schema: c for c in chunks if c.path_in_schema in trial}
