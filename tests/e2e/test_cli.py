"""Goal: every command tells the truth, in words and as JSON, with the promised exit code, and never
prints a secret.

Method: the real command line as processes, on a table with rows, dead letters and a tombstone, on
a table that somebody damaged, on broken files and on services that are not there.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from k2i_core.cli.exits import Exit
from k2i_core.dev.object_store import ObjectStore
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import fill
from tests.e2e.pipelines import K2I, PipelineOnDisk, write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.services.warm_python import warm_python

SECRET = "hunter2-is-no-password"


def answer(done: "subprocess.CompletedProcess[str]") -> dict:
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def filled(kafka, topic, tmp_path: Path) -> PipelineOnDisk:
    """Two flushes: 90 events and a tombstone, then 60 events; some are bad."""
    name = topic(partition_count=1)
    pipeline = write_pipeline(tmp_path / "filled", kafka.bootstrap_servers, name)
    fill(kafka.bootstrap_servers, name, 90, bad_share=0.1)
    produce(kafka.bootstrap_servers, name, [None], key=b"k")
    pipeline.ingest_here()
    fill(kafka.bootstrap_servers, name, 60, start_id=90, bad_share=0.1)
    pipeline.ingest_here()
    return pipeline


@pytest.mark.slow
def test_commands_that_look_agree_with_each_other(filled: PipelineOnDisk) -> None:
    status = answer(filled.k2i("status", "--json"))
    proof = answer(filled.k2i("verify", "--json"))
    shown = answer(filled.k2i("table", "show", "--json"))
    count_sql = f"SELECT count(*) AS n FROM {filled.table}"
    counted = answer(filled.k2i("query", count_sql, "--format", "json"))
    groups = json.loads(filled.k2i("dead-letters", "list", "--json").stdout)
    records = json.loads(filled.k2i("dead-letters", "show", "--json", "--limit", "99").stdout)

    (partition,) = status["kafka_partitions"]
    assert (partition["next_offset"], partition["lag"], partition["tombstones"]) == (151, 0, 1)
    assert proof["holds"]
    assert status["rows"] == proof["rows"] == counted["n"] == partition["rows"]
    assert partition["dead_letters"] == proof["dead_letters"] == len(records) > 0
    assert sum(group["record_count"] for group in groups) == len(records)
    assert proof["rows"] + proof["dead_letters"] + 1 == 151
    assert shown["snapshots"][0]["snapshot_id"] == status["snapshot_id"]
    first_group = groups[0]
    one = json.loads(
        filled.k2i("dead-letters", "show", first_group["fingerprint"], "--json").stdout
    )
    assert {record["fingerprint"] for record in one} == {first_group["fingerprint"]}
    for command in (["status"], ["verify"]):
        done = filled.k2i(*command)
        assert done.returncode == Exit.OK
        assert done.stdout.strip()
        assert done.stderr == ""


@pytest.mark.slow
def test_rewind_moves_rows_and_checkpoint_together_and_they_are_read_again(
    filled: PipelineOnDisk,
) -> None:
    before = filled.assert_holds_here()
    snapshots = answer(filled.k2i("table", "show", "--json"))["snapshots"]
    appends = [s for s in snapshots if s["operation"] == "append"]
    first = appends[-1]
    head = snapshots[0]["snapshot_id"]

    option = f"--to-snapshot={first['snapshot_id']}"
    dry = answer(filled.k2i("table", "rewind", option, "--dry-run", "--json"))
    assert filled.load_table().current_snapshot().snapshot_id == head
    assert not dry["done"]
    done = answer(filled.k2i("table", "rewind", option, "--yes", "--json"))

    assert done["done"]
    assert done["removed_rows"] == dry["removed_rows"] == appends[0]["added_rows"]
    rewound = filled.assert_holds_here()
    assert rewound["rows"] == first["added_rows"]
    assert rewound["partitions"][0]["next_offset"] == 91
    filled.ingest_here()
    after = filled.assert_holds_here()
    assert (after["rows"], after["dead_letters"]) == (before["rows"], before["dead_letters"])
    ids = filled.rows().column("order_id").to_pylist()
    assert len(ids) == len(set(ids)) == before["rows"]


def test_rewind_to_a_snapshot_that_is_not_there_lists_those_that_are(
    filled: PipelineOnDisk,
) -> None:
    done = filled.k2i("table", "rewind", "--to-snapshot=1", "--yes")

    assert done.returncode == Exit.CONFIG
    assert str(filled.load_table().current_snapshot().snapshot_id) in done.stderr


@pytest.mark.slow
def test_verify_names_exactly_what_was_doubled_and_what_is_missing(
    filled: PipelineOnDisk,
) -> None:
    table = filled.load_table()
    rows = filled.rows().sort_by("order_id")
    table.append(rows.slice(10, 3))
    doubled = [r["_kafka"]["offset"] for r in rows.slice(10, 3).to_pylist()]

    done = filled.k2i("verify", "--json")

    assert done.returncode == Exit.CHECK_FAILED
    findings = json.loads(done.stdout)["findings"]
    assert offsets_of(findings, "doubled") == doubled

    missing = rows.slice(30, 2).to_pylist()
    table.refresh()
    table.delete(f"order_id in ({missing[0]['order_id']}, {missing[1]['order_id']})")
    done = filled.k2i("verify", "--json")
    assert done.returncode == Exit.CHECK_FAILED
    findings = json.loads(done.stdout)["findings"]
    assert offsets_of(findings, "missing") == [row["_kafka"]["offset"] for row in missing]
    in_words = filled.k2i("verify", "--skip-topic")
    assert in_words.returncode == Exit.CHECK_FAILED
    assert "DOES NOT HOLD" in in_words.stdout


def offsets_of(findings: list[dict], kind: str) -> list[int]:
    ranges = [r for finding in findings if finding["kind"] == kind for r in finding["ranges"]]
    return [offset for start, end in ranges for offset in range(start, end)]


def test_a_query_that_writes_or_is_wrong_is_refused(filled: PipelineOnDisk) -> None:
    for sql in (f"DELETE FROM {filled.table}", "SELECT nothing_like_it", "SELECT 1; SELECT 2"):
        done = filled.k2i("query", sql)
        assert done.returncode == Exit.CONFIG, (sql, done)
        assert "Traceback" not in done.stderr


def test_a_table_that_does_not_exist_yet_is_named_by_every_command(
    kafka, topic, tmp_path: Path
) -> None:
    pipeline = write_pipeline(tmp_path / "none", kafka.bootstrap_servers, topic())
    for command in (["status"], ["verify"], ["table", "show"], ["query", "SELECT 1"]):
        done = pipeline.k2i(*command)
        assert done.returncode == Exit.CONFIG, done
        assert pipeline.table in done.stderr
    letters = pipeline.k2i("dead-letters", "list")
    assert (letters.returncode, letters.stdout) == (Exit.OK, "no dead letters\n")


@pytest.mark.slow
def test_validate_asks_everything_that_the_file_names(
    kafka, topic, object_store: ObjectStore, tmp_path: Path, namespace: str
) -> None:
    name, servers = topic(), kafka.bootstrap_servers
    local = write_pipeline(tmp_path / "local", servers, name)
    remote = write_pipeline(
        tmp_path / "remote",
        servers,
        name,
        changes={
            "catalog": object_store.catalog_properties(),
            "table": {"identifier": f"{namespace}.t", "columns": list(ORDERS.columns)},
        },
    )
    remote.ingest_here()

    for pipeline in (local, remote):
        found = answer(pipeline.k2i("validate", "--connect", "--json"))
        assert found["ok"], found
        assert [c["name"] for c in found["checks"]] == ["broker", "topics", "catalog", "warehouse"]
    assert object_store.secret_key not in json.dumps(found)
    probes = [p for p in tmp_path.rglob("*probe*") if "warehouse" in str(p)]
    assert probes == []


@pytest.mark.slow
def test_validate_names_each_thing_that_does_not_answer(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(), kafka.bootstrap_servers
    rest = {"type": "rest", "uri": "http://127.0.0.1:1", "warehouse": "s3://x", "token": SECRET}
    cases = [
        (write_pipeline(tmp_path / "broker", "127.0.0.1:1", name), "broker", Exit.UNREACHABLE),
        (write_pipeline(tmp_path / "topic", servers, "no-such-topic"), "topics", Exit.CONFIG),
        (
            write_pipeline(tmp_path / "catalog", servers, name, changes={"catalog": rest}),
            "catalog",
            Exit.UNREACHABLE,
        ),
    ]
    for pipeline, failing, exit_code in cases:
        done = pipeline.k2i("validate", "--connect", "--json")
        assert done.returncode == exit_code, done
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert not checks[failing]["ok"]
        assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"flush": {"max_age": "soon"}}, "max_age"),
        ({"table": {"identifier": "a.b", "columns": [{"name": "x", "type": "lng"}]}}, "lng"),
        ({"table": {"identifier": "a.b", "partition_by": ["fortnight(x)"]}}, "fortnight"),
        ({"format": {"value": "csv"}}, "which no csv field is"),
    ],
    ids=["key", "unit", "type", "transform", "format"],
)
def test_a_broken_file_is_one_clear_message(tmp_path: Path, change: dict, named: str) -> None:
    pipeline = write_pipeline(tmp_path / "broken", "127.0.0.1:1", "t", changes=change)

    done = pipeline.k2i("validate")

    assert done.returncode == Exit.CONFIG
    assert str(pipeline.path) in done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_code_two(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "usage", "127.0.0.1:1", "t")
    for command in (
        ["ingest", "--worker", "2/2"],
        ["ingest", "--set", "flush.max_age"],
        ["validate", "--set", "flush.max_age=soon"],
        ["nonsense"],
    ):
        assert pipeline.k2i(*command).returncode == Exit.CONFIG, command
    missing = warm_python().run(K2I, "validate", str(tmp_path / "none.yaml"))
    assert missing.returncode == Exit.CONFIG
    assert "none.yaml" in missing.stderr


def test_schema_prints_json_that_knows_the_file() -> None:
    document = answer(warm_python().run(K2I, "schema"))

    assert {"name", "kafka", "catalog", "table"} <= set(document["properties"])


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_no_command_prints_a_secret(kafka, topic, tmp_path: Path) -> None:
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": SECRET,
    }
    pipeline = write_pipeline(
        tmp_path / "secret",
        kafka.bootstrap_servers,
        topic(),
        changes={
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "topics": ["t"],
                "properties": properties,
            },
            "catalog": {
                "type": "rest",
                "uri": f"http://me:{SECRET}@127.0.0.1:1/",
                "credential": f"id:{SECRET}",
                "s3.secret-access-key": SECRET,
            },
        },
    )
    for command in (
        ["validate", "--json"],
        ["validate", "--connect"],
        ["status"],
        ["verify", "--json"],
        ["check", "--full"],
        ["query", "SELECT 1"],
        ["--log-level", "debug", "ingest", "--max-seconds", "4", "--port", "0"],
    ):
        if command[0].startswith("--"):
            done = warm_python().run(K2I, *command[:3], str(pipeline.path), *command[3:])
        else:
            done = pipeline.k2i(*command)
        assert SECRET not in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr, done.stderr
    text = yaml.safe_load(pipeline.path.read_text())
    assert text["kafka"]["properties"]["sasl.password"] == SECRET
