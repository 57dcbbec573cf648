"""A record becomes one row for each element of a list, and is whole, or a dead letter, or filtered.

Goal: rows, their numbers, filtered and failed records are those that a reader of the file expects,
whatever stands beside a record. Method: small batches by hand; random lists against a model of one
record; the counts of a whole batch against its rows.
"""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2i_core.audit.seen_items import ItemNumbers, SeenItems
from k2i_core.errors import ConfigError
from k2i_core.ingest.decoding import DecodeSettings, decode_batch
from k2i_core.records import ITEM_COLUMN, ITEM_TYPE, DecodedBatch, TransformedRows
from tests.fakes.judging_decoder import BAD, GOOD, JudgingDecoder
from tests.fakes.several_rows import SeveralRows, rows_of
from tests.unit.ingest.test_decoding import P0, P1, polled
from tests.unit.transform.chains import apply, transforms

ITEM = pa.struct([("sku", pa.string()), ("quantity", pa.string())])
ORDERS = pa.schema([pa.field("order_id", pa.int64()), pa.field("items", pa.list_(ITEM))])

Items = list[dict[str, Any] | None] | None


def orders(*lists: Items) -> pa.RecordBatch:
    rows = [{"order_id": n, "items": items} for n, items in enumerate(lists)]
    return pa.RecordBatch.from_pylist(rows, schema=ORDERS)


def item(sku: str, quantity: str | None = "1") -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity}


def numbers(done: TransformedRows) -> list[tuple[int, int]]:
    return [(one["number"], one["count"]) for one in done.rows.column(ITEM_COLUMN).to_pylist()]


def test_each_element_is_a_row_beside_the_other_columns_with_its_number():
    made = transforms({"explode": "items"}, {"flatten": ["items"]})
    done = apply(made, orders([item("a"), item("b", "2")], [item("c")]))

    assert done.rows.select(["order_id", "items_sku", "items_quantity"]).to_pylist() == [
        {"order_id": 0, "items_sku": "a", "items_quantity": "1"},
        {"order_id": 0, "items_sku": "b", "items_quantity": "2"},
        {"order_id": 1, "items_sku": "c", "items_quantity": "1"},
    ]
    assert done.row_indices.to_pylist() == [0, 0, 1]
    assert numbers(done) == [(0, 2), (1, 2), (0, 1)]
    assert done.rows.schema.field(ITEM_COLUMN).type == ITEM_TYPE


def test_a_record_without_elements_is_filtered_or_one_row_with_null():
    rows = orders([item("a")], [], None, [None])

    filtered = apply(transforms({"explode": "items"}), rows)
    assert filtered.row_indices.to_pylist() == [0, 3]
    kept = apply(transforms({"explode": {"column": "items", "empty": "row"}}), rows)
    assert kept.rows.column("items").to_pylist() == [item("a"), None, None, None]
    assert numbers(kept) == [(0, 1)] * 4


def test_a_record_with_too_many_elements_fails_alone():
    made = transforms({"explode": {"column": "items", "max_rows": 2}})
    done = apply(made, orders([item("a")], [item("x")] * 3, [item("b"), item("c")]))

    assert [one["sku"] for one in done.rows.column("items").to_pylist()] == ["a", "b", "c"]
    (failure,) = done.failures
    assert (failure.index, failure.error_class) == (1, "too_many_rows")
    reason = "items: makes more rows of the record than max_rows=2"
    assert failure.message == f"transforms[0].explode: {reason}"


def test_a_row_that_fails_takes_the_others_of_its_record_with_it():
    made = transforms(
        {"explode": "items"}, {"flatten": ["items"]}, {"cast": {"items_quantity": "long"}}
    )
    done = apply(made, orders([item("a"), item("b", "x"), item("c", "y")], [item("d")]))

    assert done.rows.column("items_sku").to_pylist() == ["d"]
    assert [(f.index, f.error_class) for f in done.failures] == [(0, "cast_failed")]


def test_the_rows_that_a_filter_leaves_are_numbered_anew():
    made = transforms({"explode": "items"}, {"filter": "items.sku <> 'gift'"})
    done = apply(made, orders([item("gift"), item("a"), item("b")], [item("gift")]))

    assert done.row_indices.to_pylist() == [0, 0]
    assert numbers(done) == [(0, 2), (1, 2)]
    assert done.failures == ()


def test_what_is_no_list_or_has_our_columns_name_is_refused():
    with pytest.raises(ConfigError, match='"order_id" is no list, so there is nothing to explode'):
        transforms({"explode": "order_id"}).check(ORDERS)
    made = transforms({"explode": "items"})
    taken = ORDERS.append(pa.field(ITEM_COLUMN, pa.string()))
    with pytest.raises(ConfigError, match='explode: "_kafka_item" is a column already'):
        made.check(taken)
    assert made.derive(taken) == made.derive(ORDERS)


