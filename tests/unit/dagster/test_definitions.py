"""The code location: what it holds, what it costs to load, and what a broken file does to it.

Goal: definitions load fast, offline and without secrets, and one broken file stays one broken file.
Method: pipeline files in a directory of the test; a fresh interpreter for what is imported; the
names of all definitions as plain text, so that a change is seen.
"""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from k2i_dagster.definitions import build_definitions
from k2i_dagster.pipeline_definitions import build_pipeline_definitions
from k2i_dagster.pipeline_files import find_pipelines
from tests.unit.dagster.made_up import SECRET, pipeline

ROOT = Path(__file__).parents[3]

MINIMAL = """\
name: {name}
kafka: {{bootstrap_servers: "localhost:9092", topics: [{topic}]}}
catalog: {{type: sql, uri: "sqlite:///catalog.db", warehouse: lake}}
table: {{identifier: {table}}}
"""


def write(directory: Path, stem: str, *, name="orders", topic="orders", table="sales.orders"):
    path = directory / f"{stem}.yaml"
    path.write_text(MINIMAL.format(name=name, topic=topic, table=table))
    return path


def location(place: Path) -> dg.Definitions:
    definitions = build_definitions(find_pipelines({"K2I_PIPELINES": str(place)}))
    dg.Definitions.validate_loadable(definitions)
    return definitions


def listed(definitions: dg.Definitions) -> str:
    """All names in a code location, sorted, one a line."""
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    lines = [
        *(
            f"asset {key.to_user_string()} group={graph.get(key).group_name} "
            f"kinds={sorted(graph.get(key).kinds)} "
            f"deps={sorted(d.to_user_string() for d in graph.get(key).parent_keys)}"
            for key in graph.get_all_asset_keys()
        ),
        *(f"check {k.asset_key.to_user_string()} {k.name}" for k in graph.asset_check_keys),
        *(f"job {name}" for name in repository.job_names if not name.startswith("__")),
        *(
            f"sensor {s.name} {s.default_status.value} every {s.minimum_interval_seconds} s"
            for s in repository.sensor_defs
        ),
        *(
            f"schedule {s.name} {s.default_status.value} {s.cron_schedule}"
            for s in repository.schedule_defs
        ),
    ]
    return "\n".join(sorted(lines))


def test_everything_that_one_pipeline_is(tmp_path):
    write(tmp_path, "orders")

    assert listed(location(tmp_path)) == (
        """\
asset kafka/orders group=orders kinds=['kafka'] deps=[]
asset sales/orders group=orders kinds=['iceberg'] deps=['kafka/orders']
asset sales/orders/audit group=orders kinds=['duckdb', 'iceberg'] \
deps=['sales/orders', 'sales/orders_dead_letters']
asset sales/orders/compaction group=orders kinds=['duckdb', 'iceberg'] deps=['sales/orders/health']
asset sales/orders/expiration group=orders kinds=['iceberg'] deps=['sales/orders/health']
asset sales/orders/full_audit group=orders kinds=['duckdb', 'iceberg'] \
deps=['sales/orders', 'sales/orders_dead_letters']
asset sales/orders/health group=orders kinds=['iceberg'] \
deps=['sales/orders', 'sales/orders_dead_letters']
asset sales/orders/manifests group=orders kinds=['iceberg'] deps=['sales/orders/health']
asset sales/orders/orphans group=orders kinds=['iceberg'] deps=['sales/orders/health']
asset sales/orders_dead_letters group=orders kinds=['iceberg'] deps=['kafka/orders']
asset sales/orders_dead_letters/reasons group=orders kinds=['iceberg'] \
deps=['sales/orders_dead_letters']
check sales/orders dead_letter_rate
check sales/orders lag
check sales/orders offset_contiguity
check sales/orders schema
check sales/orders/audit chain
check sales/orders/audit claimed_counts
check sales/orders/audit dead_letters
check sales/orders/audit file_schema
check sales/orders/audit files
check sales/orders/audit footers
check sales/orders/audit manifest_counts
check sales/orders/audit no_duplicates
check sales/orders/audit no_strays
check sales/orders/audit null_rates
check sales/orders/audit required_columns
check sales/orders/audit rewrites
check sales/orders/audit row_counts
check sales/orders/audit statistics
check sales/orders/audit summary_totals
check sales/orders/compaction not_held_back
check sales/orders/expiration not_held_back
check sales/orders/full_audit chain
check sales/orders/full_audit claimed_counts
check sales/orders/full_audit dead_letters
check sales/orders/full_audit file_schema
check sales/orders/full_audit files
check sales/orders/full_audit footers
check sales/orders/full_audit manifest_counts
check sales/orders/full_audit no_duplicates
check sales/orders/full_audit no_strays
check sales/orders/full_audit null_rates
check sales/orders/full_audit required_columns
check sales/orders/full_audit rewrites
check sales/orders/full_audit row_counts
check sales/orders/full_audit second_reader
check sales/orders/full_audit small_files
check sales/orders/full_audit statistics
check sales/orders/full_audit summary_totals
check sales/orders/manifests not_held_back
check sales/orders/orphans not_held_back
job audit_orders
job backfill_orders
job clean_ingest_runs
job compact_orders
job expire_snapshots_orders
job full_audit_orders
job ingest_orders
job measure_health_orders
job remove_orphans_orders
job replay_dead_letters_orders
job rewrite_manifests_orders
schedule audit_orders_schedule RUNNING */10 * * * *
schedule clean_ingest_runs_weekly RUNNING 17 3 * * 0
schedule compact_orders_schedule RUNNING */30 * * * *
schedule expire_snapshots_orders_schedule RUNNING 0 * * * *
schedule full_audit_orders_schedule RUNNING 40 4 * * *
schedule measure_health_orders_schedule RUNNING 10,25,40,55 * * * *
schedule remove_orphans_orders_schedule RUNNING 0 3 * * *
schedule rewrite_manifests_orders_schedule RUNNING 15 * * * *
sensor keep_alive_orders RUNNING every 5 s"""
    )


