"""`k2i status`: how far is the table, and how far is the topic?"""

from dataclasses import asdict

from k2i_core.cli.options import AsJson, Overrides, PipelineFile, SomeTables, read_tables
from k2i_core.cli.output import print_json, print_line, print_table
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import UnavailableError
from k2i_core.ledger import Entry, Totals
from k2i_core.native import find_native
from k2i_core.offsets import TopicPartition, Watermarks
from k2i_core.pauses import Pause
from k2i_core.wiring.inspection import InspectedTable, inspect_target, open_source, stored_ledger

BROKER_SECONDS_MAX = 5.0
"""How long the lag is worth waiting for; the rest of the answer does not need the broker."""


def status(
    pipeline_file: PipelineFile,
    *,
    table: SomeTables = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Show the checkpoint, lag and owner of every Kafka partition, and the table's size.

    A broker that does not answer leaves the lag out; the ledger is in the table.
    """
    pipelines = read_tables(pipeline_file, overrides, table)
    documents = [_look(pipeline) for pipeline in pipelines]
    if as_json:
        print_json(documents[0] if len(documents) == 1 else {"tables": documents})
        return
    for document in documents:
        _print(document)


def _look(pipeline: Pipeline) -> dict[str, object]:
    inspected = inspect_target(pipeline)
    entry = stored_ledger(inspected).entry
    marks, broker_error = _watermarks(pipeline, entry)
    return _document(pipeline, inspected, entry, marks, broker_error)


def _watermarks(
    pipeline: Pipeline, entry: Entry
) -> tuple[dict[TopicPartition, Watermarks], str | None]:
    source = open_source(pipeline, SystemClock(), call_timeout_seconds=BROKER_SECONDS_MAX)
    try:
        known = set(entry.checkpoint.next_offsets) & source.partitions()
        return dict(source.watermarks(known)), None
    except UnavailableError as error:
        return {}, str(error)
    finally:
        source.close()


def _document(
    pipeline: Pipeline,
    inspected: InspectedTable,
    entry: Entry,
    marks: dict[TopicPartition, Watermarks],
    broker_error: str | None,
) -> dict[str, object]:
    pause = inspected.view.paused
    head = inspected.view.snapshots[inspected.view.head_snapshot_id or 0]
    now_ms = SystemClock().now_ms()
    partitions: list[dict[str, object]] = []
    for topic_partition, next_offset in sorted(entry.checkpoint.next_offsets.items()):
        totals = entry.totals.get(topic_partition, Totals())
        mark = marks.get(topic_partition)
        owner = entry.owner_of(topic_partition)
        partitions.append(
            {
                "topic": topic_partition.topic,
                "kafka_partition": topic_partition.kafka_partition,
                "next_offset": next_offset,
                "high_watermark": mark.high if mark else None,
                "lag": max(0, mark.high - next_offset) if mark else None,
                "rows": totals.table_row_count,
                "dead_letters": totals.dead_letter_count,
                "tombstones": totals.tombstone_count,
                "lost": totals.lost_count,
                "worker": str(owner.share) if owner else None,
                "epoch": owner.epoch if owner else None,
            }
        )
    return {
        "pipeline": pipeline.name,
        "table": pipeline.table.identifier,
        "snapshot_id": head.snapshot_id,
        "snapshots": len(inspected.view.snapshots),
        "last_commit_seconds_ago": round((now_ms - head.timestamp_ms) / 1000, 1),
        "data_files": int(head.summary.get("total-data-files", 0)),
        "bytes": int(head.summary.get("total-files-size", 0)),
        "rows": int(head.summary.get("total-records", 0)),
        "metadata_location": inspected.view.metadata_location,
        "broker_error": broker_error,
        "paused": None if pause is None else asdict(pause),
        # Missing where it is required stops a worker, not a question.
        "native": find_native("off" if pipeline.native == "off" else "auto").detail,
        "kafka_partitions": partitions,
    }


def _print(document: dict[str, object]) -> None:
    print_line(
        f"{document['table']}: {document['rows']:,} rows in {document['data_files']:,} files, "
        f"{document['bytes']:,} bytes, {document['snapshots']} snapshots"
    )
    print_line(
        f"last commit {document['last_commit_seconds_ago']} s ago, "
        f"snapshot {document['snapshot_id']}"
    )
    print_line(f"workers started here use native parts: {document['native']}")
    if (pause := document["paused"]) is not None:
        assert isinstance(pause, dict)
        print_line(f"PAUSED: {Pause(**pause)}; see `k2i table resume`")
    if document["broker_error"]:
        print_line(f"lag is not known: {document['broker_error']}")
    partitions = document["kafka_partitions"]
    assert isinstance(partitions, list)
    columns = ("topic", "kafka_partition", "next_offset", "lag", "rows", "dead_letters", "worker")
    print_table(
        columns,
        [["-" if p[c] is None else str(p[c]) for c in columns] for p in partitions],
    )
