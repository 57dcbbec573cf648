"""Properties of the JSON decoder when it may add columns.

Goal: growing ends, takes nothing away, and leaves the verdicts independent of the batch.
Method: draw records over few field names with values of any shape, let the schema grow as a session
would, and look at the batch and at each record alone under the grown schema.
"""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from k2i_core.decode.json_decoder import JsonDecoder, infer_row_schema
from k2i_core.records import DecodedValues
from k2i_core.schema.changes import apply, diff
from k2i_core.schema.evolution import SchemaEvolution
from tests.json_paths import both_json_paths  # noqa: F401 - runs by itself
from tests.property.dear import dear

ROW_SCHEMA = pa.schema(
    [
        pa.field("a", pa.int32()),
        pa.field("b", pa.float32()),
        pa.field("c", pa.struct([pa.field("a", pa.string())])),
        pa.field("d", pa.list_(pa.field("element", pa.struct([pa.field("a", pa.bool_())])))),
    ]
)
MAP_SCHEMA = ROW_SCHEMA.append(
    pa.field("e", pa.map_(pa.string(), pa.struct([pa.field("a", pa.int32())])))
)
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "x", "y", "A", "X", "c.a", "x.y", "_kafka", ""])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e39, 1.5]),
    st.sampled_from(["", "text", "2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01 10:11:12.5"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=6,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS,
        "b": SCALARS,
        "c": st.dictionaries(NAMES, VALUES, max_size=2),
        "d": st.lists(st.dictionaries(NAMES, VALUES, max_size=2), max_size=2),
        "e": st.dictionaries(NAMES, st.dictionaries(NAMES, SCALARS, max_size=2), max_size=2),
        "x": VALUES,
        "y": st.sampled_from([None, {}, [], [None], {"z": None}]) | VALUES,
    },
)
TREES = SHAPES | st.dictionaries(NAMES, VALUES, max_size=3)
RECORDS = TREES.map(lambda tree: json.dumps(tree).encode()) | st.sampled_from(
    [b"", b"{", b'{"a":1,"a":2}', b'{"x":NaN}', b'{"x":"\\ud800"}', b'{"x":{"y":1,"y":2}}']
)
SCHEMAS = st.sampled_from([ROW_SCHEMA, MAP_SCHEMA, pa.schema([])])


def decode(values: list[bytes], schema: pa.Schema, *, may_add: bool = True) -> DecodedValues:
    decoder = JsonDecoder(schema, may_add_columns=may_add)
    return decoder.decode(pa.array(values, pa.binary()))


def grow(values: list[bytes], schema: pa.Schema) -> tuple[pa.Schema, DecodedValues]:
    for _ in range(3):
        decoded = decode(values, schema)
        if decoded.proposed_schema is None:
            return schema, decoded
        assert decoded.rows.num_rows == 0
        changes = diff(schema, decoded.proposed_schema)
        assert not changes.incompatibilities
        assert not changes.refusals(SchemaEvolution.ADD_COLUMNS)
        assert apply(schema, changes).equals(decoded.proposed_schema)
        schema = decoded.proposed_schema
    pytest.fail("still growing")


def verdicts(decoded: DecodedValues, count: int) -> list[Any]:
    decoded.rows.validate(full=True)
    indices = range(count) if decoded.row_indices is None else decoded.row_indices.to_pylist()
    outcome = dict(zip(indices, decoded.rows.to_pylist(), strict=True))
    outcome.update({failure.index: failure for failure in decoded.failures})
    assert len(outcome) == count
    assert all(failure.error_class != "undecodable" for failure in decoded.failures)
    return [outcome[index] for index in range(count)]


@dear
@given(SCHEMAS, st.lists(RECORDS, min_size=1, max_size=10))
def test_a_schema_grows_once_and_then_verdicts_do_not_depend_on_the_batch(
    schema: pa.Schema, values: list[bytes]
) -> None:
    grown, decoded = grow(values, schema)
    event("grown" if grown is not schema else "not grown")

    together = verdicts(decoded, len(values))

    for value, outcome in zip(values, together, strict=True):
        (alone,) = verdicts(decode([value], grown), 1)
        if isinstance(outcome, dict):
            assert alone == outcome
        else:
            assert (alone.error_class, alone.message) == (outcome.error_class, outcome.message)


@dear
@given(SCHEMAS, st.lists(RECORDS, min_size=1, max_size=10))
def test_growing_keeps_every_row_that_was_one_before(
    schema: pa.Schema, values: list[bytes]
) -> None:
    before = decode(values, schema, may_add=False)
    grown, after = grow(values, schema)

    rows = verdicts(after, len(values))

    kept = range(len(values)) if before.row_indices is None else before.row_indices.to_pylist()
    for index, old in zip(kept, before.rows.to_pylist(), strict=True):
        new = rows[index]
        assert isinstance(new, dict), (values[index], new, grown)
        assert all(new[name] == with_new_nulls(old[name], new[name]) for name in old)


def with_new_nulls(old: Any, new: Any) -> Any:
    """Return `new` when it is `old` with further null fields inside, else `old`."""
    if isinstance(old, dict) and isinstance(new, dict):
        same = all(with_new_nulls(old[n], new[n]) == new[n] for n in old)
        return new if same and all(new[n] is None for n in set(new) - set(old)) else old
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        same = len(old) == len(new)
        return (
            new
            if same and all(with_new_nulls(o, n) == n for o, n in zip(old, new, strict=True))
            else old
        )
    return new if old == new else old


@dear
@given(st.lists(RECORDS, min_size=1, max_size=10))
def test_an_inferred_schema_is_the_one_that_the_records_would_grow(values: list[bytes]) -> None:
    grown, _ = grow(values, pa.schema([]))

    assert infer_row_schema(values).equals(grown)
