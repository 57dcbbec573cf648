"""Goal: a wrong setting does not divert a topic; the worker stops, and goes on after a repair.

Method: real Kafka, workers as processes. A topic of another format is ingested, restarted, and
then the pipeline file is repaired.
"""

from pathlib import Path

import pytest

from k2i_core.cli.exits import Exit
from k2i_core.errors import TooManyDeadLettersError
from tests.e2e.pipelines import write_pipeline
from tests.integration.kafka.source_driver import produce

ID = [{"name": "id", "type": "long", "required": True}]


def test_the_worker_stops_rather_than_divert_the_topic_and_goes_on_once_repaired(
    kafka, topic, tmp_path: Path
) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    changes = {
        "table": {"identifier": "e2e.breaker", "columns": ID, "schema_evolution": "strict"},
        "dead_letters": {"max_share": 0.5, "over_records": 200},
    }
    pipeline = write_pipeline(tmp_path / "breaker", servers, name, changes=changes)
    produce(servers, name, [b'{"id": %d}' % i for i in range(150)])
    pipeline.ingest_until_caught_up()
    produce(servers, name, [b'{"id": %d, "new": 1}' % i for i in range(150, 1_150)])

    for _ in range(3):
        stopped = pipeline.k2i("ingest", "--until-caught-up", "--port", "0")
        assert stopped.returncode == Exit.STOPPED, stopped.stderr[-3000:]
        last_line = stopped.stderr.splitlines()[-1]
        assert last_line.startswith("k2i: dead letters="), last_line
        assert "dead_letters.max_share=0.5" in last_line
        found = pipeline.assert_holds_here()
        # Whatever was set aside before the window was full is less than a window.
        assert found["dead_letters"] < 200
    before = found["dead_letters"]

    pipeline.ingest_until_caught_up("--set", "table.schema_evolution=add_columns")

    found = pipeline.assert_holds_here()
    assert found["dead_letters"] == before
    assert found["rows"] == 1_150 - before


def test_restarts_do_not_divert_the_topic_bit_by_bit(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    changes = {
        "table": {"identifier": "e2e.bits", "columns": ID},
        "dead_letters": {"over_records": 200},
    }
    pipeline = write_pipeline(tmp_path / "bits", servers, name, changes=changes)
    for _ in range(3):
        produce(servers, name, [b"broken"] * 60)
        pipeline.ingest_here()
    produce(servers, name, [b"broken"] * 60)

    for _ in range(2):
        with pytest.raises(TooManyDeadLettersError, match="dead letters=240"):
            pipeline.ingest_here()

    assert pipeline.assert_holds_here()["dead_letters"] == 180


def test_off_diverts_whatever_comes(kafka, topic, tmp_path: Path) -> None:
    name, servers = topic(1), kafka.bootstrap_servers
    pipeline = write_pipeline(
        tmp_path / "off", servers, name, changes={"dead_letters": {"max_share": "off"}}
    )
    produce(servers, name, [b"broken"] * 2_000)

    pipeline.ingest_here()

    assert pipeline.assert_holds_here()["dead_letters"] == 2_000
