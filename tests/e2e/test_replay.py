"""Goal: a dead letter that decodes today becomes a row once, whatever happens meanwhile; one that
an operator gives up stays accounted for.

Method: real Kafka and real tables. Records that do not fit are ingested, the pipeline file is
changed so that some of them do, and they are replayed: alone, again, two at once, beside a worker,
and around a rewind. After each, the proof and the audit look at everything.
"""

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from k2i_core.cli.exits import Exit
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import LetterStep, ReplayReport
from k2i_core.dead_letters.replay import replay as replay_with
from k2i_core.dead_letters.states import LetterState
from k2i_core.errors import CorruptionError
from k2i_core.wiring.dead_letters import drop, letter_parts, look_at, replay
from k2i_core.wiring.table_audit import audit_table
from tests.e2e.pipelines import PipelineOnDisk, ended, write_pipeline
from tests.integration.kafka.source_driver import produce

NARROW = [{"name": "id", "type": "long", "required": True}]
WIDE = [*NARROW, {"name": "note", "type": "string"}]
EVERYTHING = Selection()


def strict_pipeline(directory: Path, servers: str, topic: str) -> PipelineOnDisk:
    table = {"identifier": f"e2e.{directory.name}", "columns": NARROW, "schema_evolution": "strict"}
    return write_pipeline(directory, servers, topic, changes={"table": table})


def widen(pipeline: PipelineOnDisk) -> None:
    document = yaml.safe_load(pipeline.path.read_text())
    document["table"] |= {"columns": WIDE, "schema_evolution": "add_columns"}
    pipeline.path.write_text(yaml.safe_dump(document))


def noted(number: int) -> bytes:
    return json.dumps({"id": number, "note": f"n{number}"}).encode()


def plain(number: int) -> bytes:
    return json.dumps({"id": number}).encode()


def mixed(count: int, start: int = 0) -> list[bytes]:
    """Every third record is bad, every third does not fit the narrow columns."""
    makers = (plain, noted, lambda _: b"broken")
    return [makers[number % 3](number) for number in range(start, start + count)]


def assert_true_everywhere(pipeline: PipelineOnDisk, rows: int, replayed: int) -> dict[str, Any]:
    found = pipeline.assert_holds_here()
    audit = audit_table(pipeline.settings, None)
    assert audit.holds, audit.answers
    assert found["rows"] == rows
    assert sum(p["replayed"] for p in found["partitions"]) == replayed
    offsets = [row["_kafka"]["offset"] for row in pipeline.rows().to_pylist()]
    assert len(offsets) == rows
    return found


@pytest.fixture
def ingested(kafka, topic, tmp_path: Path) -> PipelineOnDisk:
    """30 records of one Kafka partition: 10 rows, 10 dead letters that will fit, 10 broken."""
    name = topic(1)
    pipeline = strict_pipeline(tmp_path / "letters", kafka.bootstrap_servers, name)
    produce(kafka.bootstrap_servers, name, mixed(30))
    pipeline.ingest_here()
    assert_true_everywhere(pipeline, rows=10, replayed=0)
    return pipeline


def test_what_fits_the_wider_columns_becomes_rows_and_the_rest_stays(
    ingested: PipelineOnDisk,
) -> None:
    widen(ingested)

    dry = replay(ingested.settings, EVERYTHING, dry_run=True)
    assert (dry.selected_count, dry.replayed_count, dry.new_columns) == (20, 10, ("note",))
    assert "note" not in ingested.rows().column_names
    done = replay(ingested.settings, EVERYTHING)

    assert (done.selected_count, done.replayed_count) == (20, 10)
    assert done.still_failing == {"invalid_json": 10}
    found = assert_true_everywhere(ingested, rows=20, replayed=10)
    assert found["dead_letters"] == 10
    by_id = {row["id"]: row for row in ingested.rows().to_pylist()}
    assert by_id[1]["note"] == "n1"
    assert by_id[1]["_kafka"]["offset"] == 1
    assert by_id[0]["note"] is None


def test_a_second_replay_of_the_same_records_changes_nothing(ingested: PipelineOnDisk) -> None:
    widen(ingested)
    replay(ingested.settings, EVERYTHING)
    head = ingested.load_table().current_snapshot()

    again = replay(ingested.settings, EVERYTHING)

    assert (again.selected_count, again.replayed_count, again.snapshot_id) == (10, 0, None)
    assert ingested.load_table().current_snapshot() == head


