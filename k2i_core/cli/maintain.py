"""`k2i maintain …`: run a step of maintenance now, or ask what the tables need.

Every step works on both tables of the pipeline, may run beside workers and beside itself, and may
be stopped at any moment: what it has committed stays, the rest is done by the next run.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, TypeAlias

import typer

from k2i_core.cli.confirmation import DryRun
from k2i_core.cli.options import AsJson, Overrides, PipelineFile, read_pipeline
from k2i_core.cli.output import print_json, print_line, print_table, progress_bar
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline
from k2i_core.config.units import parse_size
from k2i_core.errors import ConfigError
from k2i_core.maintenance.health import Need, TableHealth, needs
from k2i_core.maintenance.report import Figure, MaintenanceReport, Progress
from k2i_core.wiring import maintenance

app = typer.Typer(
    help="Keep the tables healthy: run a step now, or ask what they need.",
    rich_markup_mode=None,
)

Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="TABLE",
        help="One of the pipeline's tables; repeatable. Default: all of them.",
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Rewrite all files, not only the small ones.")
]
TargetFileBytes = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Size of the files it writes, as 512MiB.")
]

Step: TypeAlias = Callable[[str, Progress], MaintenanceReport]
"""Table → what was done to it."""


@app.command()
def compact(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    everything: Everything = False,
    target_file_bytes: TargetFileBytes = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Put small files together; DuckDB proves that the rows are the same before the commit."""
    pipeline = read_pipeline(pipeline_file, overrides)
    step = _compaction(
        pipeline,
        is_dry_run=dry_run,
        target_bytes=_target_bytes(target_file_bytes),
        is_everything=everything,
    )
    _run(_tables(pipeline, table), [step], as_json=as_json)


@app.command()
def manifests(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Rewrite manifests, so that a query of one Iceberg partition reads few of them."""
    pipeline = read_pipeline(pipeline_file, overrides)
    step = _manifest_rewriting(pipeline, is_dry_run=dry_run)
    _run(_tables(pipeline, table), [step], as_json=as_json)


@app.command()
def expire(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Give up old snapshots and delete the files that only they needed."""
    pipeline = read_pipeline(pipeline_file, overrides)
    _run(_tables(pipeline, table), [_expiration(pipeline, is_dry_run=dry_run)], as_json=as_json)


@app.command()
def orphans(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Delete files of the tables' folders that nothing needs; try it with --dry-run first."""
    pipeline = read_pipeline(pipeline_file, overrides)
    _run(_tables(pipeline, table), [_orphan_removal(pipeline, is_dry_run=dry_run)], as_json=as_json)


@app.command(name="all")
def everything(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Run all four steps in their order, as an orchestrator would; for cron."""
    pipeline = read_pipeline(pipeline_file, overrides)
    steps = [
        _compaction(pipeline, is_dry_run=dry_run),
        _manifest_rewriting(pipeline, is_dry_run=dry_run),
        _expiration(pipeline, is_dry_run=dry_run),
        _orphan_removal(pipeline, is_dry_run=dry_run),
    ]
    _run(_tables(pipeline, table), steps, as_json=as_json)


@app.command()
def health(
    pipeline_file: PipelineFile,
    *,
    table: Tables = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Show files, snapshots and metadata of the tables, and which steps they need."""
    pipeline = read_pipeline(pipeline_file, overrides)
    clock = SystemClock()
    measured: list[tuple[TableHealth, tuple[Need, ...]]] = []
    for identifier in _tables(pipeline, table):
        found = maintenance.table_health(pipeline, identifier, clock)
        measured.append((found, needs(found, pipeline.maintenance)))
    if as_json:
        print_json({"tables": [_health_document(found, why) for found, why in measured]})
        return
    names = [name for name in measured[0][0].to_json() if name != "table"]
    print_table(
        ("", *(found.table for found, _ in measured)),
        [[name, *(_figure_text(found.to_json()[name]) for found, _ in measured)] for name in names],
    )
    for found, why in measured:
        for need in why:
            print_line(f"{found.table} needs {need.step}: {need.reason}")
        if not why:
            print_line(f"{found.table} needs nothing")


def _compaction(
    pipeline: Pipeline,
    *,
    is_dry_run: bool,
    target_bytes: int | None = None,
    is_everything: bool = False,
) -> Step:
    clock = SystemClock()

    def step(identifier: str, progress: Progress) -> MaintenanceReport:
        options = maintenance.compaction_options(pipeline, identifier)
        options = replace(
            options,
            is_everything=is_everything,
            target_file_bytes=target_bytes or options.target_file_bytes,
        )
        return maintenance.compact(
            pipeline, identifier, clock, options=options, is_dry_run=is_dry_run, progress=progress
        )

    return step


def _manifest_rewriting(pipeline: Pipeline, *, is_dry_run: bool) -> Step:
    clock = SystemClock()
    return lambda identifier, progress: maintenance.rewrite_manifests(
        pipeline, identifier, clock, is_dry_run=is_dry_run, progress=progress
    )


def _expiration(pipeline: Pipeline, *, is_dry_run: bool) -> Step:
    clock = SystemClock()
    return lambda identifier, progress: maintenance.expire_snapshots(
        pipeline, identifier, clock, is_dry_run=is_dry_run, progress=progress
    )


def _orphan_removal(pipeline: Pipeline, *, is_dry_run: bool) -> Step:
    clock = SystemClock()
    return lambda identifier, progress: maintenance.remove_orphans(
        pipeline, identifier, clock, is_dry_run=is_dry_run, progress=progress
    )


def _target_bytes(written: str | None) -> int | None:
    if written is None:
        return None
    try:
        return max(1, parse_size(written))
    except ValueError as error:
        message = f"--target-file-bytes {error}"
        raise ConfigError(message) from error


def _tables(pipeline: Pipeline, chosen: list[str] | None) -> tuple[str, ...]:
    """Return the chosen tables, all of the pipeline's by default.

    Raises:
        ConfigError: One is none of the pipeline's, or does not exist.

    """
    existing = maintenance.tables_of(pipeline)
    for identifier in chosen or ():
        if identifier not in existing:
            message = f"--table {identifier} is no table of this pipeline: {', '.join(existing)}"
            raise ConfigError(message)
    return tuple(chosen) if chosen else existing


def _run(tables: Sequence[str], steps: Sequence[Step], *, as_json: bool) -> None:
    """Do the steps, one table after the other, and tell each as soon as it is done."""
    reports: list[MaintenanceReport] = []
    try:
        for identifier in tables:
            for step in steps:
                with progress_bar() as show:
                    report = step(identifier, show)
                reports.append(report)
                if not as_json:
                    _print_report(report)
    finally:
        # Also after an error or an interrupt: what was done is done.
        if as_json:
            print_json({"reports": [report.to_json() for report in reports]})


def _print_report(report: MaintenanceReport) -> None:
    print_line(f"{report.table}: {report.did}")
    for name, figure in report.figures.items():
        if figure:
            print_line(f"  {name.replace('_', ' ')}: {_figure_text(figure)}")
    for note in report.notes:
        print_line(f"  note: {note}")


def _health_document(found: TableHealth, why: tuple[Need, ...]) -> dict[str, object]:
    return {
        **found.to_json(),
        "needs": [{"step": need.step, "reason": need.reason} for need in why],
    }


def _figure_text(figure: object) -> str:
    if isinstance(figure, Figure):
        return f"{figure:,.3f}" if isinstance(figure, float) else f"{figure:,}"
    return "-" if figure is None else str(figure)
