"""Goal: what is reserved for a batch always holds it, whatever its types, nulls and slices.

Method: random tables of many shapes, sliced at random, written into a segment of exactly the room
that was asked for, and read back.
"""

import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.hot.layout import SegmentState
from k2i_core.hot.segments import SegmentReader, SegmentWriter, room_for

VALUES = {
    pa.int64(): st.integers(-(2**62), 2**62),
    pa.string(): st.text(max_size=20),
    pa.binary(): st.binary(max_size=40),
    pa.bool_(): st.booleans(),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.list_(pa.string()): st.lists(st.none() | st.text(max_size=5), max_size=3),
    pa.struct([("a", pa.int32()), ("b", pa.list_(pa.struct([("c", pa.string())])))]): (
        st.fixed_dictionaries(
            {
                "a": st.none() | st.integers(0, 99),
                "b": st.lists(st.fixed_dictionaries({"c": st.text(max_size=3)}), max_size=2),
            }
        )
    ),
    pa.map_(pa.string(), pa.int64()): st.dictionaries(
        st.text(max_size=4), st.integers(0, 9), max_size=2
    ).map(lambda found: list(found.items())),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6))
    count = draw(st.integers(0, 30))
    columns = [
        pa.array(draw(st.lists(st.none() | VALUES[t], min_size=count, max_size=count)), t)
        for t in types
    ]
    whole = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(types))])
    start = draw(st.integers(0, count))
    return whole.slice(start, draw(st.integers(0, count - start)))


@given(batches())
def test_a_reserved_segment_holds_its_batch(batch: pa.RecordBatch) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "segment"
        room = room_for(batch, 0)
        writer = SegmentWriter(path, room, batch.schema)
        fitted = 0
        while writer.takes(batch) and fitted < 300:
            writer.write(batch)
            fitted += 1
        assert fitted
        assert writer.byte_count <= room
        state = SegmentState(1, 0, 0, writer.byte_count, writer.row_count)
        read = SegmentReader(path).advance(state)
        rows = pa.Table.from_batches(read, batch.schema)
        assert rows.slice(0, batch.num_rows).equals(pa.Table.from_batches([batch]))
        assert rows.num_rows == fitted * batch.num_rows
