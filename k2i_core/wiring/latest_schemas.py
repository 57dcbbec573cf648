"""What a registry's subjects, or schema files, say of records now."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.registry.schemas import RegistrySchemas
from k2i_core.schema.registered import SchemaId, WriterSchema


@dataclass(frozen=True, slots=True)
class LatestSchema:
    """What one subject, or a file, says.

    Attributes:
        source: Subject or file, for people.
        columns: None where there are none.
        problem: Why there are none.
        of_keys: Whether records' keys are meant; their one column then.
    """

    source: str
    schema_id: SchemaId | None = None
    columns: pa.Schema | None = None
    problem: str | None = None
    of_keys: bool = False


def latest_schema(
    registry: RegistrySchemas,
    subject: str,
    columns_of: Callable[[WriterSchema], pa.Schema],
    *,
    of_keys: bool = False,
) -> LatestSchema:
    """Return what a subject says.

    Args:
        registry: That has it, or not.
        subject: Its name.
        columns_of: Raises `UnusableSchemaError`.
        of_keys: As `LatestSchema`.

    Raises:
        UnavailableError: The registry did not answer in time.
        ConfigError: The registry refuses us.

    """
    source = f"subject {subject}"
    schema = registry.latest(subject)
    if schema is None:
        problem = "the registry has no schema of this subject"
        return LatestSchema(source, problem=problem, of_keys=of_keys)
    try:
        columns = columns_of(schema)
    except UnusableSchemaError as error:
        return LatestSchema(source, schema.schema_id, problem=str(error), of_keys=of_keys)
    return LatestSchema(source, schema.schema_id, columns, of_keys=of_keys)
