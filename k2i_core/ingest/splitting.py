"""One polled batch to the parts of it that each table takes. Pure.

A record goes into one table, by the record alone. What a table holds already, because it was ahead
of others when this session began, is dropped for it; a record that is a dead letter of a table
already stays that table's, whatever the rules say today.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.ingest.decoding import byte_counts, standing_verdicts
from k2i_core.ingest.ports import Router
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import DecidedOffsets, PolledBatch, Routes

Held = Mapping[TopicPartition, int]


def split(
    polled: PolledBatch, router: Router, verdicts: Mapping[str, DecidedOffsets]
) -> Iterator[tuple[str, PolledBatch]]:
    """Yield table → the records of a poll that it takes, with the ranges of the whole poll.

    Args:
        polled: n rows × POLLED_SCHEMA.
        router: The pipeline's rules.
        verdicts: Table → offsets that are dead letters of it already, also of one that is not read
            for.

    Raises:
        UnavailableError: A registry did not answer in time.

    """
    records = polled.records
    if not records.num_rows:
        return
    routes = _with_verdicts(records, router(records), verdicts)
    present = np.unique(routes.codes)
    for code in present:
        name = routes.tables[code]
        if len(present) == 1:
            yield name, replace(polled, refused=routes.refused)
            continue
        indices = np.flatnonzero(routes.codes == code)
        own = [f for f in routes.refused if routes.codes[f.index] == code]
        refused = tuple(
            replace(f, index=int(place))
            for f, place in zip(own, np.searchsorted(indices, [f.index for f in own]), strict=True)
        )
        yield name, _taken(polled, indices, polled.ranges, refused)


def without_held(polled: PolledBatch, held: Held) -> PolledBatch:
    """Drop what a table holds already; the same batch where it holds nothing of it."""
    if all(r.start_offset >= held.get(r.topic_partition, 0) for r in polled.ranges):
        return polled
    kept = np.ones(polled.records.num_rows, np.bool_)
    ranges: list[OffsetRange] = []
    for offset_range, here in _places(polled):
        limit = held.get(offset_range.topic_partition, 0)
        kept[here & (_offsets(polled) < limit)] = False
        start_offset = max(limit, offset_range.start_offset)
        if start_offset < offset_range.next_offset:
            ranges.append(replace(offset_range, start_offset=start_offset))
    new_places = np.cumsum(kept) - 1
    refused = tuple(
        replace(f, index=int(new_places[f.index])) for f in polled.refused if kept[f.index]
    )
    return _taken(polled, np.flatnonzero(kept), tuple(ranges), refused)


def before(polled: PolledBatch, index: int) -> PolledBatch:
    """Return the records of a poll before one of them, with the ranges that they cover."""
    offsets = _offsets(polled)
    ranges: list[OffsetRange] = []
    for offset_range, here in _places(polled):
        later = np.flatnonzero(here[index:])
        end = int(offsets[index + later[0]]) if len(later) else offset_range.next_offset
        if end > offset_range.start_offset:
            ranges.append(replace(offset_range, next_offset=end))
    refused = tuple(failure for failure in polled.refused if failure.index < index)
    return _taken(polled, np.arange(index), tuple(ranges), refused)


def record_counts(polled: PolledBatch) -> dict[TopicPartition, int]:
    """Count the records of each Kafka partition."""
    if len(polled.ranges) == 1:
        return {polled.ranges[0].topic_partition: polled.records.num_rows}
    return {r.topic_partition: int(here.sum()) for r, here in _places(polled)}


def held_counts(polled: PolledBatch, held: Held) -> dict[TopicPartition, int]:
    """Count the records of each Kafka partition that a table holds already."""
    if all(r.start_offset >= held.get(r.topic_partition, 0) for r in polled.ranges):
        return {}
    offsets = _offsets(polled)
    return {
        r.topic_partition: int((here & (offsets < held.get(r.topic_partition, 0))).sum())
        for r, here in _places(polled)
    }


def _with_verdicts(
    records: pa.RecordBatch, routes: Routes, verdicts: Mapping[str, DecidedOffsets]
) -> Routes:
    """Leave records to the table whose dead letters they are."""
    for name, offsets in verdicts.items():
        standing = standing_verdicts(records, offsets)
        if not standing.any():
            continue
        tables = routes.tables if name in routes.tables else (*routes.tables, name)
        codes = np.where(standing, np.int32(tables.index(name)), routes.codes)
        routes = Routes(tables, codes, routes.refused)
    return routes


def _taken(
    polled: PolledBatch,
    indices: npt.NDArray[np.int64],
    ranges: tuple[OffsetRange, ...],
    refused: tuple[object, ...],
) -> PolledBatch:
    records = polled.records.take(pa.array(indices, pa.int64()))
    return replace(
        polled,
        records=records,
        ranges=ranges,
        byte_count=int(byte_counts(records).sum()),
        refused=refused,
    )


def _places(polled: PolledBatch) -> Iterator[tuple[OffsetRange, npt.NDArray[np.bool_]]]:
    """Yield each range with which records are of its Kafka partition."""
    partitions = polled.records.column("partition").to_numpy()
    topics = {r.topic_partition.topic for r in polled.ranges}
    codes: npt.NDArray[np.int32] | None = None
    names: list[str] = []
    if len(topics) > 1:
        encoded = polled.records.column("topic").dictionary_encode()
        names = cast("list[str]", encoded.dictionary.to_pylist())
        codes = encoded.indices.to_numpy()
    for offset_range in polled.ranges:
        topic_partition = offset_range.topic_partition
        here = partitions == topic_partition.kafka_partition
        if codes is not None:
            is_there = topic_partition.topic in names
            here &= (codes == names.index(topic_partition.topic)) if is_there else False
        yield offset_range, here


def _offsets(polled: PolledBatch) -> npt.NDArray[np.int64]:
    return polled.records.column("offset").to_numpy()
