"""Section `orchestration`: how the orchestrator runs a pipeline, and whom it names for it."""

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from k2i_core.config.problems import quoted
from k2i_core.config.settings import SCHEDULE_SCHEMA, Scalars, Section, Texts, parse_schedule
from k2i_core.config.units import bounded_duration, bounded_number

_OWNER = re.compile(
    r"""
    team: \S (?:.*\S)?
    | [A-Za-z0-9_] [A-Za-z0-9._%+-]* @ [A-Za-z0-9.-]+ \. [A-Za-z]{2,7}
    """,
    re.VERBOSE,
)
"""Source: what Dagster accepts as the owner of an asset."""

_TAG_KEY = re.compile(r"(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
"""Source: what Dagster accepts as the key of an asset's tag."""

_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
"""Source: what Dagster accepts as the value of an asset's tag."""

_OWNED_TAGS = ("dagster/", "k2i/")


def parse_owner(value: str) -> str:
    """Check an owner.

    Raises:
        ValueError: It is neither a person nor a team.

    """
    if not _OWNER.fullmatch(value):
        message = f"{quoted(value)} is not an owner; write an e-mail address, or team:name"
        raise ValueError(message)
    return value


def check_tag(key: str, value: str) -> None:
    """Check a tag.

    Raises:
        ValueError: Dagster refuses its key or its value, or it belongs to a program.

    """
    if not _TAG_KEY.fullmatch(key):
        message = (
            "is not the key of a tag; allowed: up to 63 letters, digits and _ - ., "
            "and as many with a / behind them before it"
        )
        raise ValueError(message)
    if key.startswith(_OWNED_TAGS):
        message = f"is a program's own: choose a key that begins with none of {_OWNED_TAGS_TEXT}"
        raise ValueError(message)
    if not _TAG_VALUE.fullmatch(value):
        message = (
            f"{quoted(value)} is not the value of a tag; allowed: up to 63 letters, digits "
            "and _ - ."
        )
        raise ValueError(message)


_OWNED_TAGS_TEXT = ", ".join(_OWNED_TAGS)


def _parse_schedule(value: object) -> object:
    schedule = parse_schedule(value)
    return None if schedule == "off" else schedule


def _schedule_text(schedule: str | None) -> str:
    return schedule or "off"


_OptionalSchedule: TypeAlias = Annotated[
    str | None,
    BeforeValidator(_parse_schedule),
    PlainSerializer(_schedule_text, when_used="json"),
    WithJsonSchema(dict(SCHEDULE_SCHEMA)),
]


class Orchestration(Section):
    """How the orchestrator runs a pipeline."""

    max_run_minutes: Annotated[float, bounded_number("0.1", 10_080)] = Field(
        default=60.0,
        description="Length of one run, after which the next one takes over; rows flow on.",
        examples=[60],
    )
    publish_every: Annotated[float, bounded_duration("1s", "1h")] = Field(
        default=30.0,
        description="How often a run tells the orchestrator what it committed. In Python: seconds.",
        examples=["30s"],
    )
    audit_schedule: _OptionalSchedule = Field(
        default="*/10 * * * *",
        description="When what was committed since the last audit is proven: five fields as in "
        'cron, in UTC, or "off".',
        examples=["*/10 * * * *"],
    )
    full_audit_schedule: _OptionalSchedule = Field(
        default="40 4 * * *",
        description="When the whole table is proven, and what costs as much as the table is "
        'checked: five fields as in cron, in UTC, or "off".',
        examples=["40 4 * * *"],
    )
    owners: tuple[Annotated[str, AfterValidator(parse_owner)], ...] = Field(
        default=(),
        description="Who answers for the tables: e-mail addresses, or team:name.",
        examples=[["team:data", "ada@example.com"]],
    )
    tags: Annotated[Texts, Scalars(check_tag, Texts)] = Field(
        default_factory=Texts,
        description="Tags of the tables in the orchestrator: key to value.",
        examples=[{"tier": "gold"}],
    )
