"""A paused table takes no rows, whoever sends them and whenever they were built (I8).

Goal: no append lands behind a pause, one that comes between an append's load and its request
included; a pause moves nothing, is made once, and an operator's resume takes it back.
Method: the real commit loop over a table in memory.
"""

import pyarrow as pa
import pytest

from k2i_core.errors import ErrorKind, FencedError, IncompatibleSchemaError
from k2i_core.iceberg.decisions import decide_resume
from k2i_core.ingest.splitting import before
from k2i_core.ledger import Epoch, Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.pauses import ACCEPTED_KEY, PAUSED_KEY, Pause, decode_accepted, decode_pause
from k2i_core.records import POLLED_SCHEMA, PolledBatch
from tests.fakes.faults import Reply
from tests.unit.iceberg.test_commit import IDENTITY, PARTITION, Setup, counted

PAUSE = Pause("7", "price: the table has double, the records have string", "orders/0@5", "2026")


def test_nothing_is_appended_behind_a_pause_and_nothing_is_moved_by_it() -> None:
    setup = Setup()
    committer, owner = setup.claimed()
    committer.append(owner, counted(0, 5), ())
    committer.pause(owner, PAUSE)
    with pytest.raises(IncompatibleSchemaError, match="k2i table resume") as refused:
        committer.append(owner, counted(5, 9), ())
    assert refused.value.kind is ErrorKind.TABLE_PAUSED
    assert setup.next_offset() == 5
    assert committer.inspect().paused == PAUSE


def test_a_pause_that_comes_between_load_and_request_wins() -> None:
    setup = Setup()
    committer, owner = setup.claimed()
    other = setup.committer()
    setup.before_send.append(lambda: other.pause(owner, PAUSE))
    with pytest.raises(IncompatibleSchemaError):
        committer.append(owner, counted(0, 5), ())
    assert not setup.appends()


def test_a_pause_whose_answer_is_lost_is_made_once_and_the_first_one_stays() -> None:
    setup = Setup()
    committer, owner = setup.claimed()
    setup.replies = [Reply.LOST]
    committer.pause(owner, PAUSE)
    committer.pause(owner, Pause("8", "another", "orders/0@6", "2027"))
    assert committer.inspect().paused == PAUSE


def test_an_older_worker_cannot_pause() -> None:
    setup = Setup()
    committer, owner = setup.claimed()
    setup.committer().claim(Share(0, 1), IDENTITY, {}, Epoch(0))
    with pytest.raises(FencedError):
        committer.pause(owner, PAUSE)


@pytest.mark.parametrize("accepts", [False, True])
def test_a_resumed_table_goes_on_where_it_stopped(accepts: bool) -> None:
    setup = Setup()
    committer, owner = setup.claimed()
    committer.append(owner, counted(0, 5), ())
    committer.pause(owner, PAUSE)

    def resume(view: object, stored: object) -> object:
        return decide_resume(view, stored, accepts=accepts)

    committer.operate("resume", resume)
    assert committer.inspect().paused is None
    committer.append(owner, counted(5, 9), ())
    assert setup.next_offset() == 9
    properties = setup.table.current.properties
    assert properties[PAUSED_KEY] == ""
    assert decode_accepted(properties.get(ACCEPTED_KEY)) == ({"7"} if accepts else set())


def test_a_property_that_somebody_broke_is_a_pause_too() -> None:
    for text in ("{", "[]", '{"reason": 1}'):
        assert decode_pause(text) is not None
    assert decode_pause("") is None
    assert decode_pause(PAUSE.encode()) == PAUSE


def test_what_comes_before_a_record_ends_at_the_first_one_that_is_left_of_each_partition() -> None:
    other = TopicPartition("orders", 1)
    places = [(0, 3), (1, 7), (0, 4), (0, 6), (1, 9)]
    rows = [
        dict.fromkeys(POLLED_SCHEMA.names)
        | {"topic": "orders", "partition": partition, "offset": offset}
        for partition, offset in places
    ]
    records = pa.RecordBatch.from_pylist(rows, POLLED_SCHEMA)
    ranges = (OffsetRange(PARTITION, 3, 8), OffsetRange(other, 5, 10))
    polled = PolledBatch(records, ranges, 100, 0.0)
    ends = {index: before(polled, index).ranges for index in range(5)}
    assert ends[0] == (OffsetRange(other, 5, 7),)
    assert ends[3] == (OffsetRange(PARTITION, 3, 6), OffsetRange(other, 5, 9))
    assert ends[4] == (OffsetRange(PARTITION, 3, 8), OffsetRange(other, 5, 9))
    assert before(polled, 3).records.num_rows == 3
