"""`k2i table show|plan|accept-gap|rewind|resume`: what it is, and what only a person decides."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from k2i_core.cli.confirmation import Confirmed, DryRun, confirm
from k2i_core.cli.exits import Exit
from k2i_core.cli.options import AsJson, OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.cli.output import print_json, print_line, print_table
from k2i_core.clock import SystemClock
from k2i_core.iceberg.commit import CommitReport
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.operations import Gap, decide_rewind
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.ledger import CHECKPOINT_KEY, OPERATION_KEY, Entry, decode_entry
from k2i_core.wiring.gaps import accept_gap as accept
from k2i_core.wiring.gaps import find_gap
from k2i_core.wiring.inspection import (
    inspect_target,
    open_source,
    operator_committer,
    stored_ledger,
)
from k2i_core.wiring.pausing import find_pause
from k2i_core.wiring.pausing import resume as resume_table
from k2i_core.wiring.schema_plan import SourcePlan, plan_table
from k2i_core.wiring.settings import catalog_opener

app = typer.Typer(
    help="Look into the ledger, and decide what only a person can.", rich_markup_mode=None
)


class Letters(StrEnum):
    """What records of a breaking schema become that do not fit."""

    DEAD_LETTER = "dead_letter"


@app.command()
def show(
    pipeline_file: PipelineFile,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Snapshots to list.")] = 20,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """List the retained snapshots with the checkpoint that each carries."""
    pipeline = read_one_table(pipeline_file, overrides, table)
    # Without reading the ledger: a table whose ledger is in doubt is what one wants to look at.
    view = PyIcebergGateway(catalog_opener(pipeline), pipeline.table.identifier).load()
    rows: list[dict[str, object]] = []
    for snapshot in list(view.ancestors())[:limit]:
        text = snapshot.summary.get(CHECKPOINT_KEY)
        entry = decode_entry(text) if text else None
        rows.append(
            {
                "snapshot_id": snapshot.snapshot_id,
                "timestamp_ms": snapshot.timestamp_ms,
                "operation": snapshot.summary.get(OPERATION_KEY, "not k2i"),
                "added_rows": int(snapshot.summary.get("added-records", 0)),
                "next_offsets": _next_offsets(entry) if entry else None,
            }
        )
    if as_json:
        print_json({"table": pipeline.table.identifier, "snapshots": rows})
        return
    print_table(
        ("snapshot_id", "operation", "added_rows", "next_offsets"),
        [
            [
                str(row["snapshot_id"]),
                str(row["operation"]),
                str(row["added_rows"]),
                _offsets_text(row["next_offsets"]),
            ]
            for row in rows
        ],
    )


@app.command()
def plan(
    pipeline_file: PipelineFile,
    *,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Show what declared columns and the writers' newest schemas would do to the table.

    Nothing is changed. Exit codes: 0 nothing, or all of it allowed; 1 something would be refused.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    planned = plan_table(pipeline, SystemClock())
    table, evolution = pipeline.table.identifier, pipeline.table.schema_evolution
    if as_json:
        print_json(
            {
                "table": table,
                "exists": planned.exists,
                "schema_evolution": evolution,
                "is_allowed": planned.is_allowed,
                "sources": [_planned_source(source) for source in planned.sources],
            }
        )
    else:
        state = "is there" if planned.exists else "is to be created"
        print_line(f"table {table} {state}, schema_evolution: {evolution}")
        for source in planned.sources:
            _print_source(source)
        if not planned.sources:
            print_line("nothing says what is to come: columns are inferred from records")
    if not planned.is_allowed:
        raise typer.Exit(Exit.CHECK_FAILED)


def _planned_source(source: SourcePlan) -> dict[str, object]:
    return {
        "source": source.source,
        # A number, or the text of what other registries have.
        "schema_id": str(id_) if isinstance(id_ := source.schema_id, UUID) else id_,
        "problem": source.problem,
        "changes": [
            {"column": change.column, "change": change.says, "verdict": change.verdict}
            for change in source.changes
        ],
    }


def _print_source(source: SourcePlan) -> None:
    schema = "" if source.schema_id is None else f", schema {source.schema_id}"
    print_line(f"{source.source}{schema}:")
    if source.problem is not None:
        print_line(f"  unknown   {source.problem}")
    elif not source.changes:
        print_line("  nothing to change")
    for change in source.changes:
        print_line(f"  {change.verdict:9} {change.says}")


@app.command()
def accept_gap(
    pipeline_file: PipelineFile,
    *,
    dry_run: DryRun = False,
    yes: Confirmed = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Accept that Kafka lost offsets, or that a topic or the cluster was created again.

    The consent becomes part of the table's history. Running workers are fenced by it.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    clock = SystemClock()
    entry = stored_ledger(inspect_target(pipeline)).entry
    source = open_source(pipeline, clock)
    try:
        gap = find_gap(entry, source)
    finally:
        source.close()
    lines = _gap_lines(gap)
    _decide(
        "accept",
        lines or ["there is no gap"],
        {"gap": lines},
        lambda: accept(pipeline, gap, clock),
        key="accepted",
        said="accepted in snapshot {}",
        dry_run=dry_run or gap.is_empty,
        yes=yes,
        as_json=as_json,
    )


@app.command()
def rewind(
    pipeline_file: PipelineFile,
    to_snapshot: Annotated[int, typer.Option(help="Snapshot to go back to; see `table show`.")],
    *,
    dry_run: DryRun = False,
    yes: Confirmed = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Move rows and checkpoint back together; what was read since is read again.

    Dead letters stay dead letters. Running workers are fenced by it.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    view = PyIcebergGateway(catalog_opener(pipeline), pipeline.table.identifier).load()
    decision = decide_rewind(view, to_snapshot)
    removed = _rows_of(view, view.head_snapshot_id) - _rows_of(view, to_snapshot)
    lines = [
        f"{pipeline.table.identifier} goes back to snapshot {to_snapshot}",
        f"{removed:,} rows leave the table and are read again from:",
        *(f"  {tp}: {n}" for tp, n in sorted(decision.entry.checkpoint.next_offsets.items())),
    ]
    document: dict[str, object] = {
        "to_snapshot_id": to_snapshot,
        "removed_rows": removed,
        "next_offsets": _next_offsets(decision.entry),
    }

    def make() -> CommitReport:
        committer = operator_committer(pipeline, pipeline.table.identifier, SystemClock())
        return committer.operate("rewind", lambda now, _stored: decide_rewind(now, to_snapshot))

    _decide("rewind", lines, document, make, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command()
def resume(
    pipeline_file: PipelineFile,
    *,
    as_: Annotated[
        Letters | None,
        typer.Option("--as", help="What records of the schema become that do not fit."),
    ] = None,
    dry_run: DryRun = False,
    yes: Confirmed = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Let a table go on that a breaking schema paused; start its workers again afterwards.

    It is paused again at the same record unless the table, the schema or the settings fit by now.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    pause = find_pause(pipeline)
    lines = [f"{pipeline.table.identifier} is paused: {pause}"]
    if as_ is not None:
        lines.append(f"records of schema {pause.schema_id} that do not fit become dead letters")
    document: dict[str, object] = {"paused": asdict(pause), "as": as_}
    _decide(
        "resume",
        lines,
        document,
        lambda: resume_table(pipeline, SystemClock(), accepts=as_ is not None),
        said="resumed in snapshot {}; start its workers",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _decide(
    what: str,
    lines: list[str],
    document: dict[str, object],
    make: Callable[[], CommitReport],
    *,
    key: str = "done",
    said: str = "done in snapshot {}",
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Show a decision, and make it unless that is all that is wanted, once it is confirmed.

    Args:
        what: What the question calls it.
        lines: What is decided, for people.
        document: The same as JSON; `key` says whether it was made.
        make: Commits it.
        key: Of the document.
        said: To people afterwards, with the snapshot's id.
        dry_run: Only show.
        yes: Do not ask.
        as_json: Print the document instead of the lines.

    """
    document = {**document, key: not dry_run}
    if not dry_run:
        confirm(what, lines, yes=yes)
        document["snapshot_id"] = snapshot_id = make().snapshot_id
        lines = [*lines, said.format(snapshot_id)]
    if as_json:
        print_json(document)
        return
    for line in lines:
        print_line(line)


def _gap_lines(gap: Gap) -> list[str]:
    lost = [f"{r}: {len(r)} offsets were deleted unread" for r in gap.lost]
    restarted = [
        f"topic {topic} was created again: its old rows stay, reading starts at "
        + ", ".join(f"{tp.kafka_partition}: {n}" for tp, n in sorted(starts.items()))
        for topic, starts in (gap.restarted or {}).items()
    ]
    return lost + restarted


def _rows_of(view: TableView, snapshot_id: int | None) -> int:
    if snapshot_id is None or snapshot_id not in view.snapshots:
        return 0
    return int(view.snapshots[snapshot_id].summary.get("total-records", 0))


def _next_offsets(entry: Entry) -> dict[str, int]:
    return {str(tp): n for tp, n in sorted(entry.checkpoint.next_offsets.items())}


def _offsets_text(next_offsets: object) -> str:
    if not isinstance(next_offsets, dict):
        return "-"
    return " ".join(f"{key}:{value}" for key, value in next_offsets.items())
