"""When a stored checkpoint is believed: each row of the table in `ancestry`, and damage.

Goal: I2, no checkpoint that is not part of the table's history is ever used. Method: histories
built by hand, one per case.
"""

import json

import pytest

from k2i_core.errors import CorruptionError, ErrorKind
from k2i_core.iceberg.ancestry import (
    PROPERTY_BYTES_MAX,
    carrier_of,
    property_text,
    read_entry,
)
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.ledger import CHECKPOINT_KEY, Entry, Identity, encode_entry
from k2i_core.offsets import Checkpoint, TopicPartition
from tests.fakes.memory_table import Version

PARTITION = TopicPartition("orders", 0)
IDENTITY = Identity("pipeline", "cluster", {"orders": "topic-id"})


def entry(snapshot_id: int, next_offset: int) -> Entry:
    return Entry(
        IDENTITY,
        Checkpoint({PARTITION: next_offset}),
        first_offsets={PARTITION: 0},
        snapshot_id=snapshot_id,
    )


def view(*snapshots: tuple[int, int | None, int | None], claims: Entry | str | None) -> TableView:
    """Build a history, oldest first: snapshot id, parent, next offset or None for a foreign one."""
    built = {}
    for snapshot_id, parent, next_offset in snapshots:
        text = {} if next_offset is None else encode_entry(entry(snapshot_id, next_offset))
        summary = {CHECKPOINT_KEY: text} if text else {}
        built[snapshot_id] = SnapshotView(snapshot_id, parent, snapshot_id, snapshot_id, summary)
    text = encode_entry(claims) if isinstance(claims, Entry) else claims
    properties = {} if text is None else {CHECKPOINT_KEY: text}
    head = snapshots[-1][0] if snapshots else None
    return Version("uuid", head=head, snapshots=built, properties=properties).view


def never(_: int) -> bool:
    pytest.fail("a carrier needs no other proof")


def next_offset(found: Entry | None) -> int:
    assert found is not None
    return found.checkpoint.next_offsets[PARTITION]


def test_a_carrier_that_the_property_names_is_believed():
    found = read_entry(view((1, None, 100), (2, 1, 200), claims=entry(2, 200)), never)

    assert next_offset(found) == 200
    assert found is not None
    assert found.snapshot_id == 2


def test_foreign_snapshots_above_the_carrier_are_passed_over():
    history = view((1, None, 100), (2, 1, None), (3, 2, None), claims=entry(1, 100))

    assert next_offset(read_entry(history, never)) == 100


def test_a_carrier_that_the_property_does_not_name_was_rolled_back():
    with pytest.raises(CorruptionError, match="rewind --to-snapshot 1") as raised:
        read_entry(view((1, None, 100), claims=entry(2, 200)), never)

    assert raised.value.kind is ErrorKind.ROLLED_BACK_OUTSIDE


def test_a_carrier_without_a_property_is_not_believed():
    with pytest.raises(CorruptionError) as raised:
        read_entry(view((1, None, 100), claims=None), never)

    assert raised.value.kind is ErrorKind.ROLLED_BACK_OUTSIDE


def test_a_table_without_both_is_new():
    assert read_entry(view(claims=None), never) is None
    assert read_entry(view((1, None, None), claims=None), never) is None


def test_an_expired_carrier_is_replaced_by_the_property_when_a_live_file_is_its_own():
    asked: list[int] = []

    def has_live_entry(snapshot_id: int) -> bool:
        asked.append(snapshot_id)
        return True

    found = read_entry(view((3, 2, None), claims=entry(2, 200)), has_live_entry)

    assert next_offset(found) == 200
    assert asked == [2]


def test_an_expired_carrier_without_a_live_file_proves_nothing():
    with pytest.raises(CorruptionError, match="snapshot_id=2") as raised:
        read_entry(view((3, 2, None), claims=entry(2, 200)), lambda _: False)

    assert raised.value.kind is ErrorKind.CHECKPOINT_UNPROVEN


def test_a_carrier_behind_an_expired_snapshot_is_out_of_sight():
    history = view((1, None, 100), (3, 2, None), claims=entry(1, 100))

    with pytest.raises(CorruptionError) as raised:
        read_entry(history, lambda _: False)

    assert raised.value.kind is ErrorKind.CHECKPOINT_UNPROVEN


def test_a_table_rolled_back_to_nothing_is_not_new():
    with pytest.raises(CorruptionError):
        read_entry(view(claims=entry(2, 200)), lambda _: False)


def test_a_large_entry_is_proven_by_its_carrier_and_by_nothing_else():
    partitions = {TopicPartition("orders", n): n for n in range(400)}
    large = Entry(IDENTITY, Checkpoint(partitions), snapshot_id=2)
    text = property_text(large)

    assert len(text) <= PROPERTY_BYTES_MAX
    assert json.loads(text)["snapshot"] == 2
    assert next_offset(read_entry(view((2, None, 200), claims=text), never)) == 200
    with pytest.raises(CorruptionError) as raised:
        read_entry(view((3, 2, None), claims=text), lambda _: True)
    assert raised.value.kind is ErrorKind.CHECKPOINT_UNPROVEN


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", '{"snapshot": "x"}'])
def test_a_property_that_cannot_be_read_stops(text):
    with pytest.raises(CorruptionError) as raised:
        read_entry(view((1, None, 100), claims=text), never)

    assert raised.value.kind is ErrorKind.LEDGER_UNREADABLE


def test_the_nearest_carrier_counts_also_below_a_snapshot_that_is_not_the_head():
    history = view((1, None, 100), (2, 1, None), (3, 2, 300), claims=entry(3, 300))

    carrier = carrier_of(history, 2)

    assert carrier is not None
    assert carrier.snapshot_id == 1
