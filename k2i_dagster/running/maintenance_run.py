"""The body of a maintenance run: wait for the turn, ask health and the checks, do the step, tell.

| what is found | what the run does |
|---|---|
| another maintenance run of these tables is live | waits for its end, half an hour at most |
| an error-level check of the table fails | nothing; its own check warns and names the other one |
| the run is of the schedule, and health does not ask for it any more | nothing, and says why |
| there is no table yet | nothing, and says so |
| a person terminates it, or it was recorded as ended by somebody else | breaks off |
| anything else | the step, for one table after the other; then health is measured anew |

Nothing is wrong with a step that rightly did nothing, so its run succeeds. What a step that broke
off left behind is harmless, and the next run simply runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import dagster as dg

from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import ErrorKind, K2iError
from k2i_core.maintenance.report import MaintenanceReport, Progress
from k2i_core.wiring import maintenance as wired
from k2i_dagster import names, run_store
from k2i_dagster.keep_alive import WorkerRun
from k2i_dagster.maintenance_options import StepOptions, read_options
from k2i_dagster.maintenance_steps import COMPACTION, EXPIRATION, MANIFESTS, ORPHANS, Step
from k2i_dagster.running.failures import failure_of, raise_if_ended_elsewhere
from k2i_dagster.running.heartbeat import Heartbeat
from k2i_dagster.running.maintenance_metadata import (
    Healths,
    health_metadata,
    needed,
    reason_text,
    step_metadata,
    summary,
)
from k2i_dagster.running.ownership import earliest_before
from k2i_dagster.running.turn import why_no_turn

TURN_SECONDS_MAX = 1_800.0
"""How long a run waits for another step of the same tables: longer than a compaction's budget."""

PROGRESS_SECONDS = 10.0
"""Time between two lines about how far a step is."""

HEALTH_VERSION = "measured"
"""The data version of health, always the same: no step is out of date because it was measured."""

DATA_VERSION_TAG = "dagster/data_version"

NO_TABLE = "no table yet, the first flush creates it"

Act: TypeAlias = Callable[[StepOptions, str, Clock, Progress], MaintenanceReport]


