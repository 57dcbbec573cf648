"""Which failed checks hold maintenance back.

Goal: an error that was found and not settled is always seen, whatever is running now; warnings and
what has passed since hold nothing back.
Method: evaluations reported to an instance in memory, in the order in which runs would report them.
"""

import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import DagsterEvent, DagsterEventType

from k2i_core.audit.catalogue import CATALOGUE
from k2i_core.config.user_checks import OWN_NAMES
from k2i_dagster import names
from k2i_dagster.run_store import failing_error_checks
from tests.unit.dagster.made_up import pipeline

ORDERS = pipeline()
ROW_COUNTS = dg.AssetCheckKey(names.audit_key(ORDERS), "row_counts")
CONTIGUITY = dg.AssetCheckKey(names.table_key(ORDERS), names.OFFSET_CONTIGUITY)
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def evaluate(instance, key, *, passed, severity=ERROR):
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key.asset_key, check_name=key.name, passed=passed, severity=severity
        )
    )


def plan(instance, key):
    run = instance.create_run_for_job(dg.GraphDefinition(name="audit_orders").to_job())
    planned = AssetCheckEvaluationPlanned(asset_key=key.asset_key, check_name=key.name)
    event = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        "audit_orders",
        event_specific_data=planned,
    )
    instance.report_dagster_event(event, run.run_id)


def test_nothing_fails_before_anything_was_evaluated(instance):
    assert failing_error_checks(instance, ORDERS) == ()


def test_failed_errors_of_table_and_audit_are_named(instance):
    evaluate(instance, ROW_COUNTS, passed=False)
    evaluate(instance, CONTIGUITY, passed=False)

    assert failing_error_checks(instance, ORDERS) == (
        "sales/orders/audit: row_counts",
        "sales/orders: offset_contiguity",
    )


def test_a_failed_check_of_any_of_several_tables_is_named(instance):
    checks = [{"name": "own", "sql": "SELECT 1"}]
    second = {"identifier": "sales.others", "match": {"topic": "b"}, "checks": checks}
    several = pipeline(
        table=None,
        tables=[{"identifier": "sales.orders"}, second],
        dead_letters={"table": "sales.dead_letters"},
    )
    other = several.one_table("sales.others")
    evaluate(instance, dg.AssetCheckKey(names.audit_key(other), "own"), passed=False)

    assert failing_error_checks(instance, several) == ("sales/others/audit: own",)


def test_a_warning_holds_nothing_back(instance):
    evaluate(instance, CONTIGUITY, passed=False, severity=WARN)

    assert failing_error_checks(instance, ORDERS) == ()


def test_what_passed_since_holds_nothing_back(instance):
    evaluate(instance, ROW_COUNTS, passed=False)
    evaluate(instance, ROW_COUNTS, passed=True)

    assert failing_error_checks(instance, ORDERS) == ()


def test_a_failed_check_that_is_being_evaluated_again_still_fails(instance):
    evaluate(instance, ROW_COUNTS, passed=False)
    plan(instance, ROW_COUNTS)

    assert failing_error_checks(instance, ORDERS) == ("sales/orders/audit: row_counts",)


def test_a_check_that_is_evaluated_for_the_first_time_does_not_fail(instance):
    plan(instance, ROW_COUNTS)

    assert failing_error_checks(instance, ORDERS) == ()


def test_another_tables_checks_are_not_looked_at(instance):
    evaluate(instance, dg.AssetCheckKey(dg.AssetKey(["web", "clicks"]), "lag"), passed=False)

    assert failing_error_checks(instance, ORDERS) == ()


def test_a_check_of_the_file_counts_in_the_audit_that_evaluates_it(instance):
    orders = pipeline(
        checks=[
            {"name": "positive", "sql": "FROM orders"},
            {"name": "sums", "sql": "FROM orders", "over": "table"},
        ]
    )
    evaluate(instance, dg.AssetCheckKey(names.audit_key(orders), "positive"), passed=False)
    evaluate(instance, dg.AssetCheckKey(names.full_audit_key(orders), "sums"), passed=False)

    assert failing_error_checks(instance, orders) == (
        "sales/orders/audit: positive",
        "sales/orders/full_audit: sums",
    )


def test_no_check_of_a_file_can_be_called_like_one_of_k2i():
    assert {*CATALOGUE, *names.LIGHT_CHECKS} == OWN_NAMES


def test_asking_imports_no_heavy_library():
    program = (
        "import sys, k2i_dagster.run_store\n"
        "print(*[n for n in ('pyarrow', 'pyiceberg', 'duckdb') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""
