"""The light checks of a pipeline's table, as buttons in the Checks tab.

The ingest job evaluates the same checks beside every materialization; a check that ran alone would
count as outdated at the next flush.
"""

import dagster as dg

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_dagster import names

_DESCRIPTIONS = {
    names.OFFSET_CONTIGUITY: "Each commit starts where the one before it ended, up to the "
    "checkpoint in the table.",
    names.LAG: "How many messages of the topics are not in the table yet.",
    names.DEAD_LETTER_RATE: "Which part of the records could not become rows.",
    names.SCHEMA: "The table has every declared column with its type.",
}


def build_light_checks(pipeline: Pipeline, clock: Clock) -> list[dg.AssetChecksDefinition]:
    """Return the light checks of the target table."""
    return [_build_check(pipeline, name, clock) for name in names.light_checks(pipeline)]


def _build_check(pipeline: Pipeline, check_name: str, clock: Clock) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=names.table_key(pipeline),
        name=check_name,
        description=_DESCRIPTIONS[check_name],
    )
    def light_check() -> dg.AssetCheckResult:
        from k2i_dagster.running.light_verdicts import look
        from k2i_dagster.running.publishing import result

        return result(look(pipeline, check_name, clock))

    return light_check
