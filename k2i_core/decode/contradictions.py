"""Where a writer's schema and the table's columns contradict each other.

A value that does not fit is a matter of its record. A contradiction is one of the schema: whatever
a record of it holds in that column, the table cannot take it, or cannot tell which column is meant.

| the writer's schema | the table |
|---|---|
| a type of which no value is kept (see `conform`) | another type |
| a column whose name differs in letter case only | a column |
| – | a required column |
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from k2i_core.decode.arrow import AnyField
from k2i_core.records import KAFKA_COLUMN
from k2i_core.schema.arrow_types import arrow_type_text

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
) -> tuple[Contradiction, ...]:
    """Compare columns, at every level.

    Args:
        table_schema: Without `_kafka`, and with what the writer's rows may add.
        writer_schema: The columns of one schema.
        time_formats: Path of a timestamp → `epoch_s`, `epoch_ms` or `epoch_us`.
        can_hold: Of the format.

    """
    comparing = _Comparing(time_formats, can_hold)
    return tuple(comparing.fields(list(table_schema), list(writer_schema), ""))


@dataclass(frozen=True, slots=True)
class _Comparing:
    time_formats: Mapping[str, str]
    can_hold: CanHold

    def fields(
        self, table: list[AnyField], writer: list[AnyField], path: str
    ) -> Iterator[Contradiction]:
        known = {field.name: field for field in table}
        spelled = {field.name.casefold(): field.name for field in table}
        if not path:
            spelled[KAFKA_COLUMN.casefold()] = KAFKA_COLUMN
        for field in writer:
            where = f"{path}{field.name}"
            if field.name in known:
                yield from self._types(known[field.name].type, field.type, where)
            elif (other := spelled.get(field.name.casefold())) is not None:
                yield Contradiction(where, f'differs only in letter case from "{other}"')
        written = {field.name for field in writer}
        for field in table:
            if not field.nullable and field.name not in written:
                reason = "the table requires it, the records lack it"
                yield Contradiction(f"{path}{field.name}", reason)

    def _types(self, table: pa.DataType, writer: pa.DataType, path: str) -> Iterator[Contradiction]:
        if isinstance(table, pa.StructType) and isinstance(writer, pa.StructType):
            yield from self.fields(list(table), list(writer), f"{path}.")
        elif isinstance(table, pa.ListType) and isinstance(writer, pa.ListType):
            yield from self._types(table.value_type, writer.value_type, f"{path}[]")
        elif isinstance(table, pa.MapType) and isinstance(writer, pa.MapType):
            yield from self._types(table.key_type, writer.key_type, f"{path}{{}}")
            yield from self._types(table.item_type, writer.item_type, f"{path}{{}}")
        elif not self.can_hold(writer, table, self.time_formats.get(path)):
            texts = arrow_type_text(table), arrow_type_text(writer)
            yield Contradiction(path, "the table has {}, the records have {}".format(*texts))
