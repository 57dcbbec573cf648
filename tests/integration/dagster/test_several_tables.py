"""A pipeline with several tables in Dagster: one ingest job, and assets of each table.

Goal: each table shows what it got, is audited by itself, and is maintained with the others.
Method: `execute_in_process` on real Kafka and real tables; the rows are proven against the topic.
"""

import dagster as dg
import pytest

from k2i_dagster import names
from tests.integration.dagster.runs import InProcess, value

TABLES = [
    {"identifier": "e2e.orders", "match": {"field": "status", "pattern": "paid|shipped"}},
    {"identifier": "e2e.seen-{value}", "match": {"field": "status", "pattern": "c[a-z]+"}},
    {"identifier": "e2e.rest"},
]


@pytest.fixture
def at_work(tmp_path, kafka, topic) -> InProcess:
    at_work = InProcess(
        tmp_path / "orders",
        kafka.bootstrap_servers,
        topic(2),
        tables=TABLES,
        dead_letters={"table": "e2e.dead_letters"},
    )
    at_work.fill(600, bad_share=0.05, partition_count=2)
    return at_work


def test_each_table_shows_what_it_got_and_is_proven_by_itself(at_work):
    definitions = at_work.definitions
    dg.Definitions.validate_loadable(definitions)
    jobs = [job.name for job in definitions.get_repository_def().get_all_jobs()]
    result = at_work.ingest()
    rows = {
        table: at_work.disk.load_table(f"e2e.{table}").scan().to_arrow().num_rows
        for table in ("orders", "rest")
    }
    shown = {
        table: sum(value(event, "rows") for event in at_work.materializations("e2e", table))
        for table in rows
    }
    checks = {(e.asset_key.path[-1], e.check_name) for e in result.get_asset_check_evaluations()}
    audited = at_work.definitions.resolve_job_def("audit_e2e_e2e_rest").execute_in_process(
        instance=at_work.instance
    )
    maintained = at_work.definitions.resolve_job_def("measure_health_e2e").execute_in_process(
        instance=at_work.instance
    )
    (health,) = at_work.materializations("e2e", "orders", "health")

    assert {"ingest_e2e", "audit_e2e_e2e_orders", "audit_e2e_e2e_rest"} <= set(jobs)
    assert len(jobs) == len(set(jobs))
    assert all(rows.values())
    assert shown == rows
    assert checks == {
        *(("orders", name) for name in names.LIGHT_CHECKS),
        *(("rest", name) for name in names.TABLE_CHECKS),
    }
    assert audited.success
    assert maintained.success
    assert any("e2e.rest" in name for name in health.metadata)
    assert any("e2e.seen-c" in name for name in health.metadata)
    assert at_work.disk.verification()["holds"]