def test_every_job_runs_in_one_process(tmp_path):
    write(tmp_path, "orders")
    repository = location(tmp_path).get_repository_def()

    executors = {job.name: job.executor_def.name for job in repository.get_all_jobs()}

    assert set(executors.values()) == {"in_process"}, executors


def test_assets_carry_what_the_file_says():
    definitions = build_pipeline_definitions(pipeline())
    graph = definitions.get_repository_def().asset_graph
    table = graph.get(dg.AssetKey(["sales", "orders"]))
    schema = table.metadata["dagster/column_schema"]

    assert table.owners == ["team:data"]
    assert table.tags["tier"] == "gold"
    assert [(c.name, c.type, c.constraints.nullable) for c in schema.columns] == [
        ("order_id", "long", False),
        ("amount", "decimal(9,2)", True),
    ]
    assert schema.columns[0].description == "unique"
    assert "order_id" not in table.description  # the panel of columns is right beside it
    assert table.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=_minutes(15), warn_window=_minutes(5)
    )


def _minutes(count: int):
    return timedelta(minutes=count)


def test_without_limits_there_is_no_freshness_policy_and_without_a_schedule_no_schedule():
    definitions = build_pipeline_definitions(
        pipeline(
            monitoring={},
            orchestration={"audit_schedule": "off", "full_audit_schedule": "off"},
            maintenance={
                step: {"schedule": "off"}
                for step in ("health", "compaction", "manifests", "expiration", "orphans")
            },
        )
    )
    table = definitions.get_repository_def().asset_graph.get(dg.AssetKey(["sales", "orders"]))

    assert table.freshness_policy is None
    assert not definitions.schedules


def test_checks_of_the_file_are_checks_of_the_audit_that_asks_them():
    definitions = build_pipeline_definitions(
        pipeline(
            checks=[
                {"name": "positive", "sql": "FROM orders WHERE amount < 0"},
                {"name": "sums", "sql": "FROM orders", "over": "table", "severity": "warn"},
            ],
            monitoring={"unique_key": ["order_id"]},
        )
    )
    text = listed(definitions)
    graph = definitions.get_repository_def().asset_graph
    specs = {(k.asset_key.path[-1], k.name): graph.get(k).blocking for k in graph.asset_check_keys}

    assert "check sales/orders/audit positive" in text
    assert "check sales/orders/audit sums" not in text
    assert "check sales/orders/full_audit sums" in text
    assert "check sales/orders/full_audit unique_key" in text
    assert specs["audit", "positive"]
    assert specs["audit", "row_counts"]
    assert not specs["full_audit", "sums"]
    assert not specs["audit", "null_rates"]


def test_a_topic_pattern_is_one_asset_named_after_the_pipeline():
    definitions = build_pipeline_definitions(
        pipeline(kafka={"bootstrap_servers": "localhost:9092", "topic_pattern": "^orders.*"})
    )

    assert "asset kafka/orders group=orders" in listed(definitions)


def test_a_broken_file_is_shown_with_its_reason_and_takes_no_other_down(tmp_path):
    write(tmp_path, "orders")
    write(tmp_path, "clicks", name="clicks", topic="clicks", table="web.clicks")
    (tmp_path / "payments.yaml").write_text("name: payments\nkafka:\n  topics: [payments]\n")

    definitions = location(tmp_path)
    text = listed(definitions)
    graph = definitions.get_repository_def().asset_graph
    shown = graph.get(dg.AssetKey(["k2i_broken_pipelines", "payments"])).description or ""

    assert "job ingest_orders" in text
    assert "job ingest_clicks" in text
    assert "ingest_payments" not in text
    assert f"{tmp_path}/payments.yaml:2" in shown
    assert "kafka.bootstrap_servers" in shown
    (sensor,) = (s for s in definitions.sensors or () if s.name == "broken_pipelines")
    with pytest.raises(dg.Failure, match="bootstrap_servers"):
        sensor(dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral()))


