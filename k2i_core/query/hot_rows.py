"""The rows of chosen pages: whole batches where the seam lies between generations, else masked."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.hot.layout import Offsets
from k2i_core.hot.reader import HotPage, HotReader
from k2i_core.query.seam import NEVER, ChosenPage
from k2i_core.records import KAFKA_COLUMN


def hot_batches(reader: HotReader, chosen: Sequence[ChosenPage]) -> list[pa.RecordBatch]:
    """Return every hot row that counts, per page in poll order; usually without a copy.

    Raises:
        EvictedError: A page moved on; look again.

    """
    return [batch for one in chosen for batch in _of_page(reader, one)]


def _of_page(reader: HotReader, chosen: ChosenPage) -> Iterator[pa.RecordBatch]:
    page, from_offsets = chosen.page, chosen.from_offsets
    for index, generation in enumerate(page.state.generations):
        if (page.state.next_offsets[index] <= from_offsets).all():
            continue
        batches = reader.batches(page, generation)
        if (page.state.start_of(index) >= from_offsets).all():
            yield from batches
            continue
        for batch in batches:
            kept = batch.filter(pa.array(_mask(page, from_offsets, batch)))
            if kept.num_rows:
                yield kept


def _mask(page: HotPage, from_offsets: Offsets, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Tell for each row whether it lies at or above the seam of its Kafka partition."""
    origin = batch.column(KAFKA_COLUMN)
    partitions = _numpy(pc.struct_field(origin, "partition"))
    offsets = _numpy(pc.struct_field(origin, "offset"))
    topics = sorted({tp.topic for tp in page.head.partitions})
    width = 1 + max(tp.kafka_partition for tp in page.head.partitions)
    limits = np.full(len(topics) * width, NEVER)
    for tp, index in page.index.items():
        limits[topics.index(tp.topic) * width + tp.kafka_partition] = from_offsets[index]
    places = partitions.astype(np.int64)
    if len(topics) > 1:
        codes = pc.index_in(pc.struct_field(origin, "topic"), pa.array(topics, pa.string()))
        places = places + width * _numpy(codes).astype(np.int64)
    return offsets >= limits[places]


def _numpy(array: "pa.Array[Any]") -> npt.NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)
