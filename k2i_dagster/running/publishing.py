"""What a run tells Dagster about its flushes: materializations, light checks, one log line."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import dagster as dg

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.errors import (
    CorruptionError,
    DataLossError,
    IncompatibleSchemaError,
    K2iError,
    TooManyDeadLettersError,
)
from k2i_core.interrupts import interrupts_held_back
from k2i_core.ledger import Share
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import FlushReport, RangeCounts
from k2i_core.schema.iceberg_types import IcebergField
from k2i_core.wiring.current_state import CommittedState, LagMeter, committed_state
from k2i_core.wiring.hot_state import HotState, hot_state
from k2i_dagster import names
from k2i_dagster.assets import COLUMN_SCHEMA, table_schema
from k2i_dagster.running.judgements import (
    Grade,
    Verdict,
    judge_contiguity,
    judge_lag,
    unknown_lag,
)
from k2i_dagster.running.light_verdicts import (
    flushed_dead_letters,
    lag_limits,
    schema_verdict,
)
from k2i_dagster.running.reporting import Flushed, added_up


class RunContext(Protocol):
    """As much of an op's context as publishing needs."""

    @property
    def log(self) -> dg.DagsterLogManager:
        """The run's log."""
        ...

    @property
    def run(self) -> dg.DagsterRun:
        """The run."""
        ...

    def log_event(self, event: Any) -> None:  # noqa: ANN401 - Dagster's own union is not public
        """Store an event of the run."""
        ...


