"""The light checks of one pipeline: its thresholds, and what is looked at for each."""

from collections.abc import Callable, Mapping

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError, CorruptionError, UnavailableError
from k2i_core.wiring.current_state import CommittedState, LagMeter, committed_state
from k2i_dagster import names
from k2i_dagster.running.judgements import (
    Grade,
    Limits,
    Verdict,
    judge_contiguity,
    judge_dead_letters,
    judge_lag,
    judge_schema,
    unknown_lag,
)
from k2i_dagster.running.reporting import Flushed


def lag_limits(pipeline: Pipeline) -> Limits:
    """Return from which lag on the check warns and fails."""
    limits = pipeline.monitoring.lag_messages
    return Limits(limits.warn, limits.fail)


def dead_letter_limits(pipeline: Pipeline) -> Limits:
    """Return from which share of dead letters on the check warns and fails."""
    limits = pipeline.monitoring.dead_letter_share
    return Limits(limits.warn, limits.fail)


def flushed_dead_letters(pipeline: Pipeline, flushed: Flushed) -> Verdict:
    """Judge the dead letters of the flushes that are published together."""
    return judge_dead_letters(
        flushed.counts.dead_letter_count,
        flushed.counts.record_count,
        dead_letter_limits(pipeline),
        window="since the last publication",
    )


def schema_verdict(pipeline: Pipeline, state: CommittedState) -> Verdict:
    """Judge the table's columns as they are."""
    return judge_schema(
        state.schema_problems,
        column_count=len(state.columns),
        is_declared=pipeline.declared_columns() is not None,
    )


def look(pipeline: Pipeline, check_name: str, clock: Clock) -> Verdict:
    """Look at the table, and the broker where needed, and judge one check."""
    try:
        return _LOOKS[check_name](pipeline, committed_state(pipeline), clock)
    except CorruptionError as error:
        return Verdict(Grade.BAD, str(error))
    except (ConfigError, UnavailableError) as error:
        return Verdict(Grade.WARNING, f"the table could not be looked at: {error}")


def _contiguity(_pipeline: Pipeline, state: CommittedState, _clock: Clock) -> Verdict:
    return judge_contiguity(state.commits, state.next_offsets)


def _lag(pipeline: Pipeline, state: CommittedState, clock: Clock) -> Verdict:
    meter = LagMeter(pipeline, clock)
    try:
        return judge_lag(meter.lag(state.next_offsets), lag_limits(pipeline))
    except (ConfigError, UnavailableError) as error:
        return unknown_lag(str(error))
    finally:
        meter.close()


def _dead_letters(pipeline: Pipeline, state: CommittedState, _clock: Clock) -> Verdict:
    totals = state.totals
    record_count = (
        totals.row_count + totals.dead_letter_count + totals.filtered_count + totals.tombstone_count
    )
    return judge_dead_letters(
        totals.dead_letter_count,
        record_count,
        dead_letter_limits(pipeline),
        window="since the first offset",
    )


def _schema(pipeline: Pipeline, state: CommittedState, _clock: Clock) -> Verdict:
    return schema_verdict(pipeline, state)


_LOOKS: Mapping[str, Callable[[Pipeline, CommittedState, Clock], Verdict]] = {
    names.DEAD_LETTER_RATE: _dead_letters,
    names.LAG: _lag,
    names.OFFSET_CONTIGUITY: _contiguity,
    names.SCHEMA: _schema,
}
