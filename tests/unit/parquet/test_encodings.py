"""Which encoding each column gets.

Goal: a column is encoded in what makes it small, by a sample if there is one, by type if not.
Method: write columns with known content and look at the encodings in the footer, or at the plan.
"""

import os

import pyarrow as pa
import pytest

from k2i_core.parquet import encodings
from k2i_core.parquet.encodings import EncodingMemory, EncodingPlan
from k2i_core.records import WrittenFile
from tests.unit.parquet.memory_store import MemoryStore, rows_with, with_field_ids

ROWS = 8_000


def varied_rows(row_count: int = ROWS) -> pa.RecordBatch:
    return rows_with(
        0,
        event_id=pa.array(range(row_count), pa.int64()),
        country=pa.array([("DE", "FR", "US")[os.urandom(1)[0] % 3] for _ in range(row_count)]),
        session=pa.array([os.urandom(16).hex() for _ in range(row_count)]),
        path=pa.array([f"/a/long/and/shared/prefix/{n:08}" for n in range(row_count)]),
        price=pa.array(range(row_count), pa.decimal128(9, 2)),
        wide=pa.array(range(row_count)).cast(pa.decimal128(38, 2)),
        seen=pa.array(range(row_count), pa.timestamp("us", "UTC")),
        flag=pa.array([n % 2 == 0 for n in range(row_count)]),
        items=pa.array([[{"sku": n, "unit": "kg"}] for n in range(row_count)]),
    )


def encodings_of(file: WrittenFile) -> dict[str, set[str]]:
    group = file.footer.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    return {column.path_in_schema: set(column.encodings) for column in columns}


def write(rows: pa.RecordBatch, **changes) -> WrittenFile:
    store = MemoryStore()
    (file,) = store.write(store.target(with_field_ids(rows.schema), **changes), rows)
    assert [row["event_id"] for row in store.rows_of(file)] == list(range(rows.num_rows))
    return file


def test_a_sample_decides_column_by_column() -> None:
    found = encodings_of(write(varied_rows()))

    assert "RLE_DICTIONARY" in found["country"]
    assert "RLE_DICTIONARY" in found["items.list.element.unit"]
    assert "RLE_DICTIONARY" in found["_kafka.topic"]
    for path in ("event_id", "seen", "price", "_kafka.offset", "items.list.element.sku"):
        assert "DELTA_BINARY_PACKED" in found[path], path
    assert "RLE_DICTIONARY" not in found["session"]
    assert "DELTA_BYTE_ARRAY" in found["path"]


def test_few_rows_go_by_type() -> None:
    found = encodings_of(write(varied_rows(20)))

    assert "DELTA_BINARY_PACKED" in found["event_id"]
    assert "DELTA_BINARY_PACKED" in found["_kafka.offset"]
    assert "RLE_DICTIONARY" in found["_kafka.topic"]
    assert "RLE_DICTIONARY" not in found["session"]


@pytest.mark.parametrize("row_count", [20, ROWS])
def test_no_delta_encoding_is_used_when_readers_have_none(row_count: int) -> None:
    found = encodings_of(write(varied_rows(row_count), delta_encodings=False))

    assert not [path for path, used in found.items() if any("DELTA" in name for name in used)]


def test_decimals_are_integers_where_parquet_has_them() -> None:
    group = write(varied_rows(20)).footer.row_group(0)

    physical = {
        group.column(n).path_in_schema: group.column(n).physical_type
        for n in range(group.num_columns)
    }
    assert physical["price"] == "INT32"
    assert physical["wide"] == "FIXED_LEN_BYTE_ARRAY"


def test_pages_are_version_one_with_an_index_and_checksums() -> None:
    store = MemoryStore()
    rows = varied_rows()
    (file,) = store.write(store.target(with_field_ids(rows.schema)), rows)

    column = file.footer.row_group(0).column(0)
    assert column.has_column_index
    assert column.has_offset_index
    assert b"ARROW:schema" not in (file.footer.metadata or {})
    content = bytearray(store.contents[file.path])
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    store.contents[file.path] = bytes(content)
    with pytest.raises(OSError, match=r"(?i)crc|corrupt|checksum"):
        store.table_of(file)


def test_what_was_learned_is_kept_for_the_next_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    memory = EncodingMemory()
    rows = varied_rows()
    learned: list[EncodingPlan] = []

    def learn(sample, target):
        learned.append(by_sample(sample, target))
        return learned[-1]

    by_sample = encodings.plan_by_sample
    monkeypatch.setattr(encodings, "plan_by_sample", learn)
    for _ in range(3):
        writer = store.writer(store.target(with_field_ids(rows.schema)), memory)
        writer.write(rows)
        writer.close()

    assert len(learned) == 1


def test_another_schema_is_learned_anew() -> None:
    store = MemoryStore()
    memory = EncodingMemory()
    first = varied_rows()
    second = rows_with(0, other=pa.array(range(ROWS)))

    plans = []
    for rows in (first, second):
        target = store.target(with_field_ids(rows.schema))
        plans.append(memory.plan_for(pa.Table.from_batches([rows]), target))

    assert "event_id" in plans[0].encodings
    assert "event_id" not in plans[1].encodings
    assert "other" in plans[1].encodings


def test_the_sample_tells_how_small_the_rows_become() -> None:
    store = MemoryStore()
    rows = varied_rows()
    target = store.target(with_field_ids(rows.schema))

    plan = encodings.plan_by_sample(pa.Table.from_batches([rows]), target)

    (file,) = store.write(target, rows)
    assert plan.encoded_share == pytest.approx(file.byte_count / rows.nbytes, rel=0.2)


def test_dots_in_column_names_do_no_harm() -> None:
    rows = rows_with(
        0,
        **{
            "event_id": pa.array(range(ROWS)),
            "a.b": pa.array(["x"] * ROWS),
            "a": pa.array([{"b": "y"}] * ROWS),
        },
    )

    found = encodings_of(write(rows))

    assert "RLE_DICTIONARY" in found["a.b"]
