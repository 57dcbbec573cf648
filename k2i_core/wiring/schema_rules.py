"""How far a pipeline's columns follow writers' schemas, and which schemas they cannot follow."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from k2i_core.decode.conform import can_hold
from k2i_core.decode.contradictions import Contradiction, Judge, contradictions
from k2i_core.decode.growth import grown
from k2i_core.decode.json_schema import can_hold as json_can_hold
from k2i_core.pauses import FILE_SCHEMA
from k2i_core.schema.registered import SchemaId


@dataclass(frozen=True, slots=True)
class SchemaRules:
    """What may be done so that records of a schema fit; the same for values and keys.

    Attributes:
        may_add_columns: Columns are added, and get wider types.
        may_rename: Columns are known under other names, too, and get them.
        accepted: Schemas of which each record shows whether it fits; None: all of them.
    """

    may_add_columns: bool
    may_rename: bool
    accepted: frozenset[str] | None = None

    def contradictions(
        self,
        table_schema: pa.Schema,
        columns: pa.Schema,
        time_formats: Mapping[str, str],
        language: str,
    ) -> tuple[Contradiction, ...]:
        """Return what no record of a writer's schema could fill of the table's columns."""
        holds = json_can_hold if language == "json_schema" else can_hold
        return contradictions(
            table_schema, columns, time_formats, holds, by_identity=self.may_rename
        )

    def judge(
        self, row_schema: pa.Schema, time_formats: Mapping[str, str], language: str
    ) -> Judge | None:
        """Return what finds schemas that no allowed change makes fit."""
        accepted = self.accepted
        if accepted is None:
            return None
        known: dict[tuple[SchemaId | None, tuple[str, ...]], str | None] = {}

        def judge(schema_id: SchemaId | None, columns: pa.Schema) -> str | None:
            if str(FILE_SCHEMA if schema_id is None else schema_id) in accepted:
                return None
            key = schema_id, tuple(columns.names)
            if key not in known:
                after = row_schema
                if self.may_add_columns:
                    after = grown(row_schema, columns, may_rename=self.may_rename)
                found = self.contradictions(after, columns, time_formats, language)
                known[key] = "; ".join(map(str, found)) or None
            return known[key]

        return judge