def test_two_replays_at_once_make_each_row_once(ingested: PipelineOnDisk) -> None:
    widen(ingested)
    settings = ingested.settings
    replay(settings, EVERYTHING, dry_run=True)
    together = threading.Barrier(2, timeout=60)
    reports: list[ReplayReport] = []
    met = threading.local()

    def meet(step: LetterStep) -> None:
        # Both have chosen the same dead letters and written their files before either commits.
        if step is LetterStep.FILES_CLOSED and not getattr(met, "before", False):
            met.before = True
            together.wait()

    def run() -> None:
        reports.append(replay_with(letter_parts(settings, observe=meet), EVERYTHING))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(report.replayed_count for report in reports) == [0, 10]
    assert_true_everywhere(ingested, rows=20, replayed=10)


def test_the_filters_and_the_limit_choose(ingested: PipelineOnDisk) -> None:
    widen(ingested)
    groups = {g.error_class: g for g in look_at(ingested.settings).groups()}

    broken = replay(ingested.settings, Selection(error_class="invalid_json"))
    future = replay(ingested.settings, Selection(since_ms=4_000_000_000_000))
    some = replay(
        ingested.settings, Selection(fingerprint=groups["unknown_field"].fingerprint, limit=4)
    )

    assert (broken.selected_count, broken.replayed_count) == (10, 0)
    assert future.selected_count == 0
    assert some.replayed_count == 4
    assert_true_everywhere(ingested, rows=14, replayed=4)
    rest = replay(ingested.settings, EVERYTHING)
    assert rest.replayed_count == 6
    assert_true_everywhere(ingested, rows=20, replayed=10)


def test_ingestion_goes_on_after_a_replay_with_the_new_counts(
    kafka, ingested: PipelineOnDisk
) -> None:
    widen(ingested)
    replay(ingested.settings, EVERYTHING)
    state = audit_table(ingested.settings, None).state
    (name,) = ingested.settings.kafka.topics or ()
    produce(kafka.bootstrap_servers, name, mixed(30, start=30))

    ingested.ingest_here()

    found = assert_true_everywhere(ingested, rows=40, replayed=10)
    assert found["dead_letters"] == 20
    since = audit_table(ingested.settings, state)
    assert since.holds
    assert since.offset_count == 30


def test_an_audit_since_a_mark_looks_at_everything_once_letters_became_rows(
    ingested: PipelineOnDisk,
) -> None:
    state = audit_table(ingested.settings, None).state
    widen(ingested)
    replay(ingested.settings, EVERYTHING)

    since = audit_table(ingested.settings, state)

    assert since.holds, since.answers
    assert since.offset_count == 30


def test_a_rewind_takes_replayed_rows_back_and_they_can_be_replayed_again(
    ingested: PipelineOnDisk,
) -> None:
    before = ingested.load_table().current_snapshot()
    widen(ingested)
    replay(ingested.settings, EVERYTHING)
    assert before is not None

    done = ingested.k2i("table", "rewind", "--to-snapshot", str(before.snapshot_id), "--yes")
    assert done.returncode == Exit.OK, done.stderr
    assert_true_everywhere(ingested, rows=10, replayed=0)
    replay(ingested.settings, EVERYTHING)

    assert_true_everywhere(ingested, rows=20, replayed=10)
    ingested.ingest_here()
    assert_true_everywhere(ingested, rows=20, replayed=10)


def test_a_rewind_in_the_middle_of_a_replay_makes_it_look_again(
    kafka, ingested: PipelineOnDisk
) -> None:
    before = ingested.load_table().current_snapshot()
    assert before is not None
    (name,) = ingested.settings.kafka.topics or ()
    produce(kafka.bootstrap_servers, name, mixed(30, start=30))
    ingested.ingest_here()
    widen(ingested)
    rewound: list[int] = []

    def rewind(step: LetterStep) -> None:
        if step is LetterStep.FILES_CLOSED and not rewound:
            rewound.append(before.snapshot_id)
            done = ingested.k2i("table", "rewind", "--to-snapshot", str(rewound[0]), "--yes")
            assert done.returncode == Exit.OK, done.stderr

    report = replay_with(letter_parts(ingested.settings, observe=rewind), EVERYTHING)

    # The others are above the checkpoint now: verdicts on what will be read again.
    assert report.replayed_count == 10
    assert_true_everywhere(ingested, rows=20, replayed=10)
    assert look_at(ingested.settings).states.count(LetterState.PENDING) == 20
    ingested.ingest_here()
    assert_true_everywhere(ingested, rows=30, replayed=10)
    assert replay(ingested.settings, EVERYTHING).replayed_count == 10
    assert_true_everywhere(ingested, rows=40, replayed=20)


def test_a_drop_and_a_replay_at_once_leave_the_row(ingested: PipelineOnDisk) -> None:
    widen(ingested)

    def drop_everything(step: LetterStep) -> None:
        if step is LetterStep.FILES_CLOSED:
            assert drop(ingested.settings, EVERYTHING).dropped_count == 20

    report = replay_with(letter_parts(ingested.settings, observe=drop_everything), EVERYTHING)

    assert report.replayed_count == 10
    assert_true_everywhere(ingested, rows=20, replayed=10)
    states = look_at(ingested.settings).states
    assert {s: states.count(s) for s in LetterState} == {
        LetterState.OPEN: 0,
        LetterState.PENDING: 0,
        LetterState.REPLAYED: 10,
        LetterState.DROPPED: 10,
    }


