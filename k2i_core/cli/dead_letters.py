"""`k2i dead-letters list|show|replay|drop`: which records are no rows, why, and what to do."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from k2i_core.cli.confirmation import Confirmed, DryRun, confirm
from k2i_core.cli.options import AsJson, OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.cli.output import print_json, print_line, print_table, progress_bar
from k2i_core.clock import SystemClock
from k2i_core.config.units import parse_duration
from k2i_core.dead_letters.groups import LetterGroup
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import ReplayReport
from k2i_core.dead_letters.states import LetterState
from k2i_core.errors import ConfigError
from k2i_core.offsets import TopicPartition
from k2i_core.query.committed import QueryLimits, query
from k2i_core.query.output import plain_rows
from k2i_core.wiring import dead_letters as wired

app = typer.Typer(help="Records that could not become rows, and why.", rich_markup_mode=None)

_RECORDS = """
SELECT _kafka.topic AS topic, _kafka.partition AS kafka_partition, _kafka.offset AS "offset",
       _kafka.timestamp AS "timestamp", fingerprint, stage, error_class, message, first_seen,
       _kafka.key AS "key", "value"
FROM "{name}" WHERE target_table = '{target}' {where}
ORDER BY topic, kafka_partition, "offset" LIMIT {limit}
"""

Fingerprint = Annotated[
    str | None, typer.Option(help="Only those that failed for this reason; see `list`.")
]
ErrorClass = Annotated[str | None, typer.Option(help="Only those of this error class.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only those first seen since: 24h, 7d, or 2026-01-31T12:00:00Z."),
]


@app.command("list")
def list_groups(
    pipeline_file: PipelineFile,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Groups to list.")] = 50,
    include_all: Annotated[
        bool, typer.Option("--all", help="Also groups that are replayed or dropped entirely.")
    ] = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """List dead letters grouped by reason, with what became of them since."""
    pipeline = read_one_table(pipeline_file, overrides, table)
    with progress_bar() as bar:
        now = wired.look_at(pipeline, bar)
        groups = now.groups(bar) if now else []
    listed = [group for group in groups if include_all or group.listed_count][:limit]
    if as_json:
        print_json([_group_document(group) for group in listed])
        return
    if not listed:
        print_line("no dead letters")
        return
    columns = (
        "fingerprint",
        *(state.value for state in LetterState),
        "error class",
        "first seen",
        "last seen",
        "example",
        "message",
    )
    print_table(
        columns,
        [
            [
                group.fingerprint,
                *(f"{group.counts[state]:,}" for state in LetterState),
                group.error_class,
                _time_text(group.first_seen_ms),
                _time_text(group.last_seen_ms),
                f"{group.example[0]}:{group.example[1]}",
                group.message,
            ]
            for group in listed
        ],
    )


@app.command()
def show(
    pipeline_file: PipelineFile,
    fingerprint: Annotated[
        str | None, typer.Argument(help="Only records with this fingerprint.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Records to show.")] = 20,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Show dead letters one by one, with their bytes and what became of them."""
    where = f"AND fingerprint = '{checked_fingerprint(fingerprint)}'" if fingerprint else ""
    now = wired.look_at(read_one_table(pipeline_file, overrides, table))
    rows = _records(now, where, limit) if now else []
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("no dead letters")
    for row in rows:
        print_line(f"{row['topic']}/{row['kafka_partition']} offset {row['offset']}")
        for name in ("state", "error_class", "message", "fingerprint", "timestamp", "key", "value"):
            print_line(f"  {name}: {row[name]}")