class Publisher:
    """Publishes the flushes of one run; used by the op's thread."""

    def __init__(self, context: RunContext, pipeline: Pipeline, share: Share, clock: Clock) -> None:
        """Bind the run; close it to leave the broker."""
        self._context = context
        self._pipeline = pipeline
        self._share = share
        self._clock = clock
        self._meter = LagMeter(pipeline, clock)
        self._interval_seconds = max(pipeline.flush.max_age, pipeline.orchestration.publish_every)
        self._published_boot_seconds: float | None = None
        self._columns: tuple[IcebergField, ...] = ()

    def is_due(self) -> bool:
        """Tell whether the next flushes may be published; the first ones always may."""
        if self._published_boot_seconds is None:
            return True
        passed = self._clock.boot_seconds() - self._published_boot_seconds
        return passed >= self._interval_seconds

    def publish(self, reports: Sequence[FlushReport]) -> None:
        """Store one materialization with its checks; nothing for no flush."""
        if not reports:
            return
        self._published_boot_seconds = self._clock.boot_seconds()
        flushed = added_up(reports)
        state, checks = self._looked_up()
        lag, lag_verdict = self._measured_lag(state, flushed)
        if names.LAG in names.light_checks(self._pipeline):
            checks[names.LAG] = lag_verdict
        checks[names.DEAD_LETTER_RATE] = flushed_dead_letters(self._pipeline, flushed)
        hot = self._looked_at_hot_rows()
        with interrupts_held_back():
            self._context.log_event(self._table_event(flushed, state, lag, hot))
            for name, verdict in sorted(checks.items()):
                self._context.log_event(evaluation(self._pipeline, name, verdict))
            if flushed.counts.dead_letter_count:
                self._context.log_event(self._dead_letter_event(flushed, state))

    def tell_failure(self, error: K2iError) -> None:
        """Fail the check that an error is about; others are told by the run's own failure."""
        match error:
            case IncompatibleSchemaError():
                check_name = names.SCHEMA
            case TooManyDeadLettersError():
                check_name = names.DEAD_LETTER_RATE
            case CorruptionError() | DataLossError():
                check_name = names.OFFSET_CONTIGUITY
            case _:
                return
        verdict = Verdict(Grade.BAD, str(error))
        with interrupts_held_back():
            self._context.log_event(evaluation(self._pipeline, check_name, verdict))

    def close(self) -> None:
        """Leave the broker."""
        self._meter.close()

    def _looked_up(self) -> tuple[CommittedState | None, dict[str, Verdict]]:
        try:
            state = committed_state(self._pipeline)
        except CorruptionError as error:
            return None, {names.OFFSET_CONTIGUITY: Verdict(Grade.BAD, str(error))}
        except K2iError as error:
            # The flush is in the table, and the next publication tells what this one cannot.
            self._context.log.warning(f"the table could not be looked at: {error}")
            return None, {}
        return state, {
            names.OFFSET_CONTIGUITY: judge_contiguity(state.commits, state.next_offsets),
            names.SCHEMA: schema_verdict(self._pipeline, state),
        }

    def _looked_at_hot_rows(self) -> HotState | None:
        try:
            return hot_state(self._pipeline, self._clock)
        except K2iError as error:
            self._context.log.warning(f"hot rows could not be looked at: {error}")
            return None

    def _measured_lag(
        self, state: CommittedState | None, flushed: Flushed
    ) -> tuple[Mapping[TopicPartition, int] | None, Verdict]:
        ends = {r.topic_partition: r.next_offset for r in flushed.ranges}
        try:
            lag = self._meter.lag(state.next_offsets if state else ends)
        except K2iError as error:
            return None, unknown_lag(str(error))
        if state is None:
            # Only for our own Kafka partitions is it known how far the table is.
            lag = {tp: count for tp, count in lag.items() if tp in ends}
        return lag, judge_lag(lag, lag_limits(self._pipeline))

    def _table_event(
        self,
        flushed: Flushed,
        state: CommittedState | None,
        lag: Mapping[TopicPartition, int] | None,
        hot: HotState | None,
    ) -> dg.AssetMaterialization:
        counts = flushed.counts
        metadata: dict[str, Any] = {
            "rows": counts.table_row_count,
            "dead_letters": counts.dead_letter_count,
            "tombstones": counts.tombstone_count,
            "bytes": flushed.byte_count,
            "files": flushed.file_count,
            "flushes": flushed.flush_count,
            "commit_ms": round(flushed.commit_ms_max, 1),
            "freshness_seconds": round(flushed.freshness_seconds_max, 3),
            # Text, because a page that reads JSON rounds numbers of this size.
            "snapshot_id": str(flushed.snapshot_id),
            "offsets": dg.MetadataValue.json(offsets_json(flushed.ranges)),
            "worker": str(self._share),
            **job_link(self._context.run),
        }
        metadata |= _hot_figures(flushed, hot)
        if lag is not None:
            metadata["lag_messages"] = sum(lag.values())
        if state is not None:
            metadata["dagster/row_count"] = state.totals.table_row_count
            metadata["metadata_location"] = state.metadata_location
            if state.columns != self._columns:
                metadata[COLUMN_SCHEMA] = table_schema(state.columns)
                self._columns = state.columns
        return dg.AssetMaterialization(
            names.table_key(self._pipeline),
            description=_line(self._pipeline, flushed, lag),
            metadata=metadata,
        )

    def _dead_letter_event(
        self, flushed: Flushed, state: CommittedState | None
    ) -> dg.AssetMaterialization:
        metadata: dict[str, Any] = {
            "rows": flushed.counts.dead_letter_count,
            "files": flushed.dead_letter_file_count,
            "worker": str(self._share),
            **job_link(self._context.run),
        }
        if flushed.dead_letter_snapshot_id is not None:
            metadata["snapshot_id"] = str(flushed.dead_letter_snapshot_id)
        if state is not None:
            metadata["dagster/row_count"] = state.totals.dead_letter_count
        return dg.AssetMaterialization(
            names.dead_letter_key(self._pipeline),
            description=f"{_dead_letters(flushed.counts)} of {self._pipeline.table.identifier}",
            metadata=metadata,
        )