def test_dropped_ones_leave_the_list_are_not_replayed_and_stay_accounted_for(
    ingested: PipelineOnDisk,
) -> None:
    groups = {g.error_class: g for g in look_at(ingested.settings).groups()}
    broken = Selection(fingerprint=groups["invalid_json"].fingerprint)

    dry = drop(ingested.settings, broken, dry_run=True)
    done = drop(ingested.settings, broken)
    again = drop(ingested.settings, broken)

    assert (dry.dropped_count, done.dropped_count, again.dropped_count) == (10, 10, 0)
    assert again.snapshot_id is None
    found = assert_true_everywhere(ingested, rows=10, replayed=0)
    assert found["dead_letters"] == 20
    assert found["partitions"][0]["dropped"] == 10
    listed = [g for g in look_at(ingested.settings).groups() if g.listed_count]
    assert [g.error_class for g in listed] == ["unknown_field"]
    widen(ingested)
    assert replay(ingested.settings, EVERYTHING).selected_count == 10
    assert_true_everywhere(ingested, rows=20, replayed=10)


def test_the_commands_ask_first_and_name_what_they_want(ingested: PipelineOnDisk) -> None:
    widen(ingested)

    refused = ingested.k2i("dead-letters", "replay", typed="n\n")
    assert refused.returncode == Exit.INTERRUPTED
    assert "10 of 20 dead letters would become rows" in refused.stderr
    assert ingested.rows().num_rows == 10
    unclear = ingested.k2i("dead-letters", "drop", "--yes")
    assert unclear.returncode == Exit.CONFIG
    assert "--all" in unclear.stderr
    wrong = ingested.k2i("dead-letters", "replay", "--since", "yesterday", "--yes")
    assert wrong.returncode == Exit.CONFIG
    done = ingested.k2i("dead-letters", "replay", "--since", "1h", "--json", "--yes")
    assert json.loads(done.stdout)["replayed"] == 10
    dropped = ingested.k2i("dead-letters", "drop", "--all", typed="y\n")
    assert dropped.stdout.strip() == "10 dead letters dropped"
    listed = ingested.k2i("dead-letters", "list", "--all", "--json")
    states = [(g["open"], g["replayed"], g["dropped"]) for g in json.loads(listed.stdout)]
    assert sorted(states) == [(0, 0, 10), (0, 10, 0)]
    shown = json.loads(ingested.k2i("dead-letters", "show", "--json").stdout)
    assert {record["state"] for record in shown} == {"replayed", "dropped"}
    assert len(shown) == 20


def test_rows_that_another_program_put_there_are_not_doubled(ingested: PipelineOnDisk) -> None:
    widen(ingested)
    replay(ingested.settings, Selection(limit=1))
    table = ingested.load_table()
    row = table.scan(row_filter="note is not null").to_arrow().to_pylist()[0]
    row["_kafka"]["offset"] = 4
    table.append(pa.Table.from_pylist([row], schema=table.scan().to_arrow().schema))

    with pytest.raises(CorruptionError, match="replayed=1"):
        replay(ingested.settings, EVERYTHING)


def test_replays_beside_a_live_worker_neither_fence_it_nor_lose_anything(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(2), kafka.bootstrap_servers
    pipeline = strict_pipeline(tmp_path / "beside", servers, name)
    for partition in range(2):
        produce(servers, name, mixed(30), partition=partition)
    pipeline.ingest_here()
    widen(pipeline)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for(lambda: "took over" in worker.tail())
        replayed = 0
        for round_ in range(5):
            for partition in range(2):
                produce(servers, name, mixed(30, start=30 * (round_ + 1)), partition=partition)
            for _ in range(4):
                replayed += replay(pipeline.settings, Selection(limit=1)).replayed_count
        worker.wait_for(lambda: worker.row_count() >= 2 * 100)
        assert worker.stop() == Exit.OK, worker.tail()
    events = [line["event"] for line in worker.log_lines()]
    assert events.count("took over") == 1
    assert "session ended, starting over from the ledger" not in events

    assert replayed == 20
    found = assert_true_everywhere(pipeline, rows=2 * 10 + 2 * 100 + 20, replayed=20)
    assert found["dead_letters"] == 2 * 20 + 2 * 50 - 20
    states = look_at(pipeline.settings).states
    assert states.count(LetterState.REPLAYED) == 20
    assert states.count(LetterState.PENDING) == 0
