"""`k2i check`: audit what came into the committed table since the last check, without Dagster."""

from typing import Annotated, TypedDict

import typer

from k2i_core.audit.catalogue import specs_of
from k2i_core.audit.row_audit import AuditAnswer
from k2i_core.cli.exits import Exit
from k2i_core.cli.options import AsJson, OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.cli.output import print_json, print_line, progress_bar
from k2i_core.config import Pipeline
from k2i_core.wiring.stored_state import load_state, save_state
from k2i_core.wiring.table_audit import TableAudit, audit_table

FAULTS_LISTED_MAX = 5

_STAGES = ("manifests", "files", "rows", "whole table")


class _AnswerJson(TypedDict):
    name: str
    passed: bool
    severity: str
    faults: list[str]
    figures: dict[str, int | float]
    note: str


class CheckJson(TypedDict):
    """The JSON form of one `k2i check`."""

    holds: bool
    table: str
    snapshot_id: int
    everything: bool
    history: str
    offsets: int
    files: int
    checks: list[_AnswerJson]


def check(
    pipeline_file: PipelineFile,
    *,
    full: Annotated[
        bool,
        typer.Option("--full", help="All of the table, and what costs as much as it is large."),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Let the next check begin here, whatever this one finds."),
    ] = False,
    as_json: AsJson = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Check files, manifests and rows that came since the last check; exit code 1 on an error.

    Needs no pause. A check that finds an error is repeated from the same place, until it is
    settled or accepted.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    found = _audit(pipeline, is_full=full)
    if found.holds or accept:
        save_state(pipeline, found.state)
    if as_json:
        print_json(_document(found))
    else:
        _print(pipeline, found, is_full=full)
    if not found.holds:
        raise typer.Exit(Exit.CHECK_FAILED)


def _audit(pipeline: Pipeline, *, is_full: bool) -> TableAudit:
    with progress_bar() as show:

        def report(stage: str) -> None:
            show("check", _STAGES.index(stage), len(_STAGES) if is_full else len(_STAGES) - 1)

        return audit_table(pipeline, load_state(pipeline), is_full=is_full, report=report)


def _document(found: TableAudit) -> CheckJson:
    return {
        "holds": found.holds,
        "table": found.table,
        "snapshot_id": found.snapshot_id,
        "everything": not found.is_incremental,
        "history": found.chain.value,
        "offsets": found.offset_count,
        "files": found.file_count,
        "checks": [
            {
                "name": answer.question,
                "passed": not answer.faults,
                "severity": "error" if answer.is_error else "warn",
                "faults": list(answer.faults),
                "figures": dict(answer.figures),
                "note": answer.note,
            }
            for answer in found.answers
        ],
    }


def _print(pipeline: Pipeline, found: TableAudit, *, is_full: bool) -> None:
    remedies = {spec.name: spec.remedy for spec in specs_of(pipeline, is_full=is_full)}
    width = max(len(answer.question) for answer in found.answers)
    for answer in found.answers:
        mark = "✓" if not answer.faults else "✗" if answer.is_error else "!"
        print_line(f"{mark} {answer.question:<{width}}  {_said(answer)}".rstrip())
        if answer.faults:
            for fault in answer.faults[:FAULTS_LISTED_MAX]:
                print_line(f"    {fault}")
            if len(answer.faults) > FAULTS_LISTED_MAX:
                print_line(f"    and {len(answer.faults) - FAULTS_LISTED_MAX} more")
            print_line(f"    what to do: {remedies[answer.question]}")
    what = "what came since the last check" if found.is_incremental else "everything"
    looked_at = f"{found.offset_count:,} offsets in {found.file_count:,} files"
    verdict = "holds" if found.holds else "DOES NOT HOLD"
    print_line(f"{verdict}: {what} in {found.table}: {looked_at}")


def _said(answer: AuditAnswer) -> str:
    if answer.faults:
        count = len(answer.faults)
        return f"{count} {'fault' if count == 1 else 'faults'}"
    figures = ", ".join(
        f"{name.replace('_', ' ')}={number:,.10g}" for name, number in answer.figures.items()
    )
    return "; ".join(part for part in (answer.note, figures) if part)
