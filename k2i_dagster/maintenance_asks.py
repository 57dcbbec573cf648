"""Whether a step's schedule launches a run: what health found, in; a decision with a reason, out.

Pure. A tick that launches nothing costs a few reads of Dagster's database, a run costs the start of
a process: so the tick believes the last measured health, and the run looks at the table again.

| what is known | decision |
|---|---|
| a run of the step is live | skip |
| health does not judge the step | run |
| health was never measured, and nothing will | run, which measures it |
| health was never measured yet | skip: the first measurement comes first |
| health was measured too long ago | run, which measures it and may find nothing to do |
| health asks for the step | run, with the reason |
| the step never ran | run, so that its asset shows that it is there |
| anything else | skip, with what health found |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, cast

from k2i_dagster.maintenance_steps import Step

ASKS = "asks_for"
SUMMARY = "summary"
"""Metadata entries of a measured health that the schedules read."""

HEALTH_AGE_SECONDS_MAX = 3600.0
"""Age up to which a measured health is believed. Larger leaves a table that suddenly got worse
unattended for longer, should health not be measured any more; smaller launches runs to look."""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found when health was measured last.

    Attributes:
        measured_seconds: Unix time.
        asks: Step → why it is needed.
        summary: The tables' state in one line.
    """

    measured_seconds: float
    asks: Mapping[str, str]
    summary: str


def read_health(measured_seconds: float, metadata: Mapping[str, object]) -> Health:
    """Read what a measurement left in its metadata."""
    asks = cast("Mapping[str, str]", metadata.get(ASKS) or {})
    return Health(measured_seconds, asks, str(metadata.get(SUMMARY) or "no table"))


@dataclass(frozen=True, slots=True)
class Run:
    """Launch a run of the step."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Launch nothing."""

    reason: str


Decision: TypeAlias = Run | Skip


def decide(
    step: Step,
    health: Health | None,
    now_seconds: float,
    *,
    has_run: bool,
    live_run_id: str | None,
    is_health_scheduled: bool,
) -> Decision:
    """Decide for one tick of a step's schedule.

    Args:
        step: Which.
        health: As it was measured last; None when it never was.
        now_seconds: Unix time.
        has_run: Whether a run of the step ever came to its end.
        live_run_id: Of a run of the step that has not ended.
        is_health_scheduled: Whether health is measured without anybody's doing.

    """
    if live_run_id is not None:
        return Skip(f"run {live_run_id[:8]} of this step has not ended")
    if not step.is_judged:
        return Run("it is time")
    if health is None:
        reason = "health was never measured"
        return Skip(f"{reason}, its schedule comes first") if is_health_scheduled else Run(reason)
    age_seconds = now_seconds - health.measured_seconds
    if age_seconds > HEALTH_AGE_SECONDS_MAX:
        return Run(f"health was last measured {age_seconds / 60:.0f} minutes ago")
    reason = health.asks.get(step.name) or (None if has_run else "it never ran")
    measured = datetime.fromtimestamp(health.measured_seconds, UTC)
    return (
        Run(reason)
        if reason
        else Skip(f"not needed: at {measured:%H:%M} UTC health found {health.summary}")
    )
