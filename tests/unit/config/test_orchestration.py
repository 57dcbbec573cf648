"""Goal: what the sections for the orchestrator let pass, the orchestrator takes.

Method: owners and tags that pass are given to one of Dagster's own assets, and what Dagster
refuses must not pass; freshness limits become one of its policies.
"""

import contextlib
from datetime import timedelta

import dagster as dg
import pytest

from k2i_core.config.load import read_pipeline
from k2i_core.config.orchestration import check_tag, parse_owner
from k2i_core.config.units import parse_duration
from tests.unit.config.pipeline_texts import with_lines


def is_accepted(check, *arguments):
    with contextlib.suppress(ValueError):
        check(*arguments)
        return True
    return False


def is_taken_by_dagster(**settings):
    with contextlib.suppress(dg.DagsterInvalidDefinitionError):
        dg.AssetSpec("orders", **settings)
        return True
    return False


@pytest.mark.parametrize(
    ("owner", "passes"),
    [
        ("team:data", True),
        ("team:Data Platform (EU)", True),
        ("ada@example.com", True),
        ("ada.l+orders@data.example.co", True),
        ("_a@b.io", True),
        ("", False),
        ("data", False),
        ("team:", False),
        ("Team:data", False),
        ("ada@example", False),
        ("ada@example.c", False),
        ("+a@example.com", False),
        ("ada example@example.com", False),
        ("ada@example.com\n", False),
    ],
)
def test_an_owner_passes_when_dagster_takes_it(owner, passes):
    assert is_accepted(parse_owner, owner) == passes
    assert is_taken_by_dagster(owners=[owner]) == passes


@pytest.mark.parametrize(
    ("key", "value", "passes"),
    [
        ("tier", "gold", True),
        ("cost-center", "a.b_c-1", True),
        ("example.com/tier", "", True),
        ("a" * 63, "b" * 63, True),
        ("a" * 63 + "/" + "a" * 63, "b", True),
        ("", "a", False),
        ("a b", "a", False),
        ("a/b/c", "a", False),
        ("a" * 64, "a", False),
        ("a", "b" * 64, False),
        ("a", "b c", False),
        ("a", "b/c", False),
        ("ä", "b", False),
    ],
)
def test_a_tag_passes_when_dagster_takes_it(key, value, passes):
    assert is_accepted(check_tag, key, value) == passes
    assert is_taken_by_dagster(tags={key: value}) == passes


@pytest.mark.parametrize("key", ["dagster/kind/iceberg", "dagster/priority", "k2i/pipeline"])
def test_a_tag_that_a_program_sets_itself_does_not_pass(key):
    assert not is_accepted(check_tag, key, "a")


@pytest.mark.parametrize(("warn", "fail"), [("60s", "61s"), ("off", "60s"), ("1m", "365d")])
def test_freshness_limits_that_pass_make_a_policy(warn, fail):
    text = with_lines(monitoring=f"{{freshness: {{warn: {warn}, fail: {fail}}}}}")
    freshness = read_pipeline(text, "orders.yaml").monitoring.freshness
    assert freshness.fail == parse_duration(fail)
    dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=freshness.fail),
        warn_window=None if freshness.warn is None else timedelta(seconds=freshness.warn),
    )
