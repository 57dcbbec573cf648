"""Which runs the keep-alive sensor wants.

Goal: every slot has exactly one live run, except where a person or repeated failure says no, and
two numbers of workers never overlap.
Method: the decision is pure; runs are made up, and the tables of its docstring are tried line by
line.
"""

from dataclasses import replace

import pytest

from k2i_dagster.keep_alive import (
    AskStop,
    Hold,
    Launch,
    Leave,
    MarkFailed,
    Phase,
    Wait,
    WorkerRun,
    decide,
    says,
)

NOW = 10_000.0


def run(
    run_id="r1",
    phase=Phase.RUNNING,
    *,
    worker=0,
    workers=1,
    started=NOW - 300,
    ended=None,
    heartbeat=NOW - 4,
    is_stop_asked=False,
):
    return WorkerRun(
        run_id,
        phase,
        worker,
        workers,
        created_seconds=(started or NOW) - 5,
        started_seconds=started,
        ended_seconds=ended,
        heartbeat_seconds=heartbeat,
        is_stop_asked=is_stop_asked,
    )


def ended(run_id, phase, *, lasted=300.0, ago=10.0, worker=0):
    return run(run_id, phase, worker=worker, started=NOW - ago - lasted, ended=NOW - ago)


def decided(*runs, workers=1):
    return decide("orders", workers, runs, NOW)


def test_a_pipeline_without_runs_gets_one_for_each_worker():
    assert decided(workers=2) == [Launch(0, "orders-0/first"), Launch(1, "orders-1/first")]


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING, Phase.ENDING])
def test_a_live_run_is_left_alone(phase):
    (decision,) = decided(run(phase=phase))

    assert isinstance(decision, Leave)


def test_after_a_rollover_the_next_run_starts_at_once_with_a_key_of_its_own():
    assert decided(ended("done", Phase.SUCCEEDED, ago=0.1)) == [Launch(0, "orders-0/after/done")]


def test_the_key_is_the_same_at_a_repeated_tick_and_another_after_another_run():
    before = decided(ended("done", Phase.SUCCEEDED))
    again = decided(ended("done", Phase.SUCCEEDED))
    later = decided(ended("done", Phase.SUCCEEDED, ago=900), ended("next", Phase.FAILED, ago=5))

    assert before == again
    assert later == [Launch(0, "orders-0/after/next")]


def test_a_silent_run_is_marked_failed_and_replaced_in_the_same_tick():
    failed, launch = decided(run("dead", heartbeat=NOW - 31))

    assert failed == MarkFailed("dead", "nothing was heard of its process for 31 s")
    assert launch == Launch(0, "orders-0/after/dead")


def test_a_run_that_is_only_late_lives():
    (decision,) = decided(run(heartbeat=NOW - 29))

    assert isinstance(decision, Leave)


def test_a_run_that_never_gave_a_sign_counts_from_its_start():
    fresh = decided(run(heartbeat=None, started=NOW - 20))
    stale = decided(run(heartbeat=None, started=NOW - 40))

    assert isinstance(fresh[0], Leave)
    assert isinstance(stale[0], MarkFailed)


def test_a_run_that_a_person_is_ending_is_never_marked_failed():
    (decision,) = decided(run(phase=Phase.ENDING, heartbeat=NOW - 500))

    assert isinstance(decision, Leave)


def test_after_a_termination_the_slot_is_on_hold():
    (decision,) = decided(ended("gone", Phase.CANCELED, ago=7200))

    assert isinstance(decision, Hold)
    assert "launch a run" in says([decision])


def test_a_run_that_a_person_launched_ends_the_hold():
    decisions = decided(
        ended("gone", Phase.CANCELED, ago=7200), ended("mine", Phase.SUCCEEDED, ago=1)
    )

    assert decisions == [Launch(0, "orders-0/after/mine")]


def test_a_duplicate_that_was_canceled_while_the_worker_ran_is_no_hold():
    worker = ended("worker", Phase.SUCCEEDED, lasted=3600, ago=1)
    duplicate = ended("duplicate", Phase.CANCELED, lasted=5, ago=600)

    assert decided(duplicate, worker) == [Launch(0, "orders-0/after/worker")]


