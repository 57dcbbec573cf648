"""The body of a backfill run: ask table and topics, plan, and ingest up to the end.

Takes every share at once, so it refuses to start beside live workers: it would fence them, and the
keep-alive sensor would launch them again to fence it.
"""

import dagster as dg

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline, StartTimestamp
from k2i_core.errors import K2iError
from k2i_core.ledger import Share
from k2i_core.wiring.current_state import ledger_entry, starting_at, topic_bounds
from k2i_core.worker import Until
from k2i_dagster import names, run_store
from k2i_dagster.running.backfill_plan import (
    BackfillPlan,
    BackfillRequest,
    plan_backfill,
    read_request,
)
from k2i_dagster.running.failures import failure_of
from k2i_dagster.running.ingest_run import RunPlan, run
from k2i_dagster.running.ownership import live_workers


def backfill(
    context: dg.OpExecutionContext, *, pipeline: Pipeline, offsets: object, timestamps: object
) -> None:
    """Ingest up to an end, and end.

    Raises:
        Failure: Workers are live, the request cannot be carried out, or the worker failed.

    """
    clock = SystemClock()
    _refuse_beside_workers(context, pipeline, clock)
    try:
        plan = _plan(pipeline, read_request(offsets, timestamps), clock)
    except K2iError as error:
        raise failure_of(error) from None
    if plan.record_span == 0:
        context.log.info("everything up to the end is in the table already, nothing to do")
        return
    ends = ", ".join(f"{tp} to {end}" for tp, end in sorted(plan.ends.items()))
    context.log.info(f"backfill of at most {plan.record_span:,} offsets: {ends}")
    run(
        context,
        RunPlan(
            starting_at(pipeline, plan.start_policy) if plan.starts else pipeline,
            Share(0, 1),
            names.BACKFILL_SLOT,
            Until(caught_up=True, end_offsets=plan.ends),
        ),
    )


def _refuse_beside_workers(
    context: dg.OpExecutionContext, pipeline: Pipeline, clock: Clock
) -> None:
    runs = run_store.live_runs(context.instance, pipeline.name)
    workers = live_workers(runs, clock.now_ms() / 1000)
    if workers:
        live = ", ".join(f"{run.short_id} (worker {run.worker})" for run in workers)
        message = (
            f"workers of pipeline {pipeline.name} are live, and read all that a backfill would: "
            f"run {live}; to run backfills instead, turn sensor "
            f"{names.keep_alive_name(pipeline.name)} off and terminate the runs"
        )
        raise dg.Failure(message, allow_retries=False)


def _plan(pipeline: Pipeline, request: BackfillRequest, clock: Clock) -> BackfillPlan:
    entry = ledger_entry(pipeline)
    checkpoint = entry.checkpoint.next_offsets if entry else {}
    start_ms, end_ms = request.start_timestamp_ms, request.end_timestamp_ms
    if start_ms is None:
        now = topic_bounds(pipeline, clock, known=checkpoint)
    else:
        now = topic_bounds(starting_at(pipeline, StartTimestamp(start_ms)), clock)
    ends = {tp: mark.high for tp, mark in now.marks.items()}
    if end_ms is not None:
        ends = dict(topic_bounds(starting_at(pipeline, StartTimestamp(end_ms)), clock).starts)
    return plan_backfill(request, entry=entry, marks=now.marks, starts=now.starts, ends=ends)
