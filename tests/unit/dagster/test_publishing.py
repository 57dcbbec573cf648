"""What is published when a part of what would be told cannot be known.

Goal: a flush that is in the table is always published; what could not be looked at is left out or
said, and never made up.
Method: the publisher with a context that keeps events, and a catalog and a broker that answer as
each test asks for.
"""

from typing import Any

import dagster as dg
import pytest

from k2i_core.errors import (
    CorruptionError,
    DataLossError,
    ErrorKind,
    IncompatibleSchemaError,
    TooManyDeadLettersError,
    UnavailableError,
)
from k2i_core.ledger import Share, Totals
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.schema.iceberg_types import IcebergField, PrimitiveType
from k2i_core.wiring.current_state import CommittedState
from k2i_core.wiring.hot_state import HotState
from k2i_dagster import names
from k2i_dagster.running import publishing
from k2i_dagster.running.publishing import Publisher
from tests.unit.dagster.made_up import SetClock, pipeline
from tests.unit.dagster.test_reporting import P0, P1, flush

STATE = CommittedState(
    snapshot_id=101,
    committed_ms=0,
    metadata_location="lake/metadata/1.json",
    columns=(),
    next_offsets={P0: 10, P1: 7},
    totals=Totals(17),
    commits=((OffsetRange(P0, 0, 10),),),
    schema_problems=(),
)