some_items = st.none() | st.lists(
    st.none() | st.builds(item, st.just("s"), st.sampled_from(["1", "5", "x", None])), max_size=5
)


def expected(items: Items, *, keeps_empty: bool) -> list[int | None] | str:
    """The quantities of one record's rows, or why it has none."""
    if len(items or ()) > 4:
        return "too_many_rows"
    rows = list(items or ()) or ([None] if keeps_empty else [])
    quantities = [None if one is None else one["quantity"] for one in rows]
    if "x" in quantities:
        return "cast_failed"
    kept = [None if q is None else int(q) for q in quantities if q != "5"]
    return kept or "filtered"


@settings(max_examples=60)
@given(st.lists(some_items, max_size=6), st.booleans(), st.integers(0, 2))
def test_each_record_becomes_what_it_alone_would(lists, keeps_empty, skipped):
    empty = "row" if keeps_empty else "filter"
    made = transforms(
        {"explode": {"column": "items", "empty": empty, "max_rows": 4}},
        {"flatten": ["items"]},
        {"cast": {"items_quantity": "long"}},
        {"filter": "items_quantity IS DISTINCT FROM 5"},
    )
    # A slice, because then the lists do not begin where their buffers do.
    done = apply(made, orders(*lists).slice(skipped))

    assert done.rows["order_id"].to_pylist() == [n + skipped for n in done.row_indices.to_pylist()]
    found = (expected(one, keeps_empty=keeps_empty) for one in lists[skipped:])
    assert_each_is_whole(done, "items_quantity", list(enumerate(found)))


def assert_each_is_whole(
    done: TransformedRows, column: str, records: list[tuple[int, list[int | None] | str]]
) -> None:
    rows = [(n, q) for n, quantities in records if isinstance(quantities, list) for q in quantities]
    indices = done.row_indices.to_pylist()
    assert list(zip(indices, done.rows[column].to_pylist(), strict=True)) == rows
    assert [(f.index, f.error_class) for f in done.failures] == [
        (n, why) for n, why in records if isinstance(why, str) and why != "filtered"
    ]
    items = done.rows.column(ITEM_COLUMN)
    seen = SeenItems()
    numbers_and_counts = (items.field(leaf.name) for leaf in ITEM_TYPE)
    seen.add(pa.array(indices, pa.int64()), ItemNumbers(*numbers_and_counts))
    assert not seen.torn()
    assert not seen.offsets().doubled


def expected_of_lists_in_lists(
    groups: list[list[int] | None] | None, *, keeps_empty: bool
) -> list[int | None] | str:
    """The numbers of one record's rows, or why it has none."""
    nothing = [None] if keeps_empty else []
    outer = list(groups or ()) or nothing
    numbers = [number for group in outer for number in list(group or ()) or nothing]
    return "too_many_rows" if len(outer) > 3 or len(numbers) > 4 else numbers or "filtered"


some_groups = st.none() | st.lists(st.none() | st.lists(st.integers(0, 9), max_size=3), max_size=4)


@settings(max_examples=60)
@given(st.lists(some_groups, max_size=6), st.booleans())
def test_lists_in_lists_become_rows_that_count_together(lists, keeps_empty):
    empty = "row" if keeps_empty else "filter"
    made = transforms(
        {"explode": {"column": "groups", "empty": empty, "max_rows": 3}},
        {"explode": {"column": "groups", "empty": empty, "max_rows": 4}},
    )
    schema = pa.schema([pa.field("groups", pa.list_(pa.list_(pa.int64())))])
    rows = pa.RecordBatch.from_pylist([{"groups": one} for one in lists], schema=schema)
    found = (expected_of_lists_in_lists(one, keeps_empty=keeps_empty) for one in lists)
    assert_each_is_whole(apply(made, rows), "groups", list(enumerate(found)))


@given(
    st.lists(st.sampled_from([GOOD, BAD, None]), max_size=8),
    st.lists(st.sampled_from([GOOD, BAD, None]), max_size=8),
)
def test_records_are_counted_as_records_and_their_further_rows_beside(first, second):
    listed = {P0: first, P1: second}
    several = DecodeSettings("sales.orders", {}, transforms=SeveralRows())
    decoded = decode_batch(polled(listed), JudgingDecoder(), several, 0)

    assert isinstance(decoded, DecodedBatch)
    assert decoded.rows.num_rows == sum(c.counts.table_row_count for c in decoded.ranges)
    for counted in decoded.ranges:
        good = [5 + n for n, v in enumerate(listed[counted.offsets.topic_partition]) if v == GOOD]
        assert counted.counts.row_count == len(good)
        assert counted.counts.table_row_count == sum(map(rows_of, good))
