"""Section `format.csv`: how CSV records are written."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from k2i_core.config.problems import quoted
from k2i_core.config.settings import Section, refused_keys

FIELDS_MAX = 2_000
"""As many columns as a table may get from records by itself."""


def _check_character(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        message = f"{quoted(value)} is not one ASCII character other than a line break"
        raise ValueError(message)
    return value


def _check_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(value) > FIELDS_MAX:
        message = f"must be 1 to {FIELDS_MAX} names, not {len(value)}"
        raise ValueError(message)
    seen: set[str] = set()
    for name in value:
        folded = name.casefold()
        if not name or folded == "_kafka":
            message = f"{quoted(name)} is no name of a column in a record"
            raise ValueError(message)
        if folded in seen:
            message = f"{quoted(name)} is there twice, letter case aside"
            raise ValueError(message)
        seen.add(folded)
    return value


Character = Annotated[str, AfterValidator(_check_character)]


class Csv(Section):
    """How CSV records are written."""

    columns: Annotated[tuple[str, ...], AfterValidator(_check_names)] | None = Field(
        default=None,
        description="Names of the fields, in order. Names that the table lacks become text "
        "columns. Default: those of table.columns.",
        examples=[["order_id", "customer_id", "amount"]],
    )
    delimiter: Character = Field(
        default=",", description="Between two fields, one ASCII character.", examples=[";", "\t"]
    )
    quote: Character | None = Field(
        default='"',
        description="Around a field that holds delimiters, line breaks or quotes; those are "
        "doubled. null: nothing is quoted.",
        examples=['"', None],
    )
    null: str = Field(
        default="",
        description="What a field says, without quotes, when it has no value.",
        examples=["", "NULL", "\\N"],
    )

    @model_validator(mode="after")
    def _check_marks(self) -> "Csv":
        refused: dict[str | int, str] = {}
        if self.quote == self.delimiter:
            refused["quote"] = f"{quoted(self.delimiter)} is the delimiter already"
        marks = {self.delimiter, self.quote or "\n", "\r", "\n"}
        if any(character in self.null for character in marks):
            refused["null"] = "holds a delimiter, a quote or a line break, so it is never read"
        if refused:
            raise refused_keys(refused)
        return self