class Publishers:
    """Publishes the flushes of one run, each under the table that it went into.

    Tables that records made have no asset of their own.
    """

    def __init__(self, context: RunContext, pipeline: Pipeline, share: Share, clock: Clock) -> None:
        """Bind the run; close it to leave the broker."""
        self._of_table = {
            alone.table.identifier: Publisher(context, alone, share, clock)
            for alone in pipeline.declared_tables
        }
        self._lead = self._of_table[pipeline.table.identifier]

    def is_due(self) -> bool:
        """Tell whether the next flushes may be published."""
        return self._lead.is_due()

    def publish(self, reports: Sequence[FlushReport]) -> None:
        """Store a materialization with its checks for each table that got something."""
        for table, publisher in self._of_table.items():
            publisher.publish([report for report in reports if report.table in ("", table)])

    def tell_failure(self, error: K2iError) -> None:
        """Fail the check of the lead that an error is about."""
        self._lead.tell_failure(error)

    def close(self) -> None:
        """Leave the broker."""
        for publisher in self._of_table.values():
            publisher.close()


def evaluation(pipeline: Pipeline, name: str, verdict: Verdict) -> dg.AssetCheckEvaluation:
    """Return a verdict as the evaluation of a check of the table."""
    return dg.AssetCheckEvaluation(
        asset_key=names.table_key(pipeline),
        check_name=name,
        passed=verdict.grade is Grade.GOOD,
        severity=severity(verdict),
        description=verdict.says,
        metadata=dict(verdict.figures),
    )


def result(verdict: Verdict) -> dg.AssetCheckResult:
    """Return a verdict as what a check's own run returns."""
    return dg.AssetCheckResult(
        passed=verdict.grade is Grade.GOOD,
        severity=severity(verdict),
        description=verdict.says,
        metadata=dict(verdict.figures),
    )


def severity(verdict: Verdict) -> dg.AssetCheckSeverity:
    """Return how loudly a check that did not pass is to be shown."""
    if verdict.grade is Grade.BAD:
        return dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckSeverity.WARN


def offsets_json(ranges: Sequence[OffsetRange]) -> dict[str, list[int]]:
    """Return Kafka partition → start and next offset."""
    return {str(r.topic_partition): [r.start_offset, r.next_offset] for r in ranges}


def job_link(run: dg.DagsterRun) -> dict[str, dg.MetadataValue[Any]]:
    """Return the way back to the job; none for a run that no daemon launched."""
    origin = run.remote_job_origin
    if origin is None:
        return {}
    return {"job": dg.MetadataValue.job(run.job_name, origin.location_name)}


def _hot_figures(flushed: Flushed, hot: HotState | None) -> dict[str, float]:
    """Return what is known of rows that can be read before they are committed."""
    figures: dict[str, float] = {}
    if flushed.visible_seconds_max is not None:
        figures["produced_to_visible_seconds"] = round(flushed.visible_seconds_max, 3)
    if hot is not None:
        figures["hot_rows"] = hot.row_count
        if hot.oldest_seconds is not None:
            figures["oldest_hot_row_seconds"] = round(hot.oldest_seconds, 3)
    return figures


def _dead_letters(counts: RangeCounts) -> str:
    noun = "dead letter" if counts.dead_letter_count == 1 else "dead letters"
    return f"{counts.dead_letter_count:,} {noun}"


def _line(pipeline: Pipeline, flushed: Flushed, lag: Mapping[TopicPartition, int] | None) -> str:
    counts = flushed.counts
    flushes = "1 flush" if flushed.flush_count == 1 else f"{flushed.flush_count} flushes"
    parts = [
        f"{counts.table_row_count:,} rows into {pipeline.table.identifier} in {flushes}",
        *([_dead_letters(counts)] if counts.dead_letter_count else []),
        f"lag {sum(lag.values()):,} messages" if lag is not None else "lag not known",
        f"at most {flushed.freshness_seconds_max:.1f} s from read to committed",
        f"snapshot {flushed.snapshot_id}",
    ]
    return ", ".join(parts)