def test_nothing_speaks_of_broken_files_when_none_is(tmp_path):
    write(tmp_path, "orders")

    assert "broken" not in listed(location(tmp_path))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"table": "sales.other"}, "is the pipeline of"),
        ({"name": "more"}, "belongs to the pipeline of"),
        ({"name": "more", "table": "sales.orders_dead_letters"}, "belongs to the pipeline of"),
        ({"name": "more", "table": "sales.orders.audit"}, "asset sales/orders/audit belongs to"),
        ({"name": "more", "table": "sales.orders.health"}, "asset sales/orders/health belongs to"),
        ({"name": "more", "table": "kafka.orders"}, "asset kafka/orders belongs to"),
    ],
)
def test_two_files_that_cannot_live_side_by_side_break_the_later_one(tmp_path, second, reason):
    write(tmp_path, "a")
    write(tmp_path, "b", **second)

    definitions = location(tmp_path)
    graph = definitions.get_repository_def().asset_graph

    assert "job ingest_orders" in listed(definitions)
    broken = graph.get(dg.AssetKey(["k2i_broken_pipelines", "b"]))
    assert reason in (broken.description or "")


def test_names_that_dagster_cannot_tell_apart_clash(tmp_path):
    write(tmp_path, "a", name="web-orders")
    write(tmp_path, "b", name="web_orders", table="sales.more")

    text = listed(location(tmp_path))

    assert "job ingest_web_orders" in text
    assert "k2i_broken_pipelines/b" in text


def test_two_pipelines_may_read_one_topic(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", name="copy", table="sales.copy")

    text = listed(location(tmp_path))

    assert text.count("asset kafka/orders ") == 1
    assert "asset sales/copy group=copy kinds=['iceberg'] deps=['kafka/orders']" in text


def test_what_dagster_itself_refuses_breaks_one_pipeline_only(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", name="loop", topic="loop", table="kafka.loop")

    definitions = location(tmp_path)
    graph = definitions.get_repository_def().asset_graph

    assert "job ingest_orders" in listed(definitions)
    broken = graph.get(dg.AssetKey(["k2i_broken_pipelines", "b"]))
    assert "Dagster refuses it" in (broken.description or "")


def test_a_directory_that_is_not_there_is_told(tmp_path):
    text = listed(location(tmp_path / "nowhere"))

    assert "asset k2i_broken_pipelines/nowhere" in text


def test_one_file_can_be_named_instead_of_a_directory(tmp_path):
    write(tmp_path, "orders")
    other = write(tmp_path, "clicks", name="clicks", table="web.clicks")

    text = listed(location(other))

    assert "job ingest_clicks" in text
    assert "ingest_orders" not in text


def test_no_definition_holds_a_secret():
    definitions = build_pipeline_definitions(pipeline())
    repository = definitions.get_repository_def()
    shown = [repr(spec) for spec in repository.asset_graph.get_all_asset_keys()]
    for key in repository.asset_graph.get_all_asset_keys():
        node = repository.asset_graph.get(key)
        shown += [repr(node.metadata), repr(node.tags), str(node.description)]
    for job in repository.get_all_jobs():
        shown += [repr(job.tags), repr(job.metadata), str(job.description)]
        shown += [repr(job.get_job_snapshot().config_schema_snapshot)]
    for automation in (*repository.sensor_defs, *repository.schedule_defs):
        shown += [repr(automation.metadata), repr(automation.tags), str(automation.description)]

    assert len(shown) > 20
    assert SECRET not in "\n".join(shown)


def test_loading_imports_no_heavy_library_and_needs_no_network(tmp_path):
    write(tmp_path, "orders")
    program = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import dagster as dg\n"
        "from k2i_dagster.definitions import defs\n"
        "dg.Definitions.validate_loadable(defs)\n"
        "assert 'ingest_orders' in defs.get_repository_def().job_names\n"
        "heavy = ('pyarrow', 'pyiceberg', 'duckdb', 'confluent_kafka', 'numpy')\n"
        "print(*[name for name in heavy if name in sys.modules])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "K2I_PIPELINES": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_pipeline_of_this_repository_is_whole():
    definitions = location(ROOT / "pipelines")

    assert "job ingest_orders" in listed(definitions)
    assert "broken" not in listed(definitions)