@app.command()
def replay(  # noqa: PLR0913 - each is an option of the command
    pipeline_file: PipelineFile,
    *,
    fingerprint: Fingerprint = None,
    error_class: ErrorClass = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many new rows.")] = None,
    dry_run: DryRun = False,
    yes: Confirmed = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Decode dead letters again, by today's columns and settings; what decodes becomes rows.

    Each one becomes a row once, beside running workers, and however often this is called.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    selection = _selection(fingerprint, error_class, since, limit)
    if not dry_run and not yes:
        with progress_bar() as bar:
            preview = wired.replay(pipeline, selection, dry_run=True, show=bar)
        if preview.replayed_count:
            confirm("replay", _replay_lines(preview, pipeline.table.identifier), yes=False)
    with progress_bar() as bar:
        report = wired.replay(pipeline, selection, dry_run=dry_run, show=bar)
    if as_json:
        print_json(
            {
                "table": pipeline.table.identifier,
                "selected": report.selected_count,
                "replayed": report.replayed_count,
                "still_failing": dict(report.still_failing),
                "new_columns": list(report.new_columns),
                "snapshot_id": report.snapshot_id,
                "dry_run": dry_run,
            }
        )
        return
    for line in _replay_lines(report, pipeline.table.identifier):
        print_line(line)


@app.command()
def drop(  # noqa: PLR0913 - each is an option of the command
    pipeline_file: PipelineFile,
    *,
    fingerprint: Fingerprint = None,
    error_class: ErrorClass = None,
    since: Since = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Whatever the reason; instead of the filters.")
    ] = False,
    dry_run: DryRun = False,
    yes: Confirmed = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Give dead letters up: they leave the list, and stay stored and accounted for."""
    if everything == bool(fingerprint or error_class or since):
        message = "say which dead letters: --fingerprint, --error-class or --since, or --all alone"
        raise ConfigError(message)
    pipeline = read_one_table(pipeline_file, overrides, table)
    selection = _selection(fingerprint, error_class, since, None)
    if not dry_run and not yes:
        preview = wired.drop(pipeline, selection, dry_run=True)
        if preview.dropped_count:
            confirm("drop", [f"{preview.dropped_count:,} dead letters are given up"], yes=False)
    with progress_bar() as bar:
        report = wired.drop(pipeline, selection, dry_run=dry_run, show=bar)
    if as_json:
        print_json(
            {
                "table": pipeline.table.identifier,
                "dropped": report.dropped_count,
                "fingerprints": dict(report.fingerprints),
                "snapshot_id": report.snapshot_id,
                "dry_run": dry_run,
            }
        )
        return
    would = "would be " if dry_run else ""
    print_line(f"{report.dropped_count:,} dead letters {would}dropped")


def checked_fingerprint(text: str) -> str:
    """Return the text if it can be a fingerprint.

    Raises:
        ConfigError: It cannot.

    """
    if not text.isalnum():
        message = f"{text!r} is not a fingerprint; see `k2i dead-letters list`"
        raise ConfigError(message)
    return text


def _selection(
    fingerprint: str | None, error_class: str | None, since: str | None, limit: int | None
) -> Selection:
    if fingerprint is not None:
        checked_fingerprint(fingerprint)
    return Selection(fingerprint, error_class, _since_ms(since), limit)


def _since_ms(text: str | None) -> int | None:
    """Read a duration before now, or a time with its zone."""
    if text is None:
        return None
    try:
        if text[:1].isdigit() and "-" not in text:
            return SystemClock().now_ms() - int(parse_duration(text) * 1000)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            message = f"--since {text!r} has no time zone; write 2026-01-31T12:00:00Z"
            raise ConfigError(message)
    except ValueError as error:
        message = f"--since {text!r} is neither a duration such as 24h nor a time; {error}"
        raise ConfigError(message) from error
    return int(moment.timestamp() * 1000)


def _replay_lines(report: ReplayReport, table: str) -> list[str]:
    would = "would become" if report.is_dry_run else "became"
    counts = f"{report.replayed_count:,} of {report.selected_count:,}"
    lines = [f"{counts} dead letters {would} rows of {table}"]
    if report.new_columns:
        lines.append(f"new columns: {', '.join(report.new_columns)}")
    lines += [
        f"{count:,} still fail: {name}" for name, count in sorted(report.still_failing.items())
    ]
    if report.snapshot_id is not None:
        lines.append(f"done in snapshot {report.snapshot_id}")
    return lines


def _group_document(group: LetterGroup) -> dict[str, object]:
    topic_partition, offset = group.example
    return {
        "fingerprint": group.fingerprint,
        "stage": group.stage,
        "error_class": group.error_class,
        "message": group.message,
        "record_count": group.total_count,
        **{state.value: group.counts[state] for state in LetterState},
        "first_seen": _time_text(group.first_seen_ms),
        "last_seen": _time_text(group.last_seen_ms),
        "example": {
            "topic": topic_partition.topic,
            "kafka_partition": topic_partition.kafka_partition,
            "offset": offset,
        },
    }


def _time_text(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _records(now: wired.DeadLettersNow, where: str, limit: int) -> list[dict[str, object]]:
    name = now.loaded.dead_letters.name()[-1].replace('"', '""')
    target = now.loaded.target_name.replace("'", "''")
    statement = _RECORDS.format(name=name, target=target, limit=limit, where=where)
    with query(now.loaded.dead_letters, statement, QueryLimits()) as result:
        rows = list(plain_rows(result))
    for row in rows:
        where_from = TopicPartition(str(row["topic"]), int(str(row["kafka_partition"])))
        row["state"] = now.states.state_of(where_from, int(str(row["offset"]))).value
    return rows
