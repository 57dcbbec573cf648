"""How far a table's schema may follow the records: the pipeline file's `schema_evolution`."""

from enum import StrEnum


class SchemaEvolution(StrEnum):
    """How far a table's schema may follow the records."""

    STRICT = "strict"
    ADD_COLUMNS = "add_columns"
    FULL = "full"
