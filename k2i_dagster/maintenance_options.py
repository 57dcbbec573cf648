"""What a person may choose for one run of a step, in the Launchpad: the file's settings, and more.

The fields are those of the step's section of the pipeline file, written as there (`512MiB`, `7d`)
and with what the file says as their defaults, so a setting is tried out before it is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
from pydantic import ValidationError

from k2i_core.config import Pipeline
from k2i_core.config.settings import Section
from k2i_core.errors import ConfigError, ErrorKind
from k2i_dagster.maintenance_steps import COMPACTION, Step

_SCHEDULE = "schedule"  # the one setting that concerns no run


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How one run does its step.

    Attributes:
        pipeline: With the run's own settings of the step.
        is_dry_run: Only say what would be done.
        is_only_if_needed: Do nothing where health does not ask for it.
        is_everything: Rewrite files that are fine, too.
        table: Only this table; None for all of the pipeline's.
    """

    pipeline: Pipeline
    is_dry_run: bool = False
    is_only_if_needed: bool = False
    is_everything: bool = False
    table: str | None = None


def config_schema(pipeline: Pipeline, step: Step) -> dict[str, dg.Field]:
    """Return the config of a step's runs."""
    fields = {
        "dry_run": dg.Field(
            bool, default_value=False, description="Only say what would be done; change nothing."
        ),
        "table": dg.Field(
            dg.Noneable(str),
            default_value=None,
            description=f"Only this table: {pipeline.table.identifier} or "
            f"{pipeline.dead_letter_table}. Without it, both.",
        ),
    }
    if step.is_judged:
        fields["only_if_needed"] = dg.Field(
            bool,
            default_value=False,
            description="Do nothing where the table's health does not ask for it. Runs of the "
            "schedule set it.",
        )
    if step is COMPACTION:
        fields["everything"] = dg.Field(
            bool, default_value=False, description="Rewrite files that are large enough, too."
        )
    section = _section(pipeline, step)
    written = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        if name != _SCHEDULE:
            fields[name] = dg.Field(
                _kind(written[name]),
                default_value=written[name],
                description=(field.description or "").removesuffix(" In Python: seconds."),
            )
    return fields


def read_options(pipeline: Pipeline, step: Step, config: Mapping[str, object]) -> StepOptions:
    """Read the config of one run.

    Raises:
        ConfigError: A setting is not possible, or the pipeline has no such table.

    """
    table = cast("str | None", config.get("table"))
    tables = (
        *(t.identifier for t in pipeline.tables or [pipeline.table]),
        pipeline.dead_letter_table,
    )
    is_known = table in (None, pipeline.dead_letter_table) or pipeline.one_table(table)
    if not is_known:
        message = f"config: table={table} is none of this pipeline's: {', '.join(tables)}"
        raise ConfigError(message, kind=ErrorKind.CONFIG_INVALID)
    section = _section(pipeline, step)
    own = {name: value for name, value in config.items() if name in type(section).model_fields}
    written = {**section.model_dump(mode="json"), **own}
    try:
        chosen = type(section).model_validate(written)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        message = f"config: {problems}"
        raise ConfigError(message, kind=ErrorKind.CONFIG_INVALID) from None
    maintenance = pipeline.maintenance.model_copy(update={step.name: chosen})
    return StepOptions(
        pipeline.model_copy(update={"maintenance": maintenance}),
        is_dry_run=config.get("dry_run") is True,
        is_only_if_needed=config.get("only_if_needed") is True,
        is_everything=config.get("everything") is True,
        table=table,
    )


def schedule_of(pipeline: Pipeline, step_name: str) -> str | None:
    """Return when a step is due, as in the pipeline file; None for never."""
    section = getattr(pipeline.maintenance, step_name)
    return None if section.schedule == "off" else section.schedule


def _section(pipeline: Pipeline, step: Step) -> Section:
    # Safe because a step is called as its section; a test goes through all of them.
    return cast("Section", getattr(pipeline.maintenance, step.name))


def _kind(written: object) -> Any:  # noqa: ANN401 - what Dagster takes for a type has none itself
    return [str] if isinstance(written, list | tuple) else type(written)
