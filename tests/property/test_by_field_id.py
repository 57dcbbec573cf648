"""Columns matched by field id, at any depth and in any slice.

Goal: renamed, moved, added and dropped fields are right inside structs, lists and maps, and nulls
are told from empties. Method: random values and random cuts; a few lines of Python that do the same
to each value are the model.
"""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.errors import IncompatibleSchemaError
from k2i_core.parquet.by_field_id import ByFieldId


def field(name: str, data_type: pa.DataType, number: int) -> Any:
    return pa.field(name, data_type, metadata={b"PARQUET:field_id": str(number).encode()})


def struct(*fields: Any) -> pa.DataType:
    return pa.struct(list(fields))


OLD_ITEM = struct(field("sku", pa.string(), 11), field("n", pa.int32(), 12))
NEW_ITEM = struct(
    field("added", pa.int64(), 14), field("code", pa.string(), 11), field("m", pa.int32(), 13)
)
OLD = pa.schema(
    [
        field("kept", pa.int64(), 1),
        field("dropped", pa.int64(), 2),
        field("item", OLD_ITEM, 3),
        field("items", pa.list_(field("element", OLD_ITEM, 21)), 4),
        field(
            "by_key",
            pa.map_(
                pa.field("key", pa.string(), nullable=False, metadata={"PARQUET:field_id": "31"}),
                field("value", pa.list_(field("element", OLD_ITEM, 33)), 32),
            ),
            5,
        ),
        field("plain", pa.list_(field("element", pa.int32(), 22)), 6),
    ]
)
NEW = pa.schema(
    [
        field("plain", pa.list_(field("element", pa.int32(), 22)), 6),
        field("things", pa.list_(field("element", NEW_ITEM, 21)), 4),
        field("dropped", pa.string(), 7),
        field("kept", pa.int64(), 1),
        field("thing", NEW_ITEM, 3),
        field(
            "by_key",
            pa.map_(
                pa.field("key", pa.string(), nullable=False, metadata={"PARQUET:field_id": "31"}),
                field("value", pa.list_(field("element", NEW_ITEM, 33)), 32),
            ),
            5,
        ),
    ]
)

ITEMS = st.none() | st.fixed_dictionaries(
    {"sku": st.none() | st.text(max_size=3), "n": st.none() | st.integers(-5, 5)}
)
LISTS = st.none() | st.lists(ITEMS, max_size=3)
ROWS = st.fixed_dictionaries(
    {
        "kept": st.none() | st.integers(-5, 5),
        "dropped": st.integers(),
        "item": ITEMS,
        "items": LISTS,
        "by_key": st.none()
        | st.dictionaries(st.text(max_size=2), LISTS, max_size=3).map(lambda d: list(d.items())),
        "plain": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
    }
)


def new_item(old: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if old is None else {"added": None, "code": old["sku"], "m": None}


def new_list(old: list[Any] | None) -> list[Any] | None:
    return None if old is None else [new_item(item) for item in old]


def new_row(old: dict[str, Any]) -> dict[str, Any]:
    by_key = old["by_key"]
    return {
        "plain": old["plain"],
        "things": new_list(old["items"]),
        "kept": old["kept"],
        "thing": new_item(old["item"]),
        "by_key": None if by_key is None else [(k, new_list(v)) for k, v in by_key],
    }


@given(st.lists(ROWS, max_size=12), st.data())
def test_any_slice_becomes_what_each_value_would(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    rows = [{**row, "dropped": 1} for row in rows]
    whole = pa.RecordBatch.from_pylist(rows, schema=OLD)
    start = data.draw(st.integers(0, len(rows)))
    count = data.draw(st.integers(0, len(rows) - start))

    made = ByFieldId(OLD, NEW).apply(whole.slice(start, count))

    made.validate(full=True)
    assert made.to_pylist() == [new_row(row) for row in rows[start : start + count]]


@given(st.lists(ROWS, max_size=6))
def test_what_is_the_same_is_not_touched(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "dropped": 1} for row in rows]
    batch = pa.RecordBatch.from_pylist(rows, schema=OLD)

    made = ByFieldId(OLD, OLD).apply(batch)

    assert made.to_pylist() == batch.to_pylist()
    assert [a.buffers()[-1] for a in made.columns] == [a.buffers()[-1] for a in batch.columns] or (
        not rows
    )


def test_columns_without_ids_are_refused() -> None:
    with pytest.raises(IncompatibleSchemaError, match="no field ids"):
        ByFieldId(pa.schema([pa.field("kept", pa.int64())]), NEW)


def test_another_kind_of_type_is_refused() -> None:
    with pytest.raises(IncompatibleSchemaError, match="column=thing"):
        ByFieldId(pa.schema([field("item", pa.int64(), 3)]), NEW)
