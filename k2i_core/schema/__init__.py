"""Column types and how a table's columns may change; Arrow stands for Iceberg's types.

| Iceberg | Arrow | | Iceberg | Arrow |
|---|---|---|---|---|
| boolean | bool | | timestamp | timestamp(us) |
| int | int32 | | timestamptz | timestamp(us, UTC) |
| long | int64 | | string | string |
| float | float32 | | binary | binary |
| double | float64 | | uuid | extension uuid |
| decimal(p,s) | decimal128(p, s) | | fixed[n] | fixed_size_binary(n) |
| date | date32 | | list, map, struct | list, map, struct |
| time | time64(us) | | required | not nullable |

`types` reads and writes type texts, `inferred` turns any Arrow type into one that Iceberg stores,
`changes` compares what a table has with what rows need. Pure values; no I/O. A path is a tuple of
names from a top-level column down, with `element`, `key` and `value` for the insides of lists and
maps, as in Iceberg's own schema updates.
"""

from k2i_core.schema.changes import (
    AddColumn,
    Change,
    Incompatible,
    MakeOptional,
    SchemaDiff,
    SchemaEvolution,
    SchemaPath,
    Widen,
    apply,
    diff,
    path_text,
)
from k2i_core.schema.inferred import clean_inferred, clean_inferred_type
from k2i_core.schema.types import TYPE_NAMES, parse_name, parse_type, type_text

__all__ = [
    "TYPE_NAMES",
    "AddColumn",
    "Change",
    "Incompatible",
    "MakeOptional",
    "SchemaDiff",
    "SchemaEvolution",
    "SchemaPath",
    "Widen",
    "apply",
    "clean_inferred",
    "clean_inferred_type",
    "diff",
    "parse_name",
    "parse_type",
    "path_text",
    "type_text",
]
