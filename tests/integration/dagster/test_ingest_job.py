"""The ingest job in this process, against a real broker and a real table.

Goal: a run ingests, tells Dagster what it did, and ends the way the reason for its end asks for,
with everything that was read committed.
Method: `execute_in_process` with an ephemeral instance; a second thread watches the run and does
what a person, the sensor or another run would do; the rows are proven against the topic.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

import dagster as dg
import pytest
from dagster import DagsterEventType, DagsterRunStatus

from k2i_core.errors import UnavailableError
from k2i_dagster import names, run_store
from k2i_dagster.running import heartbeat, ingest_run, turn
from tests.integration.dagster.runs import InProcess, value

FOREVER = 120.0


@pytest.fixture
def at_work(tmp_path, kafka, topic) -> InProcess:
    return InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(2))


class Beside(threading.Thread):
    """Does something once the run has published, while it goes on."""

    def __init__(self, at_work: InProcess, act: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._at_work, self._act = at_work, act
        self.run_id = ""

    def run(self) -> None:
        deadline = time.monotonic() + 60
        while not self._at_work.materializations("e2e", "orders"):
            assert time.monotonic() < deadline, "the run published nothing"
            time.sleep(0.1)
        (run,) = self._at_work.instance.get_runs(dg.RunsFilter(job_name="ingest_e2e"), limit=1)
        self.run_id = run.run_id
        self._act(run.run_id)


def status_of(at_work: InProcess, run_id: str) -> DagsterRunStatus:
    run = at_work.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_ingests_and_publishes_what_it_committed(at_work):
    at_work.fill(500, bad_share=0.02, partition_count=2)

    result = at_work.ingest()

    rows, dead_letters = at_work.disk.rows().num_rows, at_work.disk.dead_letters().num_rows
    events = at_work.materializations("e2e", "orders")
    last = events[-1]
    assert result.success
    assert rows + dead_letters == 500
    assert sum(value(e, "rows") for e in events) == rows
    assert value(last, "dagster/row_count") == rows
    assert value(last, "lag_messages") == 0
    assert value(last, "hot_rows") >= 0
    assert value(last, "oldest_hot_row_seconds") >= 0
    assert value(last, "produced_to_visible_seconds") > 0
    assert value(last, "snapshot_id").isdecimal()
    assert "dagster/column_schema" in events[0].metadata
    (dead,) = at_work.materializations("e2e", "orders_dead_letters")
    assert value(dead, "rows") == value(dead, "dagster/row_count") == dead_letters
    at_work.disk.assert_holds_here()


def test_each_publication_has_its_checks_in_the_same_run(at_work):
    at_work.fill(300, partition_count=2)

    result = at_work.ingest()

    evaluations = result.get_asset_check_evaluations()
    assert {e.check_name for e in evaluations} == set(names.LIGHT_CHECKS)
    assert all(e.passed for e in evaluations)
    assert len(evaluations) == 4 * len(at_work.materializations("e2e", "orders"))


def test_many_flushes_are_few_publications_and_the_last_one_is_among_them(at_work):
    at_work.fill(300, partition_count=2)
    feeding = threading.Thread(
        target=lambda: [
            (time.sleep(0.7), at_work.fill(50, start_id=300 + 50 * n, partition_count=2))
            for n in range(6)
        ],
        daemon=True,
    )
    feeding.start()

    at_work.ingest(12.0)

    feeding.join()
    events = at_work.materializations("e2e", "orders")
    assert len(events) == 2
    assert sum(value(e, "flushes") for e in events) > 2
    assert sum(value(e, "rows") for e in events) == at_work.disk.rows().num_rows == 600


def test_a_run_that_is_asked_to_stop_flushes_and_succeeds(at_work):
    at_work.fill(300, partition_count=2)

    def ask(run_id: str) -> None:
        at_work.fill(100, start_id=300, partition_count=2)
        run_store.add_tags(at_work.instance, run_id, {names.STOP_TAG: "workers is 2 now"})

    Beside(at_work, ask).start()
    result = at_work.ingest(FOREVER)

    assert result.success
    at_work.disk.assert_holds_here()


@pytest.mark.parametrize(
    ("by_a_person", "status"),
    [(True, DagsterRunStatus.CANCELED), (False, DagsterRunStatus.FAILURE)],
    ids=["terminated by a person", "its process is stopped"],
)
def test_an_interrupted_run_flushes_and_publishes(at_work, monkeypatch, by_a_person, status):
    at_work.fill(300, partition_count=2)
    run_worker = ingest_run.run_worker

    def run_slow_worker(*arguments, **options) -> None:
        run_worker(*arguments, **options)
        time.sleep(1.0)  # as a last flush to a slow store

    monkeypatch.setattr(ingest_run, "run_worker", run_slow_worker)

    def terminate(run_id: str) -> None:
        at_work.fill(100, start_id=300, partition_count=2)
        time.sleep(0.4)
        if by_a_person:
            at_work.instance.report_run_canceling(at_work.instance.get_run_by_id(run_id))
        os.kill(os.getpid(), signal.SIGINT)
        # A second signal while the last flush goes on must not break it.
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)

    beside = Beside(at_work, terminate)
    beside.start()
    with pytest.raises(BaseException) as ended:  # noqa: PT011 - Dagster's own, of no public name
        at_work.ingest(FOREVER)

    assert type(ended.value).__name__ == "DagsterExecutionInterruptedError"
    assert status_of(at_work, beside.run_id) is status
    events = at_work.materializations("e2e", "orders")
    assert sum(value(e, "rows") for e in events) == at_work.disk.rows().num_rows
    at_work.disk.assert_holds_here()


def test_a_termination_whose_signal_is_lost_is_noticed_by_the_heartbeat(at_work, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.2)
    at_work.fill(300, partition_count=2)

    def terminate(run_id: str) -> None:
        at_work.instance.report_run_canceling(at_work.instance.get_run_by_id(run_id))

    beside = Beside(at_work, terminate)
    beside.start()
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        at_work.ingest(FOREVER)

    assert status_of(at_work, beside.run_id) is DagsterRunStatus.CANCELED
    at_work.disk.assert_holds_here()


def test_a_run_that_was_recorded_as_failed_ends_its_worker_and_stays_failed(at_work):
    at_work.fill(300, partition_count=2)
    beside = Beside(
        at_work, lambda run_id: run_store.mark_failed(at_work.instance, run_id, "it was silent")
    )
    beside.start()

    result = at_work.ingest(FOREVER, raises=False)

    assert not result.success
    assert status_of(at_work, beside.run_id) is DagsterRunStatus.FAILURE


def test_a_second_run_of_a_share_waits_and_then_has_nothing_to_do(at_work, monkeypatch):
    monkeypatch.setattr(ingest_run, "TURN_SECONDS_MAX", 0.3)
    monkeypatch.setattr(turn, "LOOK_SECONDS", 0.1)
    at_work.fill(300, partition_count=2)
    first = at_work.made_up_run(heartbeat=time.time())

    result = at_work.ingest(FOREVER)

    assert result.success
    assert at_work.materializations("e2e", "orders") == []
    assert f"run {first[:8]} still owns worker 0/1" in at_work.log_text(result)


def test_a_run_that_is_gone_is_not_waited_for(at_work):
    at_work.fill(300, partition_count=2)
    at_work.made_up_run(heartbeat=time.time() - 60)

    at_work.ingest()

    assert at_work.disk.rows().num_rows == 300


def test_a_worker_that_the_file_has_no_more_does_nothing(at_work):
    result = at_work.ingest(FOREVER, worker=3)

    assert result.success
    assert "nothing to do" in at_work.log_text(result)


def test_a_worker_that_cannot_run_fails_with_what_to_do(tmp_path, kafka):
    at_work = InProcess(tmp_path / "orders", kafka.bootstrap_servers, "no-such-topic")

    result = at_work.ingest(raises=False)

    (failure,) = [e for e in result.all_events if e.event_type is DagsterEventType.STEP_FAILURE]
    description = failure.step_failure_data.user_failure_data.description
    assert not result.success
    assert "no-such-topic" in description


def test_the_run_gives_signs_of_life_and_names_its_worker(at_work):
    result = at_work.ingest(1.0)

    run = at_work.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[names.WORKER_TAG] == "e2e-0"
    assert run.tags[names.WORKERS_TAG] == "1"
    assert abs(int(run.tags[names.HEARTBEAT_TAG]) - time.time()) < 60


def test_checks_can_be_evaluated_by_their_button(at_work):
    at_work.fill(200, bad_share=0.2, partition_count=2)
    at_work.disk.ingest_here()
    at_work.fill(7, start_id=200, partition_count=2)

    evaluations = {e.check_name: e for e in at_work.evaluated_checks()}

    assert {name: e.passed for name, e in evaluations.items()} == {
        "dead_letter_rate": False,
        "lag": True,
        "offset_contiguity": True,
        "schema": True,
    }
    assert evaluations["lag"].metadata["lag_messages"].value == 7
    assert evaluations["dead_letter_rate"].severity is dg.AssetCheckSeverity.WARN


def test_a_check_of_a_table_that_is_not_there_says_so(at_work):
    evaluations = at_work.evaluated_checks()

    assert not any(e.passed for e in evaluations)
    assert all("could not be looked at" in (e.description or "") for e in evaluations)


def test_no_event_of_a_run_holds_a_secret(tmp_path, kafka, topic):
    secret = "hunter2-never-shown"
    name = topic(1)
    at_work = InProcess(
        tmp_path / "orders",
        kafka.bootstrap_servers,
        name,
        kafka={
            "bootstrap_servers": kafka.bootstrap_servers,
            "topics": [name],
            # Not used without TLS and SASL, and as secret as if it were.
            "properties": {"sasl.password": secret, "ssl.key.password": secret},
        },
    )
    at_work.fill(50, bad_share=0.2, partition_count=1)

    result = at_work.ingest()
    at_work.evaluated_checks()

    texts = [entry.to_json() for entry in at_work.all_logs()]
    texts += [repr(run) for run in at_work.instance.get_runs()]
    assert result.success
    assert len(texts) > 20
    assert secret not in "\n".join(texts)


def test_a_failure_holds_no_secret_of_a_library_that_failed(at_work, monkeypatch):
    secret = "hunter2-never-shown"

    def fail(*_arguments, **_options) -> None:
        message = "the catalog does not answer"
        theirs = RuntimeError(f"cannot reach postgresql://ann:{secret}@localhost/catalog")
        raise UnavailableError(message) from theirs

    monkeypatch.setattr(ingest_run, "run_worker", fail)

    result = at_work.ingest(raises=False)

    assert not result.success
    assert "the catalog does not answer" in at_work.log_text(result)
    assert secret not in "\n".join(entry.to_json() for entry in at_work.all_logs())
