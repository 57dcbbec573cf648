"""Where a writer's schema and the table's columns contradict each other.

A value that does not fit is a matter of its record. A contradiction is one of the schema: whatever
a record of it holds in that column, the table cannot take it, or cannot tell which column is meant.

| the writer's schema | the table |
|---|---|
| a type of which no value is kept (see `conform`) | another type |
| a column that cannot be told from another one by its name or number | a column |
| – | a required column |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from k2i_core.decode.arrow import AnyField
from k2i_core.records import KAFKA_COLUMN, BreakingSchema
from k2i_core.schema.arrow_types import arrow_type_text
from k2i_core.schema.identity import below, clashes, known_by, matched
from k2i_core.schema.registered import SchemaId

Judge: TypeAlias = Callable[[SchemaId | None, pa.Schema], str | None]
"""A writer's schema and its columns → why the table cannot follow them; None when it can."""

CanHold: TypeAlias = Callable[[pa.DataType, pa.DataType, str | None], bool]
"""Writer's type, table's type, time format → whether any value of the one fits the other."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A column that no record of a schema can fill.

    Attributes:
        path: As in messages about records: `items[].price`, `counts{}`.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def contradictions(
    table_schema: pa.Schema,
    writer_schema: pa.Schema,
    time_formats: Mapping[str, str],
    can_hold: CanHold,
    *,
    by_identity: bool = False,
) -> tuple[Contradiction, ...]:
    """Compare columns, at every level.

    Args:
        table_schema: Without `_kafka`, and with what the writer's rows may add.
        writer_schema: The columns of one schema.
        time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.
        can_hold: Of the format.
        by_identity: Columns are known under other names, too.

    """
    formats = known_by(time_formats, table_schema, table_schema)
    comparing = _Comparing(can_hold, by_identity)
    return tuple(comparing.fields(list(table_schema), list(writer_schema), "", formats))


def first_breaking(
    judge: Judge | None, seen: Iterable[tuple[SchemaId | None, pa.Schema, int]]
) -> BreakingSchema | None:
    """Return the earliest value whose schema breaks the table; None when none does.

    Args:
        judge: None breaks at nothing.
        seen: Schema, its columns and the first value of each.

    """
    if judge is None:
        return None
    found = [
        BreakingSchema(place, schema_id, reason)
        for schema_id, columns, place in seen
        if (reason := judge(schema_id, columns)) is not None
    ]
    return min(found, key=lambda one: one.index, default=None)


@dataclass(frozen=True, slots=True)
class _Comparing:
    can_hold: CanHold
    by_identity: bool

    def fields(
        self,
        table: list[AnyField],
        writer: list[AnyField],
        path: str,
        time_formats: Mapping[str, str],
    ) -> Iterator[Contradiction]:
        found = matched(table, writer, by_identity=self.by_identity)
        # k2i's own column is nobody else's, whatever the letter case.
        own = [] if path else [pa.field(KAFKA_COLUMN, pa.null())]
        reasons = clashes([*table, *own], writer, found, by_identity=self.by_identity)
        for field in writer:
            where = f"{path}{field.name}"
            if field.name in reasons:
                yield Contradiction(where, reasons[field.name])
            elif field.name in found:
                column = found[field.name]
                formats = below(time_formats, column.name)
                time_format = time_formats.get(column.name)
                yield from self._types(column.type, field.type, where, formats, time_format)
        kept = {field.name for field in found.values()}
        for field in table:
            if not field.nullable and field.name not in kept:
                reason = "the table requires it, the records lack it"
                yield Contradiction(f"{path}{field.name}", reason)

    def _types(
        self,
        table: pa.DataType,
        writer: pa.DataType,
        path: str,
        time_formats: Mapping[str, str],
        time_format: str | None = None,
    ) -> Iterator[Contradiction]:
        """Compare types; `time_formats` are of fields inside, `time_format` of the value itself."""
        if isinstance(table, pa.StructType) and isinstance(writer, pa.StructType):
            yield from self.fields(list(table), list(writer), f"{path}.", time_formats)
        elif isinstance(table, pa.ListType) and isinstance(writer, pa.ListType):
            yield from self._types(table.value_type, writer.value_type, f"{path}[]", {})
        elif isinstance(table, pa.MapType) and isinstance(writer, pa.MapType):
            yield from self._types(table.key_type, writer.key_type, f"{path}{{}}", {})
            yield from self._types(table.item_type, writer.item_type, f"{path}{{}}", {})
        elif not self.can_hold(writer, table, time_format):
            texts = arrow_type_text(table), arrow_type_text(writer)
            yield Contradiction(path, "the table has {}, the records have {}".format(*texts))
