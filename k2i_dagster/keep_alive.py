"""Which worker runs are missing, dead or unwanted: the decision of the keep-alive sensor.

Pure: runs and a time in, decisions out. One slot is one worker's share of the Kafka partitions,
and wants exactly one live run.

| what a slot has | decision |
|---|---|
| a live run | leave it |
| a started run that is silent | mark it failed and launch, in the same tick |
| a live run of another number of workers | ask it to end; nothing new until it has |
| a live backfill of the pipeline | wait for its end |
| the last run was terminated | hold, until a person launches one |
| the last run ended because its table is paused | hold likewise, with the reason |
| the last runs failed soon after their start | wait, longer each time |
| anything else | launch |

Two owners are never wanted here, and never possible: the table fences the older one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

HEARTBEAT_STALE_SECONDS = 30.0
"""Silence after which a started run counts as dead. Larger leaves a share unread longer after a
power cut; smaller gives up a run whose host is only busy."""

FIRST_HEARTBEAT_SECONDS_MAX = 300.0
"""Silence after its start until which a run may still be importing."""

QUICK_SECONDS = 60.0
"""A run that failed within it did no work: what stopped it will probably stop the next one."""

QUICK_FAILURES_MIN = 2
"""Quick failures in a row before a launch is delayed; one may be chance."""

BACKOFF_SECONDS = 10.0
BACKOFF_SECONDS_MAX = 600.0


class Phase(Enum):
    """Where a run is in its life."""

    WAITING = auto()
    RUNNING = auto()
    ENDING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELED = auto()

    @property
    def is_live(self) -> bool:
        """Tell whether the run has, or will have, a process."""
        return self in (Phase.WAITING, Phase.RUNNING, Phase.ENDING)

    @property
    def has_process(self) -> bool:
        """Tell whether the run should have a process now."""
        return self in (Phase.RUNNING, Phase.ENDING)


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """One run of a pipeline's ingest or backfill job.

    Attributes:
        worker: Its slot; None for a backfill, which takes every share.
        workers: How many shares there were when it started; None while that is not known.
        created_seconds: Unix time, as all others.
        started_seconds: None before the start.
        ended_seconds: None while it lives.
        heartbeat_seconds: The last sign of life; None before the first.
        is_stop_asked: Whether it was asked to end already.
        paused: Why its table is paused, if that ended it.
    """

    run_id: str
    phase: Phase
    worker: int | None
    workers: int | None
    created_seconds: float
    started_seconds: float | None = None
    ended_seconds: float | None = None
    heartbeat_seconds: float | None = None
    is_stop_asked: bool = False
    paused: str | None = None

    @property
    def is_backfill(self) -> bool:
        """Tell whether it takes every share and ends by itself."""
        return self.worker is None

    @property
    def short_id(self) -> str:
        """The id as Dagster's pages show it."""
        return self.run_id[:8]

    def silent_seconds(self, now_seconds: float) -> float:
        """Return for how long nothing was heard of a run that should have a process."""
        heard = self.heartbeat_seconds or self.started_seconds or self.created_seconds
        return now_seconds - heard

    def is_silent(self, now_seconds: float) -> bool:
        """Tell whether its process is gone, as far as anyone can know."""
        stale = self.silent_seconds(now_seconds) > HEARTBEAT_STALE_SECONDS
        return self.phase.has_process and stale


def is_lost(run: WorkerRun, now_seconds: float) -> bool:
    """Tell whether a run of which nobody waits for an answer may be given up.

    Before its first heartbeat it may still be importing, on a busy machine for minutes.
    """
    if run.phase is not Phase.RUNNING:
        return False
    has_begun = run.heartbeat_seconds is not None
    limit = HEARTBEAT_STALE_SECONDS if has_begun else FIRST_HEARTBEAT_SECONDS_MAX
    return run.silent_seconds(now_seconds) > limit


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a run of this slot; the key is used once, so a repeated tick starts nothing twice."""

    slot: int
    run_key: str


@dataclass(frozen=True, slots=True)
class MarkFailed:
    """Record a run's end, because its process cannot do it any more."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AskStop:
    """Ask a live run to flush and end."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The slot has what it wants."""

    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The slot gets a run later; `seconds` is None when that depends on another run."""

    slot: int
    seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The slot gets no run until a person launches one."""

    slot: int
    reason: str


Decision: TypeAlias = Launch | MarkFailed | AskStop | Leave | Wait | Hold


