"""One polled batch to one decoded batch: every record is exactly one of four things.

    records ─► tombstones out ─► standing verdicts out ─► decode ─► transform ─► rows + `_kafka`
                                                            └─ dead letters ─┘└─ filtered

An offset that the dead-letter table holds already is a dead letter whatever the decoder thinks
today: otherwise a crash between the two commits could make it both (I1). Pure and columnar; only
failed records are touched one by one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.ingest.ports import Decoder, FetchSchemas, RowTransforms
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    KAFKA_COLUMN,
    KAFKA_TYPE,
    STAGE_KEY,
    CountedRange,
    DecidedOffsets,
    DecodedBatch,
    DecodeFailure,
    PolledBatch,
    RangeCounts,
    TransformedRows,
)
from k2i_core.schema.registered import SchemaId

KeyCheck = Callable[[pa.Array], tuple[DecodeFailure, ...]]

STAGE_TRANSFORM = "transform"

KINDS = ("row", "dead_letter", "filtered", "tombstone")


@dataclass(frozen=True, slots=True)
class WiderSchema:
    """These records have fields that the columns cannot hold; evolve, then decode again."""

    row_schema: pa.Schema


@dataclass(frozen=True, slots=True)
class Breaking:
    """One of these records has a schema that the table cannot follow; stop before it.

    Attributes:
        index: Of the record, among those of the poll.
    """

    index: int
    schema_id: SchemaId | None
    reason: str


@dataclass(frozen=True, slots=True)
class MissingSchemas:
    """These records were written with schemas that are not known yet; fetch, then decode again."""

    schema_ids: frozenset[SchemaId]


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What stays the same for all batches of a session.

    Attributes:
        target_table: Identifier written into dead letters.
        verdicts: Offsets that are dead letters already.
        check_keys: Finds keys that do not fit the key format, among n keys; None accepts all.
        transforms: Makes the table's columns of the decoder's; None where they are the same.
    """

    target_table: str
    verdicts: DecidedOffsets
    check_keys: KeyCheck | None = None
    transforms: RowTransforms | None = None


def decode_fetching(
    polled: PolledBatch,
    decoder: Decoder,
    settings: DecodeSettings,
    now_ms: int,
    fetch_schemas: FetchSchemas,
) -> DecodedBatch | WiderSchema | Breaking:
    """Decode n records as `decode_batch`, and fetch the writers' schemas that it asks for.

    Raises:
        UnavailableError: The registry did not answer in time; decode the records again.
        ConfigError: The registry refuses us.

    """
    while True:
        decoded = decode_batch(polled, decoder, settings, now_ms)
        if not isinstance(decoded, MissingSchemas):
            return decoded
        fetch_schemas(decoded.schema_ids)


def decode_batch(
    polled: PolledBatch,
    decoder: Decoder,
    settings: DecodeSettings,
    now_ms: int,
) -> DecodedBatch | WiderSchema | MissingSchemas | Breaking:
    """Decode n records of one poll.

    Args:
        polled: n rows × POLLED_SCHEMA.
        decoder: For the current columns.
        settings: Of the session.
        now_ms: Written into dead letters as `first_seen`.

    Returns:
        Rows (m × columns + `_kafka`), new dead letters (k × DEAD_LETTER_SCHEMA) and the counts of
        every range; or the schema that these records need first; or the writers' schemas to fetch;
        or the record to stop at.

    """
    records = polled.records
    kinds, failures = _undecoded(polled, settings)
    candidates = np.flatnonzero(kinds == 0)
    is_whole = len(candidates) == records.num_rows
    decoded = decoder.decode(
        records if is_whole else records.take(pa.array(candidates, pa.int64()))
    )
    if decoded.missing_schema_ids:
        return MissingSchemas(decoded.missing_schema_ids)
    if (breaking := decoded.breaking) is not None:
        index = int(candidates[breaking.index])
        return Breaking(index, breaking.schema_id, breaking.reason)
    if decoded.proposed_schema is not None:
        return WiderSchema(decoded.proposed_schema)
    for failure in decoded.failures:
        index = int(candidates[failure.index])
        kinds[index] = KINDS.index("dead_letter")
        failures.append((index, failure.stage, failure))

    kept = candidates if decoded.row_indices is None else candidates[_numpy(decoded.row_indices)]
    assert len(kept) == decoded.rows.num_rows
    origin = _kafka_column(records)
    if len(kept) != records.num_rows:
        origin = origin.take(pa.array(kept, pa.int64()))
    rows = decoded.rows
    if settings.transforms is not None:
        made = settings.transforms.apply(rows, settings.transforms.hide(origin))
        rows, origin = made.rows, made.origin
        failures += _note_gone(made, kept, kinds)
        kept = kept if made.row_indices is None else kept[_numpy(made.row_indices)]
    return DecodedBatch(
        rows=rows.append_column(pa.field(KAFKA_COLUMN, KAFKA_TYPE), origin),
        dead_letters=_dead_letters(records, sorted(failures), settings, now_ms),
        ranges=_count(polled, kinds, kept),
        byte_count=polled.byte_count,
    )


