"""The body of every run that ingests: wait for the turn, run the worker, publish, end properly.

The worker runs in a thread; this thread is the one that Dagster interrupts. Whatever ends it, the
worker gets its last flush, and what that flush did is published, before the run ends:

| what happens | how the run ends |
|---|---|
| time for a rollover, end offsets reached, asked to stop by a tag | SUCCESS |
| a person terminates it | CANCELED |
| the worker fails | FAILURE with the worker's message |
| it was recorded as ended by somebody else meanwhile | FAILURE |
"""

from dataclasses import dataclass

import dagster as dg

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import ErrorKind, K2iError
from k2i_core.interrupts import interrupts_ignored
from k2i_core.ledger import Share
from k2i_core.wiring.worker_run import run_worker
from k2i_core.worker import Until
from k2i_dagster import names, run_store
from k2i_dagster.keep_alive import WorkerRun
from k2i_dagster.running.failures import failure_of, raise_if_ended_elsewhere
from k2i_dagster.running.heartbeat import Heartbeat
from k2i_dagster.running.ownership import earlier_owner
from k2i_dagster.running.publishing import Publishers
from k2i_dagster.running.turn import why_no_turn
from k2i_dagster.running.worker_thread import WorkerThread

LOOP_SECONDS = 0.5
"""How often it is looked whether the worker ended or has to. Larger reacts later."""

LAST_FLUSH_SECONDS_MAX = 600.0
"""How long the last flush may take; the commit's own limit is shorter."""

TURN_SECONDS_MAX = 600.0
"""How long a run waits for an earlier one of the same share before it ends with nothing done."""

TAG_CHARACTERS_MAX = 500
"""Larger fills the run's page; smaller does not name the column."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What one run is to ingest.

    Attributes:
        pipeline: What to ingest; for a backfill with its own start.
        share: Which Kafka partitions.
        slot: For the tag that names the worker.
        until: When to end without being asked.
    """

    pipeline: Pipeline
    share: Share
    slot: int | str
    until: Until


def ingest(
    context: dg.OpExecutionContext, *, worker: int, max_run_minutes: float, pipeline: Pipeline
) -> None:
    """Run one worker of a pipeline until the rollover.

    Raises:
        Failure: The worker cannot run; the message says what to do.

    """
    if worker >= pipeline.workers:
        context.log.info(
            f"pipeline {pipeline.name} has {pipeline.workers} workers now, so worker {worker} has "
            "nothing to do"
        )
        return
    share = Share(worker, pipeline.workers)
    run(context, RunPlan(pipeline, share, worker, Until(seconds_max=max_run_minutes * 60)))


def run(context: dg.OpExecutionContext, plan: RunPlan) -> None:
    """Carry out a plan.

    Raises:
        Failure: The worker failed, or the run is over as far as Dagster knows.

    """
    clock = SystemClock()
    tags = {
        names.PIPELINE_TAG: plan.pipeline.name,
        names.WORKER_TAG: names.worker_tag(plan.pipeline.name, plan.slot),
        names.WORKERS_TAG: str(plan.share.workers),
    }
    run_store.add_tags(context.instance, context.run.run_id, tags)
    with Heartbeat(context.instance, context.run.run_id, clock) as heartbeat:
        if _has_turn(context, plan, heartbeat, clock):
            _ingest_in_turn(context, plan, heartbeat, clock)


def _has_turn(
    context: dg.OpExecutionContext, plan: RunPlan, heartbeat: Heartbeat, clock: Clock
) -> bool:
    """Wait until no earlier run owns the share; tell whether this one may begin."""
    why_not = why_no_turn(
        context,
        lambda: _owner(context, plan.pipeline.name, clock),
        heartbeat,
        clock,
        what=f"worker {plan.share}",
        seconds_max=TURN_SECONDS_MAX,
    )
    if why_not is None:
        return True
    if heartbeat.stop_reason() is not None:
        raise_if_ended_elsewhere(context)
    context.log.info(why_not)
    return False


def _owner(context: dg.OpExecutionContext, pipeline_name: str, clock: Clock) -> WorkerRun | None:
    me = run_store.find_run(context.instance, context.run.run_id)
    if me is None:
        return None
    others = run_store.live_runs(context.instance, pipeline_name)
    return earlier_owner(me, others, clock.now_ms() / 1000)


def _ingest_in_turn(
    context: dg.OpExecutionContext, plan: RunPlan, heartbeat: Heartbeat, clock: Clock
) -> None:
    pipeline = plan.pipeline
    worker = WorkerThread(
        lambda stop, listener: run_worker(pipeline, plan.share, plan.until, stop, listener=listener)
    )
    publisher = Publishers(context, pipeline, plan.share, clock)
    context.log.info(_beginning(plan))
    worker.start()
    try:
        while not worker.wait(LOOP_SECONDS):
            if reason := heartbeat.stop_reason():
                context.log.info(f"ending after a last flush: {reason}")
                break
            if publisher.is_due():
                publisher.publish(worker.taken_reports())
    finally:
        with interrupts_ignored():
            worker.ask_stop()
            has_ended = worker.wait(LAST_FLUSH_SECONDS_MAX)
            publisher.publish(worker.taken_reports())
            publisher.close()
            if worker.error is not None:
                context.log.error(f"the worker ended with {type(worker.error).__name__}")
            elif has_ended:
                context.log.info("ended with everything that was read committed")
    if not has_ended:
        message = (
            f"the last flush took longer than {LAST_FLUSH_SECONDS_MAX:.0f} s; the next run goes on "
            "from the table"
        )
        raise dg.Failure(message, allow_retries=False)
    try:
        worker.raise_failure()
    except K2iError as error:
        publisher.tell_failure(error)
        if error.kind is ErrorKind.TABLE_PAUSED:
            # For the sensor, which would start it again and again.
            tag = {names.PAUSED_TAG: str(error)[:TAG_CHARACTERS_MAX]}
            run_store.add_tags(context.instance, context.run.run_id, tag)
        raise failure_of(error) from None
    raise_if_ended_elsewhere(context)


def _beginning(plan: RunPlan) -> str:
    topics = ", ".join("/".join(key.path[1:]) for key in names.topic_keys(plan.pipeline))
    end = (
        f", for at most {plan.until.seconds_max / 60:g} minutes"
        if plan.until.seconds_max is not None
        else ", to the end offsets"
    )
    return f"worker {plan.share}: topic {topics} into {plan.pipeline.table.identifier}{end}"
