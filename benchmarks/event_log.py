"""What a day of one worker leaves in Dagster's event log, and how long its pages then take.

One flush of a real worker is published again and again, by the code that a run uses, into 24 runs
of one hour each, on an instance with SQLite. Then a real webserver is asked what its pages ask for
when a run or the table is opened.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.bench import Bench, read_pipeline
from benchmarks.figures import Figure, Group, Result, at_most, figure, percentile
from benchmarks.processes import await_true, start
from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.dev.dagster_client import DagsterClient
from k2i_core.dev.orders import FLAT
from k2i_core.dev.ports import LOOPBACK, free_port, is_listening
from k2i_core.ingest.parts import Listener
from k2i_core.ledger import Share
from k2i_core.records import FlushReport
from k2i_core.wiring.worker_run import run_worker
from k2i_core.worker import Until
from k2i_dagster import names
from k2i_dagster.running.publishing import Publisher

RUNS = 24
PUBLICATIONS_A_RUN = 120
"""An hour of one each half minute."""

ROWS = 10_000
ASKED = 9
"""Times a page is asked for."""

RUN_PAGE = """query($id: ID!) { logsForRun(runId: $id, limit: 1000) { __typename
  ... on EventConnection { hasMore events { __typename
    ... on MessageEvent { message timestamp level stepKey eventType }
    ... on MaterializationEvent { label description metadataEntries { label } } } } }
  runOrError(runId: $id) { ... on Run { status
    stepStats { stepKey status startTime endTime } } } }"""
TABLE_PAGE = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(limit: 100) { timestamp runId metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } } } } }"""


def run(bench: Bench) -> Result:
    """Measure one simulated day."""
    home = bench.directory / "event-log"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", "utf-8")
    path = bench.new_pipeline(bench.filled_topic(FLAT, ROWS))
    pipeline = read_pipeline(path)
    report = _one_flush(pipeline)
    bench.say(f"{RUNS} runs of {PUBLICATIONS_A_RUN} publications")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run_ids, publication_ms = _publish_a_day(instance, pipeline, report, bench.clock)
        event_count = len(instance.all_logs(run_ids[0]))
    byte_count = sum(file.stat().st_size for file in home.rglob("*.db*"))
    pages = _page_seconds(home, run_ids[-1], names.table_key(pipeline), bench)
    return Result(
        "event-log",
        {"runs": RUNS, "publications_a_run": PUBLICATIONS_A_RUN, "storage": "SQLite"},
        (
            Group(
                "one worker, one day",
                (
                    figure("events an hour", "events", event_count),
                    figure("storage an hour", "MB", byte_count / RUNS / 1e6),
                    figure("a publication, p50", "ms", percentile(publication_ms, 0.5)),
                    figure("a publication, p99", "ms", percentile(publication_ms, 0.99)),
                    *pages,
                ),
            ),
        ),
        (
            "a publication: a materialization and four checks, looking at table and topic included",
            "pages: the webserver's answer, without what the browser draws",
        ),
    )


def _one_flush(pipeline: Pipeline) -> FlushReport:
    reports: list[FlushReport] = []
    run_worker(
        pipeline,
        Share(0, 1),
        Until(caught_up=True),
        threading.Event(),
        listener=Listener(flushed=reports.append),
    )
    return reports[-1]


def _publish_a_day(
    instance: dg.DagsterInstance, pipeline: Pipeline, report: FlushReport, clock: Clock
) -> tuple[list[str], list[float]]:
    """Return the ids of the runs, and the milliseconds of each publication."""
    milliseconds: list[float] = []

    @dg.op(out=dg.Out(dg.Nothing))
    def publish(context: dg.OpExecutionContext) -> None:
        publisher = Publisher(context, pipeline, Share(0, 1), clock)
        for _ in range(PUBLICATIONS_A_RUN):
            began = clock.boot_seconds()
            publisher.publish([report])
            milliseconds.append((clock.boot_seconds() - began) * 1000)
        publisher.close()

    @dg.job(name=names.ingest_job_name(pipeline.name), executor_def=dg.in_process_executor)
    def a_worker() -> None:
        publish()

    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    run_ids = [
        a_worker.execute_in_process(run_config=quiet, instance=instance).run_id for _ in range(RUNS)
    ]
    return run_ids, milliseconds


def _page_seconds(home: Path, run_id: str, table: dg.AssetKey, bench: Bench) -> Sequence[Figure]:
    workspace = home / "workspace.yaml"
    workspace.write_text("load_from: []\n", "utf-8")
    port = free_port()
    command = ["env", f"DAGSTER_HOME={home}", sys.executable, "-m", "dagster_webserver"]
    server = start(
        [*command, "-w", str(workspace), "-h", LOOPBACK, "-p", str(port)],
        home / "webserver.log",
        bench.clock,
    )
    try:
        await_true(lambda: is_listening(port), server, bench.clock)
        pages: Mapping[str, tuple[str, Mapping[str, Any]]] = {
            "the page of a run": (RUN_PAGE, {"id": run_id}),
            "the table's plots": (TABLE_PAGE, {"key": {"path": list(table.path)}}),
        }
        return [
            figure(f"{name}, p50", "ms", _median_ms(port, *page, bench.clock), target=at_most(1000))
            for name, page in pages.items()
        ]
    finally:
        server.kill()


def _median_ms(port: int, query: str, variables: Mapping[str, Any], clock: Clock) -> float | None:
    client = DagsterClient(port)
    times: list[float] = []
    for _ in range(ASKED + 1):
        began = clock.boot_seconds()
        client.ask(query, variables)
        times.append((clock.boot_seconds() - began) * 1000)
    # The first answer loads a good part of the webserver.
    return percentile(times[1:], 0.5)
