"""The replay job in this process, on dead letters that a worker wrote.

Goal: a person sees dead letters by reason, makes rows of those that fit by now, and sees that.
Method: real records from a real broker that do not fit; then the pipeline file is changed.
"""

from typing import Any

import dagster as dg
import pytest
import yaml

from k2i_dagster import names
from tests.e2e.test_replay import NARROW, WIDE, mixed
from tests.integration.dagster.runs import InProcess, value
from tests.integration.kafka.source_driver import produce

JOB = "replay_dead_letters_e2e"
OPEN, REPLAYED = "open", "replayed"


@pytest.fixture
def at_work(tmp_path, kafka, topic) -> InProcess:
    table = {"identifier": "e2e.orders", "columns": NARROW, "schema_evolution": "strict"}
    at_work = InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(1), table=table)
    produce(at_work.broker, at_work.topic, mixed(30))
    at_work.disk.ingest_here()
    return at_work


def widen(at_work: InProcess) -> None:
    document = yaml.safe_load(at_work.disk.path.read_text())
    document["table"] |= {"columns": WIDE, "schema_evolution": "add_columns"}
    at_work.disk.path.write_text(yaml.safe_dump(document))


def reasons(at_work: InProcess) -> dict[str, dg.AssetMaterialization]:
    """The last report on each error class."""
    found = at_work.materializations("e2e", "orders_dead_letters", "reasons")
    return {value(one, "error_class"): one for one in found}


def run(at_work: InProcess, *, raises: bool = True, **config: Any) -> dg.ExecuteInProcessResult:
    return at_work.definitions.resolve_job_def(JOB).execute_in_process(
        run_config={"ops": {names.REPLAY_NODE: {"config": config}}},
        instance=at_work.instance,
        raise_on_error=raises,
    )


def test_a_dry_run_shows_the_reasons_as_partitions_and_changes_nothing(at_work):
    result = run(at_work, dry_run=True)

    shown = reasons(at_work)
    partitions = at_work.instance.get_dynamic_partitions("e2e_dead_letter_fingerprints")
    assert {one.partition for one in shown.values()} == set(partitions)
    assert {name: value(one, OPEN) for name, one in shown.items()} == {
        "unknown_field": 10,
        "invalid_json": 10,
    }
    assert "0 of 20 dead letters would become rows of e2e.orders" in at_work.log_text(result)
    assert at_work.disk.assert_holds_here()["rows"] == 10


def test_one_reason_is_replayed_once_and_the_asset_says_so(at_work):
    run(at_work, dry_run=True)
    widen(at_work)
    fingerprint = reasons(at_work)["unknown_field"].partition

    for _ in range(2):
        run(at_work, fingerprint=fingerprint)

    shown = reasons(at_work)
    assert (value(shown["unknown_field"], OPEN), value(shown["unknown_field"], REPLAYED)) == (0, 10)
    assert value(shown["invalid_json"], OPEN) == 10
    assert at_work.disk.assert_holds_here()["rows"] == 20
    assert at_work.run("audit_e2e").success


def test_a_table_that_is_not_there_fails_the_run_with_the_reason(tmp_path, kafka, topic):
    at_work = InProcess(tmp_path / "orders", kafka.bootstrap_servers, topic(1))

    result = run(at_work, raises=False)

    assert not result.success
    assert "the first flush creates it" in at_work.log_text(result)


def test_a_worker_that_would_divert_the_topic_fails_its_run_and_the_check(tmp_path, kafka, topic):
    at_work = InProcess(
        tmp_path / "orders",
        kafka.bootstrap_servers,
        topic(1),
        dead_letters={"over_records": 100},
    )
    produce(at_work.broker, at_work.topic, [b"broken"] * 500)

    result = at_work.ingest(raises=False)

    assert not result.success
    assert "more than dead_letters.max_share=0.5" in at_work.log_text(result)
    events = [entry.dagster_event for entry in at_work.all_logs()]
    told = [
        e.event_specific_data
        for e in events
        if e and e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert [(e.check_name, e.passed) for e in told] == [(names.DEAD_LETTER_RATE, False)]