def decide(
    pipeline_name: str, workers: int, runs: Iterable[WorkerRun], now_seconds: float
) -> list[Decision]:
    """Decide for every slot of a pipeline.

    Args:
        pipeline_name: For run keys.
        workers: How many shares there are to be.
        runs: Every live run of the pipeline, and the latest ended ones of its ingest job.
        now_seconds: Unix time.

    Returns:
        What to do about runs first, then one decision for each slot, in order.

    """
    decisions: list[Decision] = []
    judged: list[WorkerRun] = []
    for run in runs:
        # An ending run was terminated by a person: to mark it failed would start it again.
        if run.phase is Phase.RUNNING and run.is_silent(now_seconds):
            silent_seconds = run.silent_seconds(now_seconds)
            reason = f"nothing was heard of its process for {silent_seconds:.0f} s"
            decisions.append(MarkFailed(run.run_id, reason))
            last_sign = run.heartbeat_seconds or run.started_seconds or run.created_seconds
            judged.append(replace(run, phase=Phase.FAILED, ended_seconds=last_sign))
        else:
            judged.append(run)
    foreign = [run for run in judged if _has_other_share(run, workers)]
    for run in foreign:
        if not run.is_stop_asked:
            share = f"{run.worker}/{run.workers}"
            reason = f"it is worker {share}, and workers is {workers} now"
            decisions.append(AskStop(run.run_id, reason))
    blockers = [*foreign, *(run for run in judged if run.phase.is_live and run.is_backfill)]
    decisions += [
        _decide_slot(pipeline_name, slot, judged, blockers, now_seconds) for slot in range(workers)
    ]
    return decisions


def _has_other_share(run: WorkerRun, workers: int) -> bool:
    # A run that waits still reads the file when it starts, so its share is not known yet.
    if not run.phase.has_process or run.worker is None:
        return False
    return run.worker >= workers or (run.workers is not None and run.workers != workers)


def _decide_slot(
    pipeline_name: str,
    slot: int,
    runs: Sequence[WorkerRun],
    blockers: Sequence[WorkerRun],
    now_seconds: float,
) -> Decision:
    mine = [run for run in runs if run.worker == slot]
    live = [run for run in mine if run.phase.is_live and run not in blockers]
    if live:
        return Leave(slot, f"run {live[0].short_id} is {_state(live[0])}")
    if blockers:
        return Wait(slot, None, f"waits for the end of {_described(blockers[0])}")
    ended = sorted(
        (run for run in mine if not run.phase.is_live),
        key=lambda run: (run.ended_seconds or run.created_seconds, run.created_seconds),
    )
    if not ended:
        return Launch(slot, f"{pipeline_name}-{slot}/first")
    last = ended[-1]
    if (reason := _why_on_hold(last)) is not None:
        return Hold(slot, reason)
    remaining = _backoff_seconds(ended, now_seconds)
    if remaining > 0:
        failure_count = _quick_failures(ended)
        return Wait(
            slot,
            remaining,
            f"the last {failure_count} runs failed within {QUICK_SECONDS:.0f} s of their start; "
            f"next try in {remaining:.0f} s",
        )
    return Launch(slot, f"{pipeline_name}-{slot}/after/{last.run_id}")


def _why_on_hold(last: WorkerRun) -> str | None:
    if last.phase is Phase.CANCELED:
        return f"on hold since run {last.short_id} was terminated; launch a run to go on"
    if last.phase is Phase.FAILED and last.paused is not None:
        return f"on hold since run {last.short_id}: {last.paused}; then launch a run"
    return None


def _state(run: WorkerRun) -> str:
    return {Phase.WAITING: "starting", Phase.RUNNING: "running"}.get(run.phase, "ending")


def _described(run: WorkerRun) -> str:
    if run.is_backfill:
        return f"backfill run {run.short_id}"
    return f"run {run.short_id} of worker {run.worker}/{run.workers}"


def _quick_failures(ended: Sequence[WorkerRun]) -> int:
    """Count how many of the last runs failed soon after their start, without one that did not."""
    count = 0
    for run in reversed(ended):
        started = run.started_seconds or run.created_seconds
        lasted = (run.ended_seconds or started) - started
        if run.phase is not Phase.FAILED or lasted >= QUICK_SECONDS:
            break
        count += 1
    return count


def _backoff_seconds(ended: Sequence[WorkerRun], now_seconds: float) -> float:
    failure_count = _quick_failures(ended)
    if failure_count < QUICK_FAILURES_MIN:
        return 0.0
    # Bounded before the power, because a long history of failures has a very large one.
    doublings = min(failure_count - QUICK_FAILURES_MIN, 10)
    wait_seconds = min(BACKOFF_SECONDS * 2.0**doublings, BACKOFF_SECONDS_MAX)
    last = ended[-1]
    return (last.ended_seconds or last.created_seconds) + wait_seconds - now_seconds


def says(decisions: Iterable[Decision]) -> str:
    """Return what every slot does, for the sensor's page."""
    return "; ".join(
        f"worker {decision.slot}: {decision.reason}"
        for decision in decisions
        if isinstance(decision, Leave | Wait | Hold)
    )
