"""A writer's schema as text, as a registry or a file has it; values only."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

SchemaId: TypeAlias = int | UUID
"""What a record names its schema by: the number in one registry, or a number for all registries."""


class SchemaLanguage(StrEnum):
    """What a schema is written in."""

    AVRO = "avro"
    PROTOBUF = "protobuf"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class NamedText:
    """A schema that others refer to by name: Avro's full name, Protobuf's import path."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """The schema that a record was written with.

    Attributes:
        schema_id: What it was asked for by; None when it comes from a file.
        references: What it refers to, directly or not; each after those that it refers to itself.
    """

    schema_id: SchemaId | None
    language: SchemaLanguage
    text: str
    references: tuple[NamedText, ...] = ()


@dataclass(frozen=True, slots=True)
class NoSuchSchema:
    """The registry answered, and what it answered is no schema.

    Attributes:
        reason: For people.
    """

    schema_id: SchemaId
    reason: str = "the registry has no schema of this id"