def test_a_hold_concerns_one_slot_only():
    held, launched = decided(ended("gone", Phase.CANCELED), workers=2)

    assert isinstance(held, Hold)
    assert launched == Launch(1, "orders-1/first")


@pytest.mark.parametrize(
    ("failure_count", "wait_seconds"), [(1, 0), (2, 10), (3, 20), (4, 40), (8, 600), (12, 600)]
)
def test_quick_failures_in_a_row_wait_longer_each_time(failure_count, wait_seconds):
    quick = [ended(f"f{n}", Phase.FAILED, lasted=20, ago=1 + 700 * n) for n in range(failure_count)]

    (decision,) = decided(*quick)

    if wait_seconds == 0:
        assert isinstance(decision, Launch)
    else:
        assert isinstance(decision, Wait)
        assert decision.seconds == pytest.approx(wait_seconds - 1)


def test_the_backoff_ends():
    quick = [ended(f"f{n}", Phase.FAILED, lasted=20, ago=11 + 700 * n) for n in range(2)]

    assert decided(*quick) == [Launch(0, "orders-0/after/f0")]


@pytest.mark.parametrize(
    "between",
    [ended("ok", Phase.SUCCEEDED, ago=300), ended("slow", Phase.FAILED, lasted=61, ago=300)],
)
def test_a_run_that_did_work_ends_a_series_of_quick_failures(between):
    last = ended("last", Phase.FAILED, lasted=5, ago=1)
    earlier = ended("earlier", Phase.FAILED, lasted=5, ago=900)

    assert decided(earlier, between, last) == [Launch(0, "orders-0/after/last")]


def test_a_run_of_another_number_of_workers_is_asked_to_end_and_nothing_starts_beside_it():
    stop, first, second = decided(run("old", workers=1), workers=2)

    assert stop == AskStop("old", "it is worker 0/1, and workers is 2 now")
    assert isinstance(first, Wait)
    assert isinstance(second, Wait)


def test_it_is_asked_once():
    decisions = decided(run("old", workers=1, is_stop_asked=True), workers=2)

    assert not [d for d in decisions if isinstance(d, AskStop)]
    assert all(isinstance(d, Wait) for d in decisions)


def test_a_slot_that_is_no_more_gets_no_new_run():
    old = [run(f"old{n}", worker=n, workers=3) for n in range(3)]
    assert [d.run_id for d in decided(*old) if isinstance(d, AskStop)] == ["old0", "old1", "old2"]

    gone = [ended(f"old{n}", Phase.SUCCEEDED, worker=n) for n in range(3)]
    assert decided(*gone) == [Launch(0, "orders-0/after/old0")]


def test_a_run_that_waits_to_start_reads_the_file_anew_and_is_not_asked_to_end():
    (leave,) = decided(run(phase=Phase.WAITING, workers=2, started=None, heartbeat=None))

    assert isinstance(leave, Leave)


def test_a_dead_run_of_another_number_of_workers_does_not_block():
    failed, first, second = decided(run("dead", workers=1, heartbeat=NOW - 60), workers=2)

    assert isinstance(failed, MarkFailed)
    assert (first, second) == (Launch(0, "orders-0/after/dead"), Launch(1, "orders-1/first"))


def test_workers_wait_for_the_end_of_a_backfill():
    decisions = decided(run("fill", worker=None), workers=2)

    assert [type(d) for d in decisions] == [Wait, Wait]
    assert "backfill run fill" in says(decisions)


def test_every_slot_says_what_it_does():
    decisions = decided(run(), ended("gone", Phase.CANCELED, worker=1), workers=1)

    assert says(decisions) == "worker 0: run r1 is running"


def test_a_paused_table_holds_its_workers_with_the_reason():
    failed = replace(ended("r1", Phase.FAILED, lasted=5), paused="table=sales.orders is paused")
    (decision,) = decided(failed)
    assert isinstance(decision, Hold)
    assert "table=sales.orders is paused" in decision.reason
    # A person who launches a run takes the hold back, whatever comes of it.
    assert isinstance(decided(failed, ended("r2", Phase.SUCCEEDED, ago=5))[0], Launch)
