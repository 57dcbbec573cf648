"""What maintenance and health tell Dagster: figures to plot, texts to read. Pure.

The target's figures carry their own names, those of the dead letters have them in front, so that
each is a line of its own on the plots.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import dagster as dg

from k2i_core.config import Pipeline
from k2i_core.maintenance.health import TableHealth, needs
from k2i_core.maintenance.report import Figure, MaintenanceReport
from k2i_dagster.maintenance_asks import ASKS, SUMMARY

Healths: TypeAlias = Mapping[str, TableHealth]
"""Table → its health, the target first."""

DEAD_LETTERS = "dead letters"

_LISTED_MAX = 20


def needed(pipeline: Pipeline, healths: Healths) -> dict[str, dict[str, str]]:
    """Return step → table → why the table needs it."""
    found: dict[str, dict[str, str]] = {}
    for table, health in healths.items():
        for need in needs(health, pipeline.maintenance):
            found.setdefault(need.step, {})[table] = need.reason
    return found


def reason_text(by_table: Mapping[str, str]) -> str:
    """Return the reasons of one step in one line."""
    return "; ".join(f"{table}: {reason}" for table, reason in by_table.items())


def health_metadata(pipeline: Pipeline, healths: Healths) -> dict[str, Any]:
    """Return the metadata of a measured health, with what the schedules read."""
    asks = {step: reason_text(found) for step, found in needed(pipeline, healths).items()}
    figures = {
        _prefixed(pipeline, table, name): figure
        for table, health in healths.items()
        for name, figure in _health_figures(health).items()
    }
    return {
        "needs": dg.MetadataValue.md(_needs_text(asks)),
        SUMMARY: summary(healths),
        **figures,
        ASKS: dg.MetadataValue.json(asks),
    }


def summary(healths: Healths) -> str:
    """Return the state of the tables in one line."""
    lines = [
        f"{table}: {health.data_file_count:,} files of {_size(health.average_file_bytes)} on "
        f"average, {health.small_file_share:.0%} small, {health.manifest_count:,} manifests, "
        f"{health.snapshot_count:,} snapshots"
        for table, health in healths.items()
    ]
    return "; ".join(lines) or "no table yet, the first flush creates it"


def step_metadata(
    pipeline: Pipeline, reports: Sequence[MaintenanceReport], reason: str | None
) -> dict[str, Any]:
    """Return the metadata of a step that worked, or said what it would do.

    Args:
        pipeline: Whose tables.
        reports: One for each table.
        reason: Why the run was launched; None when a person did it.

    """
    is_dry_run = any(report.is_dry_run for report in reports)
    did = "; ".join(f"{report.table}: {report.did}" for report in reports)
    metadata: dict[str, Any] = {
        "did": f"dry run: {did}" if is_dry_run else did,
        "reason": reason or "launched by hand",
    }
    figures = {
        _prefixed(pipeline, report.table, name): figure
        for report in reports
        for name, figure in report.figures.items()
    }
    if is_dry_run:
        # As text, because the plots are of what was done.
        metadata["would be"] = dg.MetadataValue.md(_figures_table(figures))
    else:
        metadata |= figures
    snapshot_ids = [str(each) for report in reports for each in report.snapshot_ids]
    if snapshot_ids:
        # As text, because JavaScript rounds numbers of this size.
        metadata["snapshots made"] = ", ".join(snapshot_ids)
    notes = [f"- {report.table}: {note}" for report in reports for note in report.notes]
    if notes:
        metadata["notes"] = dg.MetadataValue.md("\n".join(_shortened(notes)))
    return metadata


def _health_figures(health: TableHealth) -> dict[str, Figure]:
    return {
        "files": health.data_file_count,
        "small_files": health.small_file_count,
        "small_file_share": round(health.small_file_share, 4),
        "small_files_per_partition_max": health.small_files_per_partition_max,
        "average_file_bytes": health.average_file_bytes,
        "bytes": health.total_bytes,
        "rows": health.row_count,
        "manifests": health.manifest_count,
        "snapshots": health.snapshot_count,
        "metadata_bytes": health.metadata_bytes,
        "delete_files": health.delete_file_count,
        "partitions": health.partition_count,
        "files_per_partition_max": health.files_per_partition_max,
        "projected_scan_seconds": round(health.projected_scan_seconds, 4),
    }


def _prefixed(pipeline: Pipeline, table: str, name: str) -> str:
    if table == pipeline.table.identifier:
        return name
    return f"{DEAD_LETTERS if table == pipeline.dead_letter_table else table}: {name}"


def _needs_text(asks: Mapping[str, str]) -> str:
    if not asks:
        return "Nothing: the tables are healthy."
    return "\n".join(f"- **{step}**: {reason}" for step, reason in asks.items())


def _figures_table(figures: Mapping[str, Figure]) -> str:
    lines = [f"| {name} | {figure:,} |" for name, figure in figures.items()]
    return "\n".join(["| figure | value |", "|---|---:|", *lines])


def _shortened(notes: Sequence[str]) -> list[str]:
    rest = len(notes) - _LISTED_MAX
    return [*notes[:_LISTED_MAX], *([f"- and {rest} more, in the run's log"] if rest > 0 else [])]


def _size(byte_count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if byte_count < 1024:  # noqa: PLR2004 - the step from one binary unit to the next
            return f"{byte_count:.0f} {unit}"
        byte_count /= 1024
    return f"{byte_count:.1f} GiB"
