"""Which columns a writer's rows need that the table lacks."""

import pyarrow as pa

from k2i_core.records import KAFKA_COLUMN
from k2i_core.schema.changes import AddColumn, Change, SchemaDiff, Widen, apply, diff
from k2i_core.schema.identity import never_called

_OWN_NAMES = frozenset({KAFKA_COLUMN.casefold()})


def needed_changes(
    table_schema: pa.Schema, writer_schema: pa.Schema, *, may_rename: bool
) -> tuple[Change, ...]:
    """Return the changes of the table that make more of the writer's rows fit.

    Columns are added, or get a wider type; with `may_rename` they also get the writer's names, and
    may be null where the writer's may. What can be none of it (another type, a name that differs
    only in letter case, the name of k2i's own column) stays as it is: whether a record fits
    all the same is seen when it is conformed.
    """
    offered = pa.schema(
        [
            never_called(field, _OWN_NAMES)
            for field in writer_schema
            if field.name.casefold() not in _OWN_NAMES
        ]
    )
    changes = diff(table_schema, offered, by_identity=may_rename).changes
    if may_rename:
        return changes
    return tuple(change for change in changes if isinstance(change, AddColumn | Widen))


def grown(
    table_schema: pa.Schema, writer_schema: pa.Schema, *, may_rename: bool = False
) -> pa.Schema:
    """Return the table's columns with what the writer's rows need beyond them."""
    wanted = needed_changes(table_schema, writer_schema, may_rename=may_rename)
    return apply(table_schema, SchemaDiff(wanted)) if wanted else table_schema
