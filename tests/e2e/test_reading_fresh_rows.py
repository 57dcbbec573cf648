"""Goal: a row can be read before it is committed, in every way that the documentation names.

Method: one worker in a process of its own that commits once a minute, so that what is seen was hot;
then it is stopped, so that the same rows are seen in the table.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import k2i_core.query
from k2i_core.cli.exits import Exit
from k2i_core.dev.orders import FLAT
from k2i_core.dev.produce import EventProducer
from k2i_core.errors import ConfigError
from tests.e2e.pipelines import (
    K2I,
    PipelineOnDisk,
    WorkerProcess,
    ended,
    eventually,
    write_pipeline,
)
from tests.integration.kafka.source_driver import produce
from tests.services.warm_python import warm_python

COUNT = 500


@pytest.fixture
def fresh(kafka, topic, tmp_path: Path) -> Iterator[tuple[PipelineOnDisk, WorkerProcess, str]]:
    name = topic(partition_count=3)
    pipeline = write_pipeline(
        tmp_path / "fresh", kafka.bootstrap_servers, name, event_set=FLAT, max_age="60s"
    )
    EventProducer(kafka.bootstrap_servers, name, event_set=FLAT).run(rate=1e9, count=100)
    pipeline.ingest_until_caught_up()
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: "took over" in worker.log.read_text())
        # The first generation is committed early; what comes after it stays hot.
        producer = EventProducer(kafka.bootstrap_servers, name, event_set=FLAT, start_id=100)
        producer.run(rate=1e9, count=1)
        worker.wait_for_flushes(1)
        EventProducer(kafka.bootstrap_servers, name, event_set=FLAT, start_id=101).run(
            rate=1e9, count=COUNT - 101
        )
        yield pipeline, worker, name


def ids(rows: pa.Table) -> list[int]:
    return sorted(rows.column("event_id").to_pylist())


def test_rows_are_read_before_and_after_their_commit(fresh) -> None:
    pipeline, worker, _ = fresh
    with k2i_core.query.open(pipeline.path) as reader:
        table = reader.table(pipeline.table)
        eventually(lambda: table.scan(["event_id"]).read_all().num_rows >= COUNT, 30)
        assert ids(table.scan(["event_id"]).read_all()) == list(range(COUNT))
        view = table.view()
        assert view.hot_row_count == COUNT - 101
        assert not view.uncovered
        assert sum(view.frontier.values()) == COUNT
        whole = table.scan().read_all()
        assert whole.schema.names == view.schema.names

        filtered = table.scan(["event_id"], where="event_id >= 90 and event_id < 110").read_all()
        assert ids(filtered) == list(range(90, 110))
        by_offset = table.scan(["event_id"], where="_kafka.offset < 10").read_all()
        assert by_offset.num_rows == 30

        counted = reader.sql(f"SELECT count(*), count(DISTINCT event_id) FROM {pipeline.table}")
        with counted as result:
            assert list(result.read_all().to_pylist()[0].values()) == [COUNT, COUNT]
        with reader.sql(f"SELECT max(event_id) AS m FROM {pipeline.table.split('.')[1]}") as result:
            assert result.read_all().to_pylist() == [{"m": COUNT - 1}]

        for wanted in (COUNT - 1, 3):
            row = table.lookup(wanted, "event_id")
            assert row.column("event_id").to_pylist() == [wanted]
        key = whole.slice(0, 1).column("_kafka").to_pylist()[0]["key"]
        if key is not None:
            newest = table.lookup(key).to_pylist()[0]
            same = [r for r in whole.to_pylist() if r["_kafka"]["key"] == key]
            assert newest["_kafka"]["timestamp"] == max(r["_kafka"]["timestamp"] for r in same)
        assert table.lookup("no such key").num_rows == 0
        for wrong in (("text", "event_id"), (1, "nonsense"), (1, "_kafka.nonsense")):
            with pytest.raises(ConfigError, match="filter"):
                table.lookup(*wrong)
        with pytest.raises(ConfigError, match="no columns"):
            table.scan(["nonsense"])
        with pytest.raises(ConfigError, match="filter"):
            table.scan(where="event_id >< 3")
        with pytest.raises(ConfigError, match="no table"):
            reader.table("sales.others")

        assert worker.stop() == 0
        assert table.view().hot_row_count == 0
        assert ids(table.scan(["event_id"]).read_all()) == list(range(COUNT))
    assert not [path for path in (pipeline.directory / "hot").rglob("*") if path.is_file()]


def test_the_command_line_shows_hot_rows_unless_asked_not_to(fresh) -> None:
    pipeline, _, _ = fresh
    sql = f"SELECT count(*) AS n FROM {pipeline.table}"

    def counted(*options: str) -> int:
        done = pipeline.k2i("query", sql, "--format", "json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["n"]

    eventually(lambda: counted() == COUNT, 60)
    assert counted("--cold-only") == 101
    snapshots = pipeline.load_table().metadata.snapshots
    first = next(s for s in snapshots if s.summary and s.summary["total-records"] == "100")
    assert counted("--as-of", str(first.snapshot_id)) == 100
    moment = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC).isoformat()
    assert counted("--as-of", moment) == 100
    for wrong in ("7", "yesterday", "2001-01-01"):
        assert pipeline.k2i("query", sql, "--as-of", wrong).returncode == Exit.CONFIG

    typed = f"{sql};\nSELECT nonsense;\nSELECT min(event_id)\nAS least FROM {pipeline.table};\n"
    done = pipeline.k2i("query", "--format", "csv", typed=typed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["n", str(COUNT), "least", "0"]
    assert "nonsense" in done.stderr


def test_the_tail_shows_every_new_row_once_across_commits(fresh) -> None:
    pipeline, _, name = fresh
    bootstrap = pipeline.settings.kafka.bootstrap_servers
    output = pipeline.directory / "tail.json"
    said = pipeline.directory / "tail.txt"
    with output.open("wb") as stream, said.open("wb") as notes:
        follower = warm_python().start(
            *(K2I, "tail", str(pipeline.path), "--columns", "event_id", "--max-rows", "60"),
            output=stream,
            errors=notes,
        )
    try:
        eventually(lambda: "following" in said.read_text())
        for start in (COUNT, COUNT + 30):
            EventProducer(bootstrap, name, event_set=FLAT, start_id=start).run(rate=1e9, count=30)
            time.sleep(0.2)
        assert follower.wait(60) == 0
    finally:
        follower.kill()
    shown = [json.loads(line)["event_id"] for line in output.read_text().splitlines()]
    assert sorted(shown) == list(range(COUNT, COUNT + 60))


def test_columns_that_came_or_grew_while_rows_were_hot_are_read(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(), kafka.bootstrap_servers
    columns = [{"name": "id", "type": "long"}, {"name": "n", "type": "int"}]
    pipeline = write_pipeline(
        tmp_path / "grow",
        servers,
        name,
        max_age="60s",
        changes={"table": {"identifier": "e2e.grow", "columns": columns}},
    )
    worker = pipeline.start_worker()
    with ended(worker), k2i_core.query.open(pipeline.path) as reader:
        worker.wait_for(lambda: "took over" in worker.log.read_text())
        produce(servers, name, [b'{"id": 0, "n": 1}'])
        worker.wait_for_flushes(1)
        table = reader.table()
        for number, record in enumerate(
            (
                b'{"id": 1, "n": 1}',
                b'{"id": 2, "n": 5000000000}',
                b'{"id": 3, "new": "text", "s": {"a": 1}}',
                b'{"id": 4, "s": {"a": 2, "b": true}}',
            ),
            start=2,
        ):
            produce(servers, name, [record])
            eventually(lambda n=number: table.scan(["id"]).read_all().num_rows == n, 20)
            with reader.sql("SELECT count(*), sum(n) FROM grow") as result:
                assert next(iter(result.read_all().to_pylist()[0].values())) == number
            assert table.lookup(number - 1, "id").num_rows == 1
        rows = {
            row.pop("id"): row for row in table.scan(["id", "n", "new", "s"]).read_all().to_pylist()
        }
        assert rows == {
            0: {"n": 1, "new": None, "s": None},
            1: {"n": 1, "new": None, "s": None},
            2: {"n": 5_000_000_000, "new": None, "s": None},
            3: {"n": None, "new": "text", "s": {"a": 1, "b": None}},
            4: {"n": None, "new": None, "s": {"a": 2, "b": True}},
        }
        assert table.view().hot_row_count == 4


@pytest.mark.parametrize("with_fallback", [True, False])
def test_without_memory_for_hot_rows_ingestion_goes_on_and_says_so(
    kafka, topic, tmp_path: Path, with_fallback: bool
) -> None:
    name = topic(partition_count=2)
    pipeline = write_pipeline(tmp_path / "full", kafka.bootstrap_servers, name, event_set=FLAT)
    (pipeline.directory / "hot").write_text("a file where the directory should be")
    if not with_fallback:
        state = pipeline.directory / "state" / pipeline.settings.name
        state.mkdir(parents=True)
        (state / "hot").write_text("a file here, too")
    EventProducer(kafka.bootstrap_servers, name, event_set=FLAT).run(rate=1e9, count=COUNT)
    worker = pipeline.start_worker()
    with ended(worker), k2i_core.query.open(pipeline.path) as reader:
        worker.wait_for(lambda: worker.row_count() == COUNT)
        worker.wait_for(lambda: worker.ask("/readyz")[0] == 200)
        said = worker.checks()["hot"]["detail"]
        assert ("hot rows go to" in said) if with_fallback else ("hot reads ended" in said)
        assert "trouble" in worker.log.read_text()
        view = reader.table().view()
        assert bool(view.uncovered) is not with_fallback
        assert ids(reader.table().scan(["event_id"]).read_all()) == list(range(COUNT))
        assert worker.stop() == 0
    pipeline.assert_holds_here()