def refused_letters(polled: PolledBatch, settings: DecodeSettings, now_ms: int) -> pa.RecordBatch:
    """Return what `decode_batch` makes of refused records, for a table of which nothing is decoded.

    Returns:
        k × DEAD_LETTER_SCHEMA; none for what is a dead letter already.

    """
    _, failures = _undecoded(polled, settings)
    return _dead_letters(polled.records, sorted(failures), settings, now_ms)


def _undecoded(
    polled: PolledBatch, settings: DecodeSettings
) -> tuple[npt.NDArray[np.uint8], list[tuple[int, str, DecodeFailure]]]:
    """Return kinds as far as they do not depend on values, and what is a dead letter by that."""
    records = polled.records
    kinds = np.zeros(records.num_rows, dtype=np.uint8)
    tombstones = _numpy(records.column("value").is_null())
    kinds[tombstones] = KINDS.index("tombstone")
    standing = standing_verdicts(records, settings.verdicts)
    kinds[standing & ~tombstones] = KINDS.index("dead_letter")
    found = [(failure.stage, failure) for failure in polled.refused]
    if settings.check_keys is not None:
        found += [(STAGE_KEY, f) for f in settings.check_keys(records.column("key"))]
    failures: list[tuple[int, str, DecodeFailure]] = []
    for stage, failure in found:
        if kinds[failure.index] == 0:
            kinds[failure.index] = KINDS.index("dead_letter")
            failures.append((failure.index, stage, failure))
    return kinds, failures


def _note_gone(
    made: TransformedRows, kept: npt.NDArray[np.int64], kinds: npt.NDArray[np.uint8]
) -> list[tuple[int, str, DecodeFailure]]:
    """Note which of the kept records are filtered and dead letters now; return the latter."""
    if made.row_indices is not None:
        is_gone = np.ones(len(kept), np.bool_)
        is_gone[_numpy(made.row_indices)] = False
        kinds[kept[is_gone]] = KINDS.index("filtered")
    failed = [(int(kept[failure.index]), STAGE_TRANSFORM, failure) for failure in made.failures]
    kinds[[index for index, _, _ in failed]] = KINDS.index("dead_letter")
    return failed


def _numpy(array: pa.Array) -> npt.NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)


def _kafka_column(records: pa.RecordBatch) -> pa.StructArray:
    columns = [records.column(field.name) for field in KAFKA_TYPE]
    return pa.StructArray.from_arrays(columns, fields=list(KAFKA_TYPE))


def standing_verdicts(records: pa.RecordBatch, verdicts: DecidedOffsets) -> npt.NDArray[np.bool_]:
    """Tell of each of n records whether it is a dead letter already."""
    standing = np.zeros(records.num_rows, dtype=np.bool_)
    if not verdicts or not records.num_rows:
        return standing
    offsets = _numpy(records.column("offset"))
    first, last = offsets.min(), offsets.max()
    for topic_partition, decided in verdicts.items():
        # Few of them are about one poll, and none once the session is past what was read before.
        near = decided[np.searchsorted(decided, first) : np.searchsorted(decided, last, "right")]
        if not len(near):
            continue
        topic = pa.array([topic_partition.topic], pa.string())
        standing |= (
            _numpy(pc.is_in(records.column("topic"), topic))
            & (_numpy(records.column("partition")) == topic_partition.kafka_partition)
            & np.isin(offsets, near)
        )
    return standing