class Context:
    """Keeps what a run would store."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.log = dg.get_dagster_logger()
        self.run = dg.DagsterRun(job_name="ingest_orders")

    def log_event(self, event: Any) -> None:
        self.events.append(event)


class World:
    """A catalog and a broker, which answer or raise."""

    def __init__(self) -> None:
        self.state: CommittedState | Exception = STATE
        self.highs: dict[TopicPartition, int] | Exception = {P0: 12, P1: 9}
        self.hot: HotState | Exception | None = HotState(7, 1.25)
        self.context, self.clock = Context(), SetClock(0)

    def look(self, _pipeline) -> CommittedState:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def look_at_hot_rows(self, _pipeline, _clock) -> HotState | None:
        if isinstance(self.hot, Exception):
            raise self.hot
        return self.hot

    def lag(self, next_offsets):
        if isinstance(self.highs, Exception):
            raise self.highs
        return {tp: high - next_offsets.get(tp, 0) for tp, high in self.highs.items()}

    def close(self) -> None:
        pass

    def publisher(self) -> Publisher:
        return Publisher(self.context, pipeline(), Share(0, 1), self.clock)

    @property
    def materializations(self) -> list[dg.AssetMaterialization]:
        return [e for e in self.context.events if isinstance(e, dg.AssetMaterialization)]

    @property
    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        found = [e for e in self.context.events if isinstance(e, dg.AssetCheckEvaluation)]
        return {evaluation.check_name: evaluation for evaluation in found}


@pytest.fixture
def world(monkeypatch) -> World:
    world = World()
    monkeypatch.setattr(publishing, "committed_state", world.look)
    monkeypatch.setattr(publishing, "hot_state", world.look_at_hot_rows)
    monkeypatch.setattr(publishing, "LagMeter", lambda *_: world)
    return world


def metadata(event: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: entry.value for name, entry in event.metadata.items()}


def test_a_flush_is_told_with_its_table_and_its_lag(world):
    world.publisher().publish([flush(1, {P0: (0, 10)})])

    (event,) = world.materializations
    told = metadata(event)
    assert event.asset_key == names.table_key(pipeline())
    assert told["offsets"] == {"orders/0": [0, 10]}
    assert (told["rows"], told["dagster/row_count"], told["lag_messages"]) == (10, 17, 4)
    assert told["snapshot_id"] == "101"
    assert set(world.checks) == set(names.LIGHT_CHECKS)
    assert all(check.passed for check in world.checks.values())


def test_hot_rows_are_told_as_numbers_that_plot(world):
    world.publisher().publish([flush(1, {P0: (0, 10)}, visible_ms=12.0)])

    told = metadata(world.materializations[0])
    assert told["hot_rows"] == 7
    assert told["oldest_hot_row_seconds"] == 1.25
    assert told["produced_to_visible_seconds"] == 0.012


@pytest.mark.parametrize("hot", [None, UnavailableError("catalog gone")])
def test_hot_rows_that_are_off_or_cannot_be_seen_are_left_out(world, hot):
    world.hot = hot
    world.publisher().publish([flush(1, {P0: (0, 10)})])

    told = metadata(world.materializations[0])
    assert not {name for name in told if "hot_row" in name or "visible" in name}
    assert told["rows"] == 10


def test_the_description_is_a_line_for_people(world):
    world.publisher().publish([flush(1, {P0: (0, 10)}, dead=2), flush(2, {P0: (10, 2000)})])

    assert world.materializations[0].description == (
        "1,998 rows into sales.orders in 2 flushes, 2 dead letters, lag 4 messages, at most 0.1 s "
        "from read to committed, snapshot 102"
    )


def test_dead_letters_are_told_of_their_own_table_and_only_when_there_are_some(world):
    publisher = world.publisher()
    publisher.publish([flush(1, {P0: (0, 10)})])
    publisher.publish([flush(2, {P0: (10, 20)}, dead=3)])

    (event,) = [e for e in world.materializations if e.asset_key.path[-1] == "orders_dead_letters"]
    assert metadata(event)["rows"] == 3
    assert metadata(event)["snapshot_id"] == "202"


def test_columns_are_told_once_and_again_when_they_change(world):
    publisher = world.publisher()
    one = (IcebergField("a", PrimitiveType.LONG),)
    two = (*one, IcebergField("b", PrimitiveType.STRING))
    for number, columns in enumerate((one, one, two)):
        world.state = CommittedState(101, 0, "m", columns, {P0: 10}, Totals(), (), ())
        publisher.publish([flush(number, {P0: (number, number + 1)})])

    told = ["dagster/column_schema" in event.metadata for event in world.materializations]
    assert told == [True, False, True]


def test_a_catalog_that_does_not_answer_leaves_its_part_out(world):
    world.state = UnavailableError("the catalog does not answer")

    world.publisher().publish([flush(1, {P0: (0, 10)})])

    told = metadata(world.materializations[0])
    assert "dagster/row_count" not in told
    assert told["lag_messages"] == 2  # of our own Kafka partition: the others are not known
    assert set(world.checks) == {names.LAG, names.DEAD_LETTER_RATE}


def test_a_broker_that_does_not_answer_is_no_lag_of_zero(world):
    world.highs = UnavailableError("the broker does not answer")

    world.publisher().publish([flush(1, {P0: (0, 10)})])

    assert "lag_messages" not in world.materializations[0].metadata
    assert not world.checks[names.LAG].passed
    assert world.checks[names.LAG].severity is dg.AssetCheckSeverity.WARN
    assert "the broker does not answer" in (world.checks[names.LAG].description or "")


def test_a_ledger_that_cannot_be_believed_fails_its_check(world):
    world.state = CorruptionError("rolled back outside k2i", kind=ErrorKind.ROLLED_BACK_OUTSIDE)

    world.publisher().publish([flush(1, {P0: (0, 10)})])

    check = world.checks[names.OFFSET_CONTIGUITY]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert world.materializations


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (IncompatibleSchemaError("amount: text is no number"), names.SCHEMA),
        (TooManyDeadLettersError("most are broken"), names.DEAD_LETTER_RATE),
        (DataLossError("offsets 5 to 9 are gone"), names.OFFSET_CONTIGUITY),
        (UnavailableError("the store is gone"), None),
    ],
)
def test_a_worker_that_stopped_fails_the_check_that_its_error_is_about(world, error, check):
    world.publisher().tell_failure(error)

    assert set(world.checks) == ({check} if check else set())
    assert all(not c.passed and c.description == str(error) for c in world.checks.values())


def test_without_a_flush_nothing_is_told(world):
    world.publisher().publish([])

    assert world.context.events == []


def test_the_first_flush_is_told_at_once_and_the_next_ones_not_too_often(world):
    publisher = world.publisher()
    assert publisher.is_due()

    publisher.publish([flush(1, {P0: (0, 10)})])
    world.clock.seconds = 29.9
    assert not publisher.is_due()
    world.clock.seconds = 30
    assert publisher.is_due()
