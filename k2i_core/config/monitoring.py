"""Section `monitoring`: from where on the orchestrator's checks of a pipeline warn, and fail.

A limit is what may just be: a check speaks up when the measured value is more. `off`, in Python
None, means that it never does.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from k2i_core.config.problems import quoted
from k2i_core.config.settings import Section
from k2i_core.config.units import OrOff, bounded_count, bounded_duration, bounded_number

_AgeLimit = Annotated[float | None, OrOff(bounded_duration("60s", "365d"))]

_CountLimit = Annotated[int | None, OrOff(bounded_count(0, 10**15))]

_ShareLimit = Annotated[float | None, OrOff(bounded_number(0, 1))]


class Freshness(Section):
    """How long a table may go without a commit of new rows."""

    warn: _AgeLimit = Field(
        default=None,
        description="A longer time warns; needs fail, and is less. In Python: seconds.",
        examples=["5m"],
    )
    fail: _AgeLimit = Field(
        default=None, description="A longer time fails. In Python: seconds.", examples=["15m"]
    )


class LagMessages(Section):
    """How many records of all topics may wait to get into the table."""

    warn: _CountLimit = Field(default=1_000_000, description="More warn.", examples=[1_000_000])
    fail: _CountLimit = Field(
        default=None, description="More fail. At least warn.", examples=[10_000_000]
    )


class DeadLetterShare(Section):
    """Which share of the records, from 0 to 1, may become dead letters."""

    warn: _ShareLimit = Field(default=0.01, description="A larger share warns.", examples=[0.01])
    fail: _ShareLimit = Field(
        default=None, description="A larger share fails. At least warn.", examples=[0.1]
    )


def _parse_key(columns: tuple[str, ...]) -> tuple[str, ...]:
    for index, column in enumerate(columns):
        if column in columns[:index]:
            message = f"{quoted(column)} is there twice"
            raise ValueError(message)
    return columns


UniqueKey = Annotated[tuple[str, ...], AfterValidator(_parse_key)]


class Monitoring(Section):
    """From where on checks warn, and fail."""

    freshness: Freshness = Field(
        default=Freshness(),
        description="How long the table may go without a commit of new rows. Default: any time.",
        examples=[{"warn": "5m", "fail": "15m"}],
    )
    lag_messages: LagMessages = Field(
        default=LagMessages(),
        description="How many records of all topics may wait to get into the table.",
        examples=[{"warn": 1_000_000}],
    )
    dead_letter_share: DeadLetterShare = Field(
        default=DeadLetterShare(),
        description="Which share of the records, from 0 to 1, may become dead letters.",
        examples=[{"warn": 0.01}],
    )
    unique_key: UniqueKey = Field(
        default=(),
        description="Columns whose values no two rows of the table may share; proven by full "
        "audits. Default: nothing is proven.",
        examples=[["order_id"]],
    )
