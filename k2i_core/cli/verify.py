"""`k2i verify`: prove, offset by offset, that nothing is lost and nothing doubled."""

from typing import Annotated

import typer

from k2i_core.audit.findings import Verification
from k2i_core.audit.verify import Progress
from k2i_core.audit.verify import verify as prove
from k2i_core.cli.exits import Exit
from k2i_core.cli.options import AsJson, Overrides, PipelineFile, SomeTables, read_tables
from k2i_core.cli.output import print_json, print_line, print_table, progress_bar
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline
from k2i_core.wiring.inspection import (
    SourceTopicReader,
    dead_letters_for_proof,
    inspect_target,
    open_source,
    stored_ledger,
)


def verify(
    pipeline_file: PipelineFile,
    *,
    skip_topic: Annotated[
        bool, typer.Option(help="Compare ledger and rows only; do not read the topic.")
    ] = False,
    table: SomeTables = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Compare topic, ledger and rows; exit code 1 when anything is lost or doubled.

    Needs no pause: it proves the offsets below the checkpoint of the snapshot it loads first.
    """
    pipelines = read_tables(pipeline_file, overrides, table)
    found = [run_verification(pipeline, with_topic=not skip_topic) for pipeline in pipelines]
    holds = all(verification.holds for verification in found)
    if as_json and len(found) == 1:
        print_json(found[0].to_json())
    elif as_json:
        print_json({"holds": holds, "tables": [one.to_json() for one in found]})
    else:
        for verification in found:
            print_verification(verification)
    if not holds:
        raise typer.Exit(Exit.CHECK_FAILED)


def run_verification(pipeline: Pipeline, *, with_topic: bool) -> Verification:
    """Prove the pipeline's table, with a progress bar on a terminal."""
    inspected = inspect_target(pipeline)
    ledger = stored_ledger(inspected)
    dead_letters = dead_letters_for_proof(pipeline)
    clock = SystemClock()
    source = open_source(pipeline, clock) if with_topic else None
    try:
        with progress_bar() as show:

            def on_progress(progress: Progress) -> None:
                show(progress.stage, progress.done_count, progress.total_count)

            return prove(
                inspected.table,
                ledger,
                dead_letters=dead_letters,
                topic=SourceTopicReader(source, clock) if source else None,
                on_progress=on_progress,
            )
    finally:
        if source is not None:
            source.close()


def print_verification(verification: Verification) -> None:
    """Print the figures of every Kafka partition, then the verdict and what contradicts it."""
    # Most pipelines filter nothing, and make one row of a record.
    has_filtered = any(proof.claimed.filtered_count for proof in verification.partitions)
    has_several = any(proof.claimed.extra_row_count for proof in verification.partitions)
    print_table(
        (
            "kafka partition",
            "first",
            "next",
            "rows",
            *(("of records",) if has_several else ()),
            "dead letters",
            "replayed",
            "dropped",
            *(("filtered",) if has_filtered else ()),
            "tombstones",
            "no record",
        ),
        [
            [
                str(proof.topic_partition),
                f"{proof.first_offset:,}",
                f"{proof.next_offset:,}",
                f"{proof.row_count:,}",
                *((f"{proof.claimed.row_count:,}",) if has_several else ()),
                f"{proof.dead_letter_count:,}",
                f"{proof.replayed_count:,}",
                f"{proof.dropped_count:,}",
                *((f"{proof.claimed.filtered_count:,}",) if has_filtered else ()),
                f"{proof.claimed.tombstone_count:,}",
                f"{proof.without_record_count:,}",
            ]
            for proof in verification.partitions
        ],
    )
    compared = "topic, ledger and rows" if verification.topic_compared else "ledger and rows"
    if verification.holds:
        print_line(
            f"holds: {compared} of {verification.table} agree, nothing lost, nothing doubled"
        )
        return
    print_line(f"DOES NOT HOLD: {compared} of {verification.table} disagree")
    for finding in verification.findings:
        print_line(f"  {finding}")
