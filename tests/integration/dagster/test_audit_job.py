"""The audit jobs in this process, on a table that a worker filled.

Goal: the audits agree with a table that keeps its promise, find each fault that is planted, fail
their run and hold maintenance back by it, and the quick one reads only what came since the last.
Method: real rows from a real broker; faults are planted past k2i, with PyIceberg's own writer.
"""

import dagster as dg
import pyarrow as pa
import pytest

from k2i_core.audit.catalogue import check_specs
from k2i_core.config import load_pipeline
from k2i_dagster.run_store import failing_error_checks
from tests.integration.dagster.runs import InProcess, value

CHECKS = {spec.name for spec in check_specs(is_full=False, has_unique_key=False)}
FULL_CHECKS = {spec.name for spec in check_specs(is_full=True, has_unique_key=False)}


@pytest.fixture
def at_work(tmp_path, kafka, topic) -> InProcess:
    at_work = InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(2))
    at_work.fill(400, bad_share=0.02, partition_count=2)
    at_work.disk.ingest_here()
    return at_work


def checked(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def last(at_work: InProcess) -> dg.AssetMaterialization:
    return at_work.materializations("e2e", "orders", "audit")[-1]


def test_a_table_that_keeps_its_promise_agrees_and_the_next_audit_goes_on_from_there(at_work):
    first = checked(at_work.run("audit_e2e"))
    assert (set(first), set(first.values())) == (CHECKS, {True})
    assert value(last(at_work), "offsets") == 400

    at_work.fill(100, start_id=400, partition_count=2)
    at_work.disk.ingest_here()
    assert set(checked(at_work.run("audit_e2e")).values()) == {True}
    assert value(last(at_work), "offsets") == 100
    assert value(last(at_work), "kind") == "since the last audit"


def test_everything_is_read_when_it_is_asked_for(at_work):
    at_work.run("audit_e2e")
    at_work.run("audit_e2e", {"full": True})

    assert value(last(at_work), "offsets") == 400


def test_a_doubled_row_is_found_and_found_again(at_work):
    table = at_work.disk.load_table()
    table.append(table.scan().to_arrow().slice(0, 1))

    for _ in range(2):
        run = at_work.run("audit_e2e", raises=False)
        result = checked(run)
        assert not run.success
        assert not result["no_duplicates"]
        assert not result["row_counts"]
        assert result["dead_letters"]

    assert failing_error_checks(at_work.instance, load_pipeline(at_work.disk.path)) == (
        "e2e/orders/audit: no_duplicates",
        "e2e/orders/audit: row_counts",
    )


def test_a_finding_that_is_accepted_is_not_found_again_by_the_next_audit(at_work):
    at_work.run("audit_e2e")
    table = at_work.disk.load_table()
    table.append(table.scan().to_arrow().slice(0, 1))

    assert not at_work.run("audit_e2e", raises=False).success
    assert not at_work.run("audit_e2e", {"accept": True}, raises=False).success
    assert at_work.run("audit_e2e").success
    assert failing_error_checks(at_work.instance, load_pipeline(at_work.disk.path)) == ()


def test_a_full_audit_asks_everything_of_everything(at_work):
    at_work.run("audit_e2e")
    full = checked(at_work.run("full_audit_e2e"))

    assert (set(full), set(full.values())) == (FULL_CHECKS, {True})
    (one,) = at_work.materializations("e2e", "orders", "full_audit")
    assert (value(one, "offsets"), value(one, "kind")) == (400, "everything")


@pytest.mark.parametrize(
    ("kafka_partition", "offset"),
    [(0, 100_000), (9, 0), (0, 3)],
    ids=["above the checkpoint", "of another Kafka partition", "below the first offset"],
)
def test_a_row_outside_the_ledger_is_found(tmp_path, kafka, topic, kafka_partition, offset):
    name = topic(2)
    start = {"offsets": {name: {0: 10, 1: 10}}}
    servers = kafka.bootstrap_servers
    at_work = InProcess(
        tmp_path / "orders",
        servers,
        name,
        kafka={"bootstrap_servers": servers, "topics": [name], "start": start},
    )
    at_work.fill(400, partition_count=2)
    at_work.disk.ingest_here()
    table = at_work.disk.load_table()
    rows = table.scan().to_arrow()
    row = rows.slice(0, 1).to_pylist()[0]
    row["_kafka"] |= {"partition": kafka_partition, "offset": offset}
    table.append(pa.Table.from_pylist([row], schema=rows.schema))

    result = checked(at_work.run("audit_e2e", raises=False))

    assert not result["no_strays"]
    assert result["row_counts"]


def test_a_lost_row_is_found(at_work):
    table = at_work.disk.load_table()
    order_id = table.scan().to_arrow()["order_id"][0].as_py()
    table.delete(f"order_id = {order_id}")

    result = checked(at_work.run("audit_e2e", raises=False))

    assert not result["row_counts"]
    assert result["no_duplicates"]
