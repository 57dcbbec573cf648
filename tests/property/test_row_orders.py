"""Properties of the orders in which rows are rewritten.

Goal: sorting within little memory is sorting, and the z-curve is the z-curve. Method: compare with
what is obviously right and slow: one sort of all rows, bits interleaved one by one.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.maintenance.orders import (
    TableOrder,
    ZOrder,
    buckets,
    interleave,
    quantiles,
    ranks,
)
from k2i_core.maintenance.sorting import sort_all
from k2i_core.parquet.sorting import sort_rows
from k2i_core.write_target import SortKey

KEYS = (SortKey(("city",), descending=True, nulls_first=False), SortKey(("n",)))


@st.composite
def row_batches(draw: st.DrawFn) -> list[pa.RecordBatch]:
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 400))
    random = np.random.default_rng(seed)
    few = draw(st.booleans())
    rows = pa.RecordBatch.from_pydict(
        {
            "city": pa.array(
                random.choice(["a", "b", "ä", ""], count).tolist(),
                pa.string(),
                mask=random.random(count) < 0.2,
            ),
            "n": pa.array(
                random.integers(-2 if few else -(2**62), 2 if few else 2**62, count),
                pa.int64(),
                mask=random.random(count) < 0.2,
            ),
            "x": pa.array(random.normal(size=count)),
        }
    )
    size = draw(st.integers(1, count))
    return [rows.slice(start, size) for start in range(0, count, size)]


@given(row_batches(), st.integers(1, 20_000))
def test_rows_sorted_within_any_memory_are_sorted(
    batches: list[pa.RecordBatch], memory_bytes: int
) -> None:
    whole = pa.Table.from_batches(batches).combine_chunks()
    (rows,) = whole.to_batches()

    made = list(sort_all(batches, lambda: batches, TableOrder(KEYS), rows.num_rows, memory_bytes))

    columns = ["city", "n"]
    expected = pa.Table.from_batches([sort_rows(rows, KEYS)])
    seen = pa.Table.from_batches(made)
    assert seen.select(columns).to_pylist() == expected.select(columns).to_pylist()
    assert sorted(seen["x"].to_pylist()) == sorted(rows["x"].to_pylist())


@given(row_batches(), st.integers(1, 20_000))
def test_rows_along_the_curve_are_the_same_rows(
    batches: list[pa.RecordBatch], memory_bytes: int
) -> None:
    order = ZOrder((("city",), ("n",), ("x",)))
    row_count = sum(batch.num_rows for batch in batches)

    made = list(sort_all(batches, lambda: batches, order, row_count, memory_bytes))

    before, after = pa.Table.from_batches(batches), pa.Table.from_batches(made)
    assert sorted(map(repr, after.to_pylist())) == sorted(map(repr, before.to_pylist()))
    places = [n for batch in made for n in order.keys(batch)["z"].to_pylist()]
    assert places == sorted(places)


@given(
    st.integers(1, 12).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            st.lists(
                st.lists(st.integers(0, 2**bits - 1), min_size=3, max_size=3),
                min_size=1,
                max_size=5,
            ),
        )
    )
)
def test_bits_are_interleaved_highest_first(given_bits: tuple[int, list[list[int]]]) -> None:
    bit_count, columns = given_bits

    made = interleave([np.array(column, dtype=np.int64) for column in columns], bit_count)

    for row in range(3):
        bits = [
            f"{column[row]:0{bit_count}b}"[place]
            for place in range(bit_count)
            for column in columns
        ]
        assert int(made[row]) == int("".join(bits), 2)


@given(st.lists(st.integers(-100, 100) | st.none(), max_size=50), st.lists(st.integers(-50, 50)))
def test_a_rank_counts_the_bounds_at_or_below_a_value(
    values: list[int | None], cuts: list[int]
) -> None:
    bounds = sorted(set(cuts))

    found = ranks(pa.array(values, pa.int64()), pa.array(bounds, pa.int64()))

    expected = [0 if v is None else sum(b <= v for b in bounds) for v in values]
    assert found.tolist() == expected


@given(st.lists(st.text(max_size=3), min_size=1, max_size=200), st.sampled_from([2, 4, 16]))
def test_quantiles_cut_values_into_parts_of_about_one_size(values: list[str], count: int) -> None:
    bounds = quantiles(pa.array(values), count)

    assert len(bounds) < count
    assert bounds.to_pylist() == sorted(set(bounds.to_pylist()))
    found = np.bincount(ranks(pa.array(values), bounds), minlength=count)
    if len(set(values)) == len(values):
        assert found.max() <= len(values) / count + 2


def test_equal_keys_of_several_columns_are_in_one_bucket() -> None:
    keys: dict[str, Any] = {"0": ["b", "a", None, "a"], "1": [1, 2, 3, 1]}
    cuts = pa.RecordBatch.from_pydict({"0": ["b", "a"], "1": pa.array([1, 2], pa.int64())})

    found = buckets(pa.RecordBatch.from_pydict(keys), cuts, KEYS)

    assert found.tolist() == [1, 2, 2, 1]


def test_too_many_bits_are_refused() -> None:
    with pytest.raises(AssertionError):
        interleave([np.zeros(1, dtype=np.int64)] * 8, 8)
