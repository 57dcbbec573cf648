"""The event generator keeps its promises.

Goal: events are unique, depend only on seed, id and epoch, fit their declared columns, and the bad
ones are bad in the way that is told and in no other. Method: make some and look at every one.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from k2i_core.dev.orders import (
    EPOCH_MS,
    EVENT_SETS,
    FLAT,
    ORDERS,
    WIDE,
    BadKind,
    EventSet,
    read_event_id,
)

ALL_SETS = pytest.mark.parametrize("event_set", EVENT_SETS.values(), ids=list(EVENT_SETS))


@ALL_SETS
def test_a_range_made_in_parts_is_the_range_made_at_once(event_set: EventSet) -> None:
    whole = event_set.make(700, 3_000, seed=5, bad_share=0.05)
    parts = [
        event_set.make(start, end - start, seed=5, bad_share=0.05)
        for start, end in ((700, 1_023), (1_023, 1_024), (1_024, 1_024), (1_024, 3_700))
    ]
    assert [value for part in parts for value in part.values] == list(whole.values)
    assert [key for part in parts for key in part.keys] == list(whole.keys)
    assert {key: kind for part in parts for key, kind in part.bad.items()} == whole.bad


@ALL_SETS
def test_no_event_and_no_id_comes_twice(event_set: EventSet) -> None:
    events = event_set.make(0, 20_000)
    assert len(set(events.values)) == 20_000
    assert [read_event_id(value) for value in events.values] == list(range(20_000))


@ALL_SETS
def test_another_seed_gives_other_values_for_the_same_ids(event_set: EventSet) -> None:
    first, second = event_set.make(0, 500, seed=1), event_set.make(0, 500, seed=2)
    assert not set(first.values) & set(second.values)


@pytest.mark.parametrize(
    ("event_set", "low", "high"), [(ORDERS, 220, 300), (FLAT, 210, 235), (WIDE, 950, 1_050)]
)
def test_events_have_the_size_that_is_told(event_set: EventSet, low: int, high: int) -> None:
    values = event_set.make(1_000_000, 5_000).values
    assert low <= sum(map(len, values)) / len(values) <= high


@ALL_SETS
def test_good_events_fit_their_columns(event_set: EventSet) -> None:
    columns = {column["name"]: column for column in event_set.columns}
    required = {name for name, column in columns.items() if column["required"]}
    for value in event_set.make(0, 2_000).values:
        event = json.loads(value, parse_float=Decimal)
        assert event.keys() <= columns.keys()
        assert required <= event.keys()
        for name, field in event.items():
            kind = re.split("[(<]", columns[name]["type"])[0]
            assert FITS[kind](field), (name, field)


FITS: dict[str, Callable[[object], bool]] = {
    "long": lambda value: type(value) is int,
    "int": lambda value: type(value) is int and abs(value) < 2**31,
    "string": lambda value: isinstance(value, str),
    "double": lambda value: isinstance(value, Decimal),
    # Two places, as text or as a number.
    "decimal": lambda value: (
        isinstance(value, (str, Decimal)) and Decimal(value).as_tuple().exponent == -2
    ),
    "boolean": lambda value: isinstance(value, bool),
    "timestamptz": lambda value: (
        isinstance(value, str) and datetime.fromisoformat(value).tzinfo is UTC
    ),
    "list": lambda value: isinstance(value, list) and len(value) > 0,
}


def test_orders_add_up_to_their_amount() -> None:
    for value in ORDERS.make(0, 2_000).values:
        order = json.loads(value, parse_float=Decimal)
        total = sum(item["quantity"] * item["price"] for item in order["items"])
        assert Decimal(order["amount"]) == total


@ALL_SETS
def test_event_n_happens_n_milliseconds_after_the_epoch_or_up_to_a_second_less(
    event_set: EventSet,
) -> None:
    for event_id in (0, 1, 999, 1_000, 1_023, 1_024, 86_399_999, 86_400_000):
        (value,) = event_set.make(event_id, 1).values
        happened = datetime.fromisoformat(json.loads(value)["created_at"])
        late_ms = EPOCH_MS + event_id - happened.timestamp() * 1_000
        assert -0.5 < late_ms < (0.5 if event_set is ORDERS else 1_023.5)


@ALL_SETS
def test_the_share_of_bad_events_is_kept_and_every_kind_comes(event_set: EventSet) -> None:
    bad = event_set.make(0, 20_000, bad_share=0.02).bad
    assert 300 <= len(bad) <= 500
    assert set(bad.values()) == set(BadKind)
    assert not event_set.make(0, 20_000).bad
    assert len(event_set.make(0, 2_000, bad_share=1.0).bad) == 2_000


@ALL_SETS
def test_a_bad_event_still_tells_its_id(event_set: EventSet) -> None:
    events = event_set.make(0, 2_000, bad_share=1.0)
    assert [read_event_id(value) for value in events.values] == list(range(2_000))


@ALL_SETS
def test_a_bad_event_is_bad_in_the_way_that_is_told(event_set: EventSet) -> None:
    required = {column["name"] for column in event_set.columns if column["required"]}
    integers = [column["name"] for column in event_set.columns if column["type"] == "int"]
    events = event_set.make(0, 3_000, bad_share=0.5)
    for event_id, value in enumerate(events.values):
        kind = events.bad.get(event_id)
        assert _is_utf8(value) == (kind is not BadKind.INVALID_UTF8)
        if kind is BadKind.INVALID_UTF8:
            continue
        assert _is_json(value) == (kind is not BadKind.INVALID_JSON)
        if kind is BadKind.INVALID_JSON:
            continue
        event = json.loads(value)
        assert (required <= event.keys()) == (kind is not BadKind.MISSING_REQUIRED)
        is_text = any(isinstance(event[name], str) for name in integers)
        assert is_text == (kind is BadKind.WRONG_TYPE)
        is_large = any(not is_text and event[name] >= 2**31 for name in integers)
        assert is_large == (kind is BadKind.OUT_OF_RANGE)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return False
    return True


def test_keys_are_the_customers_ids() -> None:
    events = ORDERS.make(0, 100)
    for key, value in zip(events.keys, events.values, strict=True):
        assert json.loads(value)["customer_id"] == int(key)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"name":1}', b'x{"order_id":1}', b"\xff"])
def test_what_is_no_event_has_no_id(value: bytes) -> None:
    assert read_event_id(value) is None
