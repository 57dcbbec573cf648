"""What a person may choose for one run of a maintenance step.

Goal: the Launchpad offers the settings of the pipeline file with what the file says, takes only
what the file would take, and changes nothing but this run.
Method: schemas and options made from a pipeline; no run.
"""

import dagster as dg
import pytest

from k2i_core.errors import ConfigError
from k2i_dagster.maintenance_options import config_schema, read_options, schedule_of
from k2i_dagster.maintenance_steps import COMPACTION, EXPIRATION, MANIFESTS, ORPHANS, STEPS
from k2i_dagster.pipeline_definitions import build_pipeline_definitions
from tests.unit.dagster.made_up import pipeline

ORDERS = pipeline(maintenance={"compaction": {"target_file_bytes": "64MiB", "schedule": "off"}})


def defaults(step) -> dict[str, object]:
    return {name: field.default_value for name, field in config_schema(ORDERS, step).items()}


def test_the_launchpad_shows_what_the_file_says():
    assert defaults(COMPACTION) == {
        "dry_run": False,
        "table": None,
        "only_if_needed": False,
        "everything": False,
        "target_file_bytes": "64MiB",
        "min_input_files": 5,
        "order": "table",
        "z_order_by": [],
        "max_memory_bytes": "1GiB",
        "max_bytes": "32GiB",
        "max_duration": "20m",
    }
    assert set(defaults(MANIFESTS)) == {"dry_run", "table", "only_if_needed"}
    assert defaults(EXPIRATION)["older_than"] == "7d"
    assert defaults(ORPHANS) == {"dry_run": False, "table": None, "older_than": "3d"}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_option_says_what_it_is_for(step):
    for name, field in config_schema(ORDERS, step).items():
        assert field.description, name
        assert "In Python" not in field.description


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_defaults_are_the_file_s_settings(step):
    options = read_options(ORDERS, step, defaults(step))

    assert options.pipeline.maintenance == ORDERS.maintenance
    assert not options.is_dry_run
    assert not options.is_everything
    assert options.table is None


def test_a_run_s_own_settings_are_for_this_run_and_this_step():
    options = read_options(
        ORDERS,
        COMPACTION,
        {**defaults(COMPACTION), "target_file_bytes": "1GiB", "everything": True, "dry_run": True},
    )

    assert options.pipeline.maintenance.compaction.target_file_bytes == 2**30
    assert options.pipeline.maintenance.compaction.schedule == "off"
    assert options.pipeline.maintenance.expiration == ORDERS.maintenance.expiration
    assert (options.is_everything, options.is_dry_run) == (True, True)
    assert ORDERS.maintenance.compaction.target_file_bytes == 64 * 2**20


@pytest.mark.parametrize(
    ("step", "written", "told"),
    [
        (ORPHANS, {"older_than": "1h"}, 'older_than: "1h" is not from 24h to 3650d'),
        (COMPACTION, {"target_file_bytes": "64MX"}, "target_file_bytes: "),
        (COMPACTION, {"order": "random"}, "order: "),
        (COMPACTION, {"table": "sales.other"}, "is none of this pipeline's: sales.orders, sales."),
    ],
)
def test_what_the_file_would_refuse_is_refused(step, written, told):
    with pytest.raises(ConfigError, match="config: ") as refused:
        read_options(ORDERS, step, {**defaults(step), **written})

    assert told in str(refused.value)


def test_a_step_that_is_off_has_no_schedule():
    assert schedule_of(ORDERS, "compaction") is None
    assert schedule_of(ORDERS, "orphans") == "0 3 * * *"


def test_dagster_takes_the_options_of_every_job():
    definitions = build_pipeline_definitions(ORDERS)
    for step in STEPS.values():
        job = definitions.resolve_job_def(f"{step.verb}_orders")
        config = {"ops": {f"sales__orders__{step.name}": {"config": {"dry_run": True}}}}
        assert dg.validate_run_config(job, config)
