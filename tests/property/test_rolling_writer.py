"""Properties of the rolling writer.

Goal: however rows are batched, limited, partitioned and sorted, each is in exactly one file, that
file is of its partition, and the file is in the order that it claims.
Method: random rows and limits against a store in memory; the model is the list of rows itself.
"""

from collections import Counter
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.write_target import PartitionField, SortKey, WriteLimits
from tests.unit.parquet.memory_store import MemoryStore, with_field_ids

SCHEMA = with_field_ids(
    pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("word", pa.string()),
            pa.field("small", pa.int32()),
            pa.field("tags", pa.list_(pa.struct([("name", pa.string())]))),
        ]
    )
)

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "word": st.none() | st.sampled_from(["", "a", "b", "long " * 50]),
            "small": st.none() | st.integers(-3, 3),
            "tags": st.none()
            | st.lists(st.none() | st.fixed_dictionaries({"name": st.none() | st.text(max_size=3)}),
                       max_size=2),
        }
    ),
    max_size=60,
)  # fmt: skip
LIMITS = st.builds(
    WriteLimits,
    row_group_rows_max=st.integers(1, 30),
    row_group_bytes_max=st.integers(1, 5_000),
    buffered_bytes_max=st.integers(1, 5_000),
    open_files_max=st.integers(1, 4),
)


def same(column: pa.Array) -> pa.Array:
    return column


FIELDS = st.lists(
    st.sampled_from(
        [
            PartitionField("word", ("word",), same),
            PartitionField("small", ("small",), same),
            PartitionField("void", ("small",), lambda c: pa.nulls(len(c), c.type)),
        ]
    ),
    max_size=3,
    unique_by=lambda field: field.name,
).map(tuple)
KEYS = st.lists(
    st.builds(
        SortKey,
        st.sampled_from([("word",), ("small",)]),
        descending=st.booleans(),
        nulls_first=st.booleans(),
    ),
    max_size=2,
    unique_by=lambda key: key.source_path,
).map(tuple)


@given(ROWS, st.data(), LIMITS, FIELDS, KEYS, st.integers(1, 20_000))
def test_every_row_is_once_in_a_file_of_its_partition_and_order(
    drawn: list[dict[str, Any]],
    data: st.DataObject,
    limits: WriteLimits,
    fields: tuple[PartitionField, ...],
    keys: tuple[SortKey, ...],
    target_file_bytes: int,
) -> None:
    rows = [{"number": number, **row} for number, row in enumerate(drawn)]
    store = MemoryStore()
    writer = store.writer(
        store.target(
            SCHEMA,
            limits=limits,
            partition_fields=fields,
            sort_keys=keys,
            sort_order_id=1 if keys else None,
            target_file_bytes=target_file_bytes,
        )
    )
    start = 0
    while start < len(rows):
        count = data.draw(st.integers(1, len(rows) - start))
        writer.write(pa.RecordBatch.from_pylist(rows[start : start + count], schema=SCHEMA))
        assert writer.buffered_bytes <= limits.buffered_bytes_max
        start += count
    files = writer.close()

    assert store.open_count_max <= limits.open_files_max
    assert store.open_paths == set()
    written = {file.path: store.rows_of(file) for file in files}
    numbers = Counter(row["number"] for in_file in written.values() for row in in_file)
    assert numbers == Counter(range(len(rows)))
    for file in files:
        assert file.row_count == len(written[file.path]) > 0
        for row in written[file.path]:
            assert row == rows[row["number"]]
            expected = tuple(None if f.name == "void" else row[f.name] for f in fields)
            assert expected == file.iceberg_partition
        assert [row["number"] for row in written[file.path]] == in_order(written[file.path], keys)


def in_order(rows: list[dict[str, Any]], keys: tuple[SortKey, ...]) -> list[int]:
    """Sort by the last key first: each sort keeps the order of what it finds equal."""
    ordered = sorted(rows, key=lambda row: row["number"])
    for key in reversed(keys):
        (name,) = key.source_path
        nulls = [row for row in ordered if row[name] is None]
        values = [row for row in ordered if row[name] is not None]
        # Negated by place and not reversed, because a reversed sort would turn equal rows around.
        ranks = {value: place for place, value in enumerate(sorted({r[name] for r in values}))}
        sign = -1 if key.descending else 1
        values = sorted(values, key=lambda row: sign * ranks[row[name]])
        ordered = nulls + values if key.nulls_first else values + nulls
    return [row["number"] for row in ordered]
