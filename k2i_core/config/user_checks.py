"""Section `checks`: what a user wants to hold for the rows, as SQL that returns what breaks it.

Whether the SQL is one SELECT is for `validate` to ask, because only the query engine can tell.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from k2i_core.config.problems import quoted
from k2i_core.config.settings import Section

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""Source: what Dagster accepts as the name of a check."""

OWN_NAMES = frozenset(
    {
        "chain",
        "claimed_counts",
        "dead_letter_rate",
        "dead_letters",
        "file_schema",
        "files",
        "footers",
        "lag",
        "manifest_counts",
        "no_duplicates",
        "no_strays",
        "null_rates",
        "offset_contiguity",
        "required_columns",
        "rewrites",
        "row_counts",
        "schema",
        "second_reader",
        "small_files",
        "statistics",
        "summary_totals",
        "unique_key",
    }
)
"""Names of the checks that every pipeline has."""


def _parse_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        message = (
            f"{quoted(value)} is not the name of a check; allowed: up to 64 letters, digits and _, "
            "the first no digit"
        )
        raise ValueError(message)
    if value in OWN_NAMES:
        message = f"{quoted(value)} is a check that every table has; choose another name"
        raise ValueError(message)
    return value


def _parse_sql(value: str) -> str:
    if not value.strip():
        message = "must not be empty; write a SELECT that returns the rows that are wrong"
        raise ValueError(message)
    return value


class Check(Section):
    """One check of a user's own."""

    name: Annotated[str, AfterValidator(_parse_name)] = Field(
        description="Name of the check, once in the file.", examples=["amounts_are_positive"]
    )
    sql: Annotated[str, AfterValidator(_parse_sql)] = Field(
        description="One SELECT for DuckDB over the table, by its name with or without namespace; "
        "the check passes when it returns no row.",
        examples=["SELECT * FROM orders WHERE amount < 0"],
    )
    severity: Literal["error", "warn"] = Field(
        default="error",
        description="error: while it fails, maintenance deletes nothing. warn: it is only shown.",
        examples=["warn"],
    )
    over: Literal["new_rows", "table"] = Field(
        default="new_rows",
        description="new_rows: the table shows only the rows of files that came since the last "
        "audit that passed, with every audit. table: all rows, with full audits.",
        examples=["table"],
    )
