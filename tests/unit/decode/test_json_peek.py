"""Goal: one field of any JSON is read as text, whatever stands beside it; what has none gives null.

Method: records of all kinds in one array, against what Python's parser says of each alone.
"""

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.decode.json_peek import FieldPeek

values = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.none())
odd = st.one_of(st.booleans(), st.lists(st.integers(), max_size=2), st.just({"type": "inside"}))
records = st.one_of(
    st.builds(lambda v, o: {"type": v, "other": o}, st.one_of(values, odd), odd),
    st.builds(lambda o: {"other": o}, odd),
)


def expected(value: bytes | None) -> str | None:
    try:
        found = json.loads(value or b"null")["type"]
    except (ValueError, TypeError, KeyError):
        return None
    is_text = isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool))
    return str(found) if is_text else None


@given(st.lists(st.one_of(records, st.none(), st.just("no object")), max_size=12))
def test_a_field_is_read_from_each_record_as_it_is_alone(listed):
    texts = [
        None if one is None else json.dumps(one, ensure_ascii=False).encode() for one in listed
    ]
    found = FieldPeek("type")(pa.array(texts, pa.binary()))

    assert found.to_pylist() == [expected(text) for text in texts]


def test_dots_lead_into_objects():
    texts = [b'{"a": {"b": {"c": "x"}}}', b'{"a": {"b": 1}}', b'{"a": {}}', b"{}"]
    found = FieldPeek("a.b.c")(pa.array(texts, pa.binary()))

    assert found.to_pylist() == ["x", None, None, None]
