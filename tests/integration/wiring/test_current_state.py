"""What the orchestrator is told about a pipeline, against a real broker and a real table.

Goal: the state is the table's own, the lag the broker's, and looking changes nothing.
Method: a worker fills the table; records come afterwards; the table is changed behind k2i's back.
"""

import pytest
from pyiceberg.types import StringType

from k2i_core.clock import SystemClock
from k2i_core.config import StartOffsets, StartTimestamp
from k2i_core.dev.produce import fill
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.offsets import TopicPartition
from k2i_core.wiring.current_state import (
    LagMeter,
    committed_state,
    ledger_entry,
    starting_at,
    topic_bounds,
)
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline


class Filled:
    def __init__(self, directory, broker, topic) -> None:
        self.broker, self.topic = broker, topic
        self.disk: PipelineOnDisk = write_pipeline(directory, broker, topic)

    @property
    def pipeline(self):
        return self.disk.settings

    def fill(self, count, **options) -> None:
        fill(self.broker, self.topic, count, partition_count=2, **options)

    def lag(self, next_offsets) -> int:
        meter = LagMeter(self.pipeline, SystemClock())
        try:
            return sum(meter.lag(next_offsets).values())
        finally:
            meter.close()


@pytest.fixture
def filled(tmp_path, kafka, topic) -> Filled:
    filled = Filled(tmp_path / "orders", kafka.bootstrap_servers, topic(2))
    filled.fill(300, bad_share=0.05)
    return filled


def test_the_state_is_that_of_the_table(filled):
    filled.disk.ingest_here()
    before = filled.disk.load_table()

    state = committed_state(filled.pipeline)

    after = filled.disk.load_table()
    assert state.totals.row_count == filled.disk.rows().num_rows
    assert state.totals.dead_letter_count == filled.disk.dead_letters().num_rows
    assert state.snapshot_id == after.current_snapshot().snapshot_id
    assert [c.name for c in state.columns][-1] == "_kafka"
    assert sum(state.next_offsets.values()) == 300
    assert sum(len(r) for ranges in state.commits for r in ranges) == 300
    assert state.schema_problems == ()
    assert before.metadata_location == after.metadata_location


def test_the_commits_come_in_their_order(filled):
    filled.disk.ingest_here()
    filled.fill(100, start_id=300)
    filled.disk.ingest_here()

    commits = [ranges for ranges in committed_state(filled.pipeline).commits if ranges]

    starts = [
        r.start_offset
        for ranges in commits
        for r in ranges
        if r.topic_partition.kafka_partition == 0
    ]
    assert len(commits) == 2
    assert starts == sorted(starts)


def test_a_missing_column_is_told(filled):
    filled.disk.ingest_here()
    with filled.disk.load_table().update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("note")
        update.add_column("remark", StringType())

    (problem,) = committed_state(filled.pipeline).schema_problems

    assert "note" in problem


def test_the_lag_is_what_is_not_in_the_table(filled):
    filled.disk.ingest_here()
    assert filled.lag(committed_state(filled.pipeline).next_offsets) == 0

    filled.fill(17, start_id=300)
    assert filled.lag(committed_state(filled.pipeline).next_offsets) == 17
    assert filled.lag({}) == 317


def test_a_table_that_is_not_there_has_no_ledger(filled):
    assert ledger_entry(filled.pipeline) is None
    with pytest.raises(ConfigError) as missing:
        committed_state(filled.pipeline)
    assert missing.value.kind is ErrorKind.TABLE_MISSING

    filled.disk.ingest_here()
    assert ledger_entry(filled.pipeline) is not None


def test_topics_have_bounds_and_the_start_is_the_policys(filled):
    tp0, tp1 = (TopicPartition(filled.topic, n) for n in range(2))
    chosen = starting_at(filled.pipeline, StartOffsets({filled.topic: {0: 5}}))

    bounds = topic_bounds(chosen, SystemClock())
    assert bounds.starts == {tp0: 5, tp1: 0}
    assert sum(mark.high for mark in bounds.marks.values()) == 300

    known = topic_bounds(chosen, SystemClock(), known=[tp0])
    assert known.starts == {tp1: 0}

    late = topic_bounds(starting_at(filled.pipeline, StartTimestamp(2**45)), SystemClock())
    assert late.starts == {tp: mark.high for tp, mark in late.marks.items()}