def _dead_letters(
    records: pa.RecordBatch,
    failures: list[tuple[int, str, DecodeFailure]],
    settings: DecodeSettings,
    now_ms: int,
) -> pa.RecordBatch:
    indices = pa.array([index for index, _, _ in failures], pa.int64())
    count, transforms = len(failures), settings.transforms
    values, origin = records.column("value").take(indices), _kafka_column(records).take(indices)
    if transforms is not None and not transforms.keeps_bytes:
        # Anything may stand in what could not be read.
        values, origin = pa.nulls(count, pa.binary()), transforms.hide(origin)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([settings.target_table] * count, pa.string()),
            pa.array([stage for _, stage, _ in failures], pa.string()),
            pa.array([failure.error_class for _, _, failure in failures], pa.string()),
            pa.array([fingerprint(stage, failure) for _, stage, failure in failures], pa.string()),
            pa.array([failure.message for _, _, failure in failures], pa.string()),
            pa.array([failure.schema_id for _, _, failure in failures], pa.int32()),
            pa.array([now_ms * 1000] * count, pa.int64()).cast(
                DEAD_LETTER_SCHEMA.field("first_seen").type
            ),
            values,
            origin,
        ],
        schema=DEAD_LETTER_SCHEMA,
    )


def fingerprint(stage: str, failure: DecodeFailure) -> str:
    """Return 16 hexadecimal digits that are equal for records that failed for the same reason."""
    # Digits in a message are positions and lengths: they differ where the reason is the same.
    reason = "".join("#" if c.isdigit() else c for c in failure.message)
    text = f"{stage}\n{failure.error_class}\n{reason}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _count(
    polled: PolledBatch, kinds: npt.NDArray[np.uint8], row_records: npt.NDArray[np.int64]
) -> tuple[CountedRange, ...]:
    """Count kinds, bytes and rows per Kafka partition, by bincounts over (topic, partition, kind).

    Args:
        polled: n records.
        kinds: What became of each.
        row_records: Which of them each row is made of.

    """
    names, topic_codes = _topic_codes(polled)
    partitions = _numpy(polled.records.column("partition")).astype(np.int64)
    width = 1 + max((r.topic_partition.kafka_partition for r in polled.ranges), default=0)
    places = topic_codes * width + partitions
    place_count = len(names) * width
    counts = np.bincount(places * len(KINDS) + kinds, minlength=place_count * len(KINDS))
    row_counts = np.bincount(places[row_records], minlength=place_count)
    # Exact, because a poll holds far less than 2**53 bytes.
    bytes_ = np.bincount(places, weights=byte_counts(polled.records), minlength=place_count)
    counted: list[CountedRange] = []
    for offset_range in polled.ranges:
        topic_partition = offset_range.topic_partition
        if topic_partition.topic not in names:
            counted.append(CountedRange(offset_range, RangeCounts()))
            continue
        place = names.index(topic_partition.topic) * width + topic_partition.kafka_partition
        rows, dead_letters, filtered, tombstones = counts[
            place * len(KINDS) : (place + 1) * len(KINDS)
        ]
        counted.append(
            CountedRange(
                offset_range,
                RangeCounts(
                    row_count=int(rows),
                    dead_letter_count=int(dead_letters),
                    filtered_count=int(filtered),
                    tombstone_count=int(tombstones),
                    byte_count=int(bytes_[place]),
                    extra_row_count=int(row_counts[place] - rows),
                ),
            )
        )
    return tuple(counted)


def _topic_codes(polled: PolledBatch) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the topics of the records, and for each record which of them it is of."""
    topics = {r.topic_partition.topic for r in polled.ranges}
    if len(topics) == 1:
        return list(topics), np.zeros(polled.records.num_rows, np.int64)
    encoded = polled.records.column("topic").dictionary_encode()
    names = cast("list[str]", encoded.dictionary.to_pylist())
    return names, _numpy(encoded.indices).astype(np.int64)


def byte_counts(records: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the key and value bytes of each of n records."""

    def lengths(name: str) -> npt.NDArray[np.int64]:
        column = cast("pa.BinaryArray", records.column(name))
        return _numpy(pc.binary_length(column).fill_null(0)).astype(np.int64)

    return lengths("key") + lengths("value")
