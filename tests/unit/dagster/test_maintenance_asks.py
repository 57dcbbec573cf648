"""When a step's schedule launches a run, and what it says when it does not.

Goal: a step runs when health asks for it and, without a current health, to look for itself; nothing
is launched beside a live run.
Method: the rules as a table of cases.
"""

import pytest

from k2i_dagster.maintenance_asks import (
    ASKS,
    HEALTH_AGE_SECONDS_MAX,
    SUMMARY,
    Health,
    Run,
    Skip,
    decide,
    read_health,
)
from k2i_dagster.maintenance_steps import COMPACTION, EXPIRATION, ORPHANS

NOW = 1_800_000_000.0  # 08:00 UTC
ASKING = Health(NOW - 300, {"compaction": "sales.orders: 12 small files"}, "sales.orders: 14 files")
QUIET = Health(NOW - 300, {}, "sales.orders: 2 files")
OLD = Health(NOW - HEALTH_AGE_SECONDS_MAX - 60, {}, "sales.orders: 2 files")


def decision(step, health, *, has_run=True, live_run_id=None, is_health_scheduled=True):
    return decide(
        step,
        health,
        NOW,
        has_run=has_run,
        live_run_id=live_run_id,
        is_health_scheduled=is_health_scheduled,
    )


def test_what_health_asks_for_is_run_with_its_reason():
    assert decision(COMPACTION, ASKING) == Run("sales.orders: 12 small files")


def test_what_health_does_not_ask_for_is_skipped_with_what_it_found():
    assert decision(EXPIRATION, ASKING) == Skip(
        "not needed: at 07:55 UTC health found sales.orders: 14 files"
    )


def test_a_health_that_is_too_old_is_looked_at_again():
    assert decision(COMPACTION, OLD) == Run("health was last measured 61 minutes ago")


def test_before_the_first_measurement_a_step_waits_for_it_unless_none_will_come():
    assert decision(COMPACTION, None) == Skip("health was never measured, its schedule comes first")
    assert decision(COMPACTION, None, is_health_scheduled=False) == Run("health was never measured")


def test_a_step_that_never_ran_runs_once():
    assert decision(COMPACTION, QUIET, has_run=False) == Run("it never ran")
    assert isinstance(decision(COMPACTION, QUIET), Skip)


def test_a_step_that_health_does_not_judge_runs_by_its_schedule_alone():
    assert decision(ORPHANS, QUIET) == Run("it is time")


@pytest.mark.parametrize("step", [COMPACTION, ORPHANS])
@pytest.mark.parametrize("health", [None, ASKING, OLD])
def test_nothing_is_launched_beside_a_live_run_of_the_step(step, health):
    assert decision(step, health, has_run=False, live_run_id="0123456789") == Skip(
        "run 01234567 of this step has not ended"
    )


def test_a_measured_health_is_read_from_what_it_left_in_dagster():
    found = read_health(NOW, {ASKS: {"manifests": "many"}, SUMMARY: "a table", "files": 3})

    assert found == Health(NOW, {"manifests": "many"}, "a table")


def test_a_materialization_without_a_judgement_asks_for_nothing():
    assert read_health(NOW, {}) == Health(NOW, {}, "no table")
