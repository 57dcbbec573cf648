"""Section `tables`: several tables, and which records go into which."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from k2i_core.config.monitoring import UniqueKey
from k2i_core.config.problems import quoted
from k2i_core.config.settings import Section, refused_keys
from k2i_core.config.table import Table, parse_identifier
from k2i_core.config.transforms import Transform
from k2i_core.config.units import bounded_count
from k2i_core.config.user_checks import Check

PLACEHOLDER = "{value}"

TABLES_MAX = 1_000
"""Tables that one worker may fill. More make a start slow, as each is taken over by a commit."""

PLACED = "value"
"""Stands for what records say, where only the rest of a name matters."""


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        message = f"{quoted(value)} is no regular expression: {error}"
        raise ValueError(message) from error
    return value


def _check_identifier(value: str) -> str:
    namespace, _, name = value.rpartition(".")
    if value.count(PLACEHOLDER) > 1 or PLACEHOLDER in namespace:
        message = f"{quoted(value)} has {PLACEHOLDER} elsewhere than once in the table's name"
        raise ValueError(message)
    parse_identifier(f"{namespace}.{name.replace(PLACEHOLDER, PLACED)}")
    return value


Pattern = Annotated[str, AfterValidator(_check_pattern)]


class Match(Section):
    """Which records go into a table: those whose topic, header, field or message fits."""

    topic: Pattern | None = Field(
        default=None,
        description="Regular expression for the whole name of the topic.",
        examples=["orders|returns"],
    )
    header: str | None = Field(
        default=None,
        min_length=1,
        description="Name of a header, whose last value must fit pattern.",
        examples=["event-type"],
    )
    field: str | None = Field(
        default=None,
        min_length=1,
        description="Name of a field of the value, whose text must fit pattern; dots lead into "
        "objects. Read of all formats but string and raw.",
        examples=["type"],
    )
    message: Pattern | None = Field(
        default=None,
        description="Regular expression for the full name of the record's type, as its schema in "
        "the registry has it, of avro or protobuf.",
        examples=["shop\\.orders\\.Order"],
    )
    pattern: Pattern | None = Field(
        default=None,
        description="Regular expression for the whole text of the header or field.",
        examples=["order|return"],
    )

    @model_validator(mode="after")
    def _check_one(self) -> "Match":
        named = [k for k in ("topic", "header", "field", "message") if getattr(self, k) is not None]
        refused: dict[str | int, str] = {}
        if len(named) != 1:
            given = " and ".join(named) or "none"
            refused["topic" if not named else named[1]] = (
                f"exactly one of topic, header, field and message must be written, not {given}"
            )
        elif named[0] in ("header", "field") and self.pattern is None:
            refused["pattern"] = f"is required with {named[0]}: which of its texts are let in"
        elif named[0] in ("topic", "message") and self.pattern is not None:
            refused["pattern"] = f"is for header and field; {named[0]} is a pattern itself"
        if refused:
            raise refused_keys(refused)
        return self


class RoutedTable(Table):
    """One of several tables, with the records that go into it."""

    identifier: Annotated[str, AfterValidator(_check_identifier)] = Field(
        description="Namespace and name, joined by dots. {value} in the name is replaced by what "
        "matched: one table for each, made when the first record of it comes.",
        examples=["sales.orders", "sales.{value}"],
    )
    match: Match | None = Field(
        default=None,
        description="Which records; the first table in the file that matches gets a record. One "
        "table may have none and gets the rest. Without such a table, what matches nothing becomes "
        "a dead letter.",
        examples=[{"field": "type", "pattern": "order"}],
    )
    max_tables: Annotated[int, bounded_count(1, TABLES_MAX)] = Field(
        default=100,
        description="How many tables {value} may make; what would need one more is a dead letter.",
        examples=[100],
    )
    transforms: tuple[Transform, ...] = Field(
        default=(),
        description="As the section transforms where there is one table: what is made of the "
        "columns of this table's records, which columns declares then.",
        examples=[[{"rename": {"ts": "created_at"}}, {"filter": "amount > 0"}]],
    )
    checks: tuple[Check, ...] = Field(
        default=(),
        description="As the section checks where there is one table.",
        examples=[
            [{"name": "amounts_are_positive", "sql": "SELECT * FROM orders WHERE amount < 0"}]
        ],
    )
    unique_key: UniqueKey = Field(
        default=(),
        description="As monitoring.unique_key where there is one table.",
        examples=[["order_id"]],
    )
    z_order_by: tuple[str, ...] = Field(
        default=(),
        description="Two columns or more over which compaction clusters the rows of this table, "
        "unless maintenance.compaction.order is none. Default: they are sorted by sort_by.",
        examples=[["customer_id", "created_at"]],
    )

    @property
    def is_template(self) -> bool:
        """Tell whether records say the table's name."""
        return PLACEHOLDER in self.identifier

    def named(self, identifier: str) -> Table:
        """Return what stands here as the settings of one table."""
        own = {
            name: getattr(self, name) for name in self.model_fields_set & set(Table.model_fields)
        }
        return Table.model_validate({**own, "identifier": identifier}, from_attributes=True)

    def value_of(self, identifier: str) -> str | None:
        """Return what was placed into the name to make this identifier; None when it is none."""
        before, _, after = self.identifier.partition(PLACEHOLDER)
        if not self.is_template or len(identifier) <= len(before) + len(after):
            return None
        if not (identifier.startswith(before) and identifier.endswith(after)):
            return None
        value = identifier[len(before) : len(identifier) - len(after)]
        return value if re.fullmatch(r"[\w-]+", value) else None


def rules_name(tables: Sequence[RoutedTable]) -> str:
    """Return a name for these rules; other rules have another one."""
    written = [
        [
            table.identifier,
            table.match.model_dump(mode="json") if table.match else None,
            table.max_tables if table.is_template else 1,
        ]
        for table in tables
    ]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()[:12]