def measure(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[Any]:
    """Measure the health of a pipeline's tables.

    Raises:
        Failure: A table cannot be read.

    """
    clock = SystemClock()
    with Heartbeat(context.instance, context.run.run_id, clock):
        try:
            healths = _measured(pipeline, clock)
        except K2iError as error:
            raise failure_of(error) from None
    context.log.info(f"health: {summary(healths)}")
    for step, by_table in needed(pipeline, healths).items():
        context.log.info(f"{step} is needed: {reason_text(by_table)}")
    return dg.MaterializeResult(
        metadata=health_metadata(pipeline, healths), data_version=dg.DataVersion(HEALTH_VERSION)
    )


def maintain(
    context: dg.AssetExecutionContext, pipeline: Pipeline, step: Step, config: Mapping[str, object]
) -> dg.MaterializeResult[Any]:
    """Do one step for a pipeline's tables, as far as it is needed and allowed.

    Raises:
        Failure: The config is wrong, or the step broke off.

    """
    clock = SystemClock()
    tags = {
        names.PIPELINE_TAG: pipeline.name,
        names.MAINTENANCE_TAG: names.worker_tag(pipeline.name, names.MAINTENANCE_SLOT),
    }
    run_store.add_tags(context.instance, context.run.run_id, tags)
    with Heartbeat(context.instance, context.run.run_id, clock) as heartbeat:
        try:
            options = read_options(pipeline, step, config)
            why_not = why_no_turn(
                context,
                lambda: _owner(context, pipeline.name, clock),
                heartbeat,
                clock,
                what=f"the maintenance of {pipeline.table.identifier}",
                seconds_max=TURN_SECONDS_MAX,
            )
            failing = run_store.failing_error_checks(context.instance, pipeline)
            if why_not is None and failing and not options.is_dry_run:
                why_not = _held_back(step, failing)
                context.log.warning(why_not)
            metadata = (
                _maintained(context, step, options, heartbeat, clock)
                if why_not is None
                else _nothing(context, why_not)
            )
        except K2iError as error:
            raise failure_of(error) from None
    return dg.MaterializeResult(
        metadata=metadata, check_results=[_check_result(pipeline, step, failing)]
    )


def _maintained(
    context: dg.AssetExecutionContext,
    step: Step,
    options: StepOptions,
    heartbeat: Heartbeat,
    clock: Clock,
) -> dict[str, Any]:
    pipeline = options.pipeline
    tables = _tables(options)
    if not tables:
        return _nothing(context, NO_TABLE)
    reason = context.run.tags.get(names.REASON_TAG)
    if options.is_only_if_needed:
        healths = _measured(pipeline, clock)
        _publish(context, pipeline, healths)
        by_table = needed(pipeline, healths).get(step.name, {})
        tables = tuple(table for table in tables if table in by_table)
        if not tables:
            return _nothing(context, f"not needed: {summary(healths)}")
        reason = reason_text(by_table)
        context.log.info(f"{step.name} is needed: {reason}")
    reports: list[MaintenanceReport] = []
    for table in tables:
        report = _ACTS[step.name](options, table, clock, _told(context, table, heartbeat, clock))
        reports.append(report)
        context.log.info(f"{table}: {report.did}")
        for note in report.notes:
            context.log.info(f"{table}: {note}")
    if not options.is_dry_run:
        _publish(context, pipeline, _measured(pipeline, clock))
    return step_metadata(pipeline, reports, reason)


def _tables(options: StepOptions) -> tuple[str, ...]:
    try:
        tables = wired.tables_of(options.pipeline)
    except K2iError as error:
        if error.kind is ErrorKind.TABLE_MISSING:
            return ()
        raise
    return tuple(table for table in tables if options.table in (None, table))


def _measured(pipeline: Pipeline, clock: Clock) -> Healths:
    return {
        table: wired.table_health(pipeline, table, clock)
        for table in _tables(StepOptions(pipeline))
    }


def _publish(context: dg.AssetExecutionContext, pipeline: Pipeline, healths: Healths) -> None:
    """Store a health that was measured beside a step, so that what follows believes no old one."""
    key = names.maintenance_key(pipeline, names.HEALTH)
    context.log_event(
        dg.AssetMaterialization(
            key,
            metadata=health_metadata(pipeline, healths),
            tags={DATA_VERSION_TAG: HEALTH_VERSION},
        )
    )


def _owner(context: dg.AssetExecutionContext, pipeline_name: str, clock: Clock) -> WorkerRun | None:
    me = run_store.find_run(context.instance, context.run.run_id)
    if me is None:
        return None
    others = run_store.live_maintenance_runs(context.instance, pipeline_name)
    return earliest_before(me, others, clock.now_ms() / 1000)


def _nothing(context: dg.AssetExecutionContext, why: str) -> dict[str, Any]:
    context.log.info(f"nothing was done: {why}")
    return {"did": f"nothing: {why}"}


def _held_back(step: Step, failing: tuple[str, ...]) -> str:
    return f"{step.name} is held back by a failing check: {', '.join(failing)}"


def _check_result(pipeline: Pipeline, step: Step, failing: tuple[str, ...]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=names.maintenance_key(pipeline, step.name),
        check_name=names.HELD_BACK,
        passed=not failing,
        # The other check has told whoever is to be woken.
        severity=dg.AssetCheckSeverity.WARN,
        description=_held_back(step, failing) if failing else "no error-level check fails",
    )


def _told(
    context: dg.AssetExecutionContext, table: str, heartbeat: Heartbeat, clock: Clock
) -> Progress:
    last_seconds = clock.boot_seconds()

    def tell(doing: str, done: int, of: int) -> None:
        nonlocal last_seconds
        if heartbeat.stop_reason() is not None:
            # Safe because every step may break off anywhere.
            raise_if_ended_elsewhere(context)
        if clock.boot_seconds() - last_seconds >= PROGRESS_SECONDS:
            last_seconds = clock.boot_seconds()
            context.log.info(f"{table}: {doing}, {done:,} of {of:,}")

    return tell


def _compact(
    options: StepOptions, table: str, clock: Clock, progress: Progress
) -> MaintenanceReport:
    chosen = wired.compaction_options(options.pipeline, table)
    if options.is_everything:
        chosen = replace(chosen, is_everything=True)
    return wired.compact(
        options.pipeline,
        table,
        clock,
        options=chosen,
        is_dry_run=options.is_dry_run,
        progress=progress,
    )


def _rewrite_manifests(
    options: StepOptions, table: str, clock: Clock, progress: Progress
) -> MaintenanceReport:
    return wired.rewrite_manifests(
        options.pipeline, table, clock, is_dry_run=options.is_dry_run, progress=progress
    )


def _expire_snapshots(
    options: StepOptions, table: str, clock: Clock, progress: Progress
) -> MaintenanceReport:
    return wired.expire_snapshots(
        options.pipeline, table, clock, is_dry_run=options.is_dry_run, progress=progress
    )


def _remove_orphans(
    options: StepOptions, table: str, clock: Clock, progress: Progress
) -> MaintenanceReport:
    return wired.remove_orphans(
        options.pipeline, table, clock, is_dry_run=options.is_dry_run, progress=progress
    )


_ACTS: Mapping[str, Act] = {
    COMPACTION.name: _compact,
    MANIFESTS.name: _rewrite_manifests,
    EXPIRATION.name: _expire_snapshots,
    ORPHANS.name: _remove_orphans,
}
