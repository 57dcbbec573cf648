"""The smaller sections: `catalog`, `flush`, `hot`, `dead_letters`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from k2i_core.config.problems import quoted
from k2i_core.config.redaction import redacted_mapping
from k2i_core.config.settings import (
    SCALAR_SCHEMA,
    FreeMapping,
    Section,
    refused_keys,
    scalar_text,
)
from k2i_core.config.table import parse_identifier
from k2i_core.config.units import (
    MIB,
    OrOff,
    bounded_count,
    bounded_duration,
    bounded_number,
    bounded_size,
)

SECOND = 1.0

_NEVER_CATALOGS = frozenset({"dynamodb", "bigquery"})


def _check_catalog_type(value: object) -> object:
    if isinstance(value, str) and value in _NEVER_CATALOGS:
        message = f"{quoted(value)} cannot be appended to by PyIceberg; use sql, rest, glue or hive"
        raise ValueError(message)
    return value


def _describe_properties(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = {"anyOf": [dict(SCALAR_SCHEMA), {"type": "object"}]}


class Catalog(Section):
    """Which Iceberg catalog holds the tables, in PyIceberg's own property names."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_properties)

    type: Annotated[
        Literal["sql", "rest", "glue", "hive"], BeforeValidator(_check_catalog_type)
    ] = Field(description="Kind of catalog.", examples=["sql"])
    name: str = Field(
        default="k2i",
        min_length=1,
        description="Name of the catalog. A SQL catalog keeps it beside each table: the same for "
        "everybody who uses the tables. Every other key here is a property of PyIceberg, such as "
        "uri, warehouse or s3.endpoint. Relative sqlite and warehouse paths count from the "
        "working directory.",
        examples=["k2i"],
    )

    @model_validator(mode="after")
    def _check_properties(self) -> "Catalog":
        refused: dict[str | int, str] = {}
        for key, value in (self.model_extra or {}).items():
            if value is None or isinstance(value, list):
                refused[key] = f"must be text, a number, true or false, not {quoted(value)}"
        if "properties" in (self.model_extra or {}):
            refused["properties"] = "is not used here; write PyIceberg's properties under catalog"
        for key in _REQUIRED_PROPERTIES[self.type]:
            if key not in (self.model_extra or {}):
                refused[key] = f'is required when type is "{self.type}"'
        if refused:
            raise refused_keys(refused)
        return self

    @property
    def properties(self) -> FreeMapping:
        """Everything that PyIceberg's `load_catalog` is given, `type` included; scalars as text."""
        extra = cast("dict[str, object]", self.model_extra or {})
        texts = {
            key: value if isinstance(value, dict) else scalar_text(value)
            for key, value in extra.items()
        }
        return FreeMapping({"type": self.type, **texts})

    @model_serializer(mode="wrap")
    def _redacted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return redacted_mapping(handler(self))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from (("name", self.name), ("properties", self.properties))


_REQUIRED_PROPERTIES = {
    "sql": ("uri", "warehouse"),
    "rest": ("uri",),
    "glue": (),
    "hive": ("uri",),
}


class Flush(Section):
    """When buffered rows become files and a commit: at whichever limit is reached first."""

    # At most half of the age from which a file may be taken for an orphan.
    max_age: Annotated[float, bounded_duration("100ms", "12h")] = Field(
        default=30 * SECOND,
        description="Age of the oldest row that is not yet in the table. In Python: seconds.",
        examples=["30s"],
    )
    max_bytes: Annotated[int, bounded_size("64KiB", "1TiB")] = Field(
        default=128 * MIB,
        description="Bytes of records as polled from Kafka.",
        examples=["128MiB"],
    )
    max_rows: Annotated[int, bounded_count(1, 10**9)] = Field(
        default=1_000_000, description="Records.", examples=[1_000_000]
    )
    max_buffered_bytes: Annotated[int, bounded_size("64KiB", "1TiB")] = Field(
        default=256 * MIB,
        description="Bytes of all records that are polled and not yet in the table; at the limit "
        "nothing more is polled. At least max_bytes.",
        examples=["256MiB"],
    )


class Hot(Section):
    """Rows that are decoded and not in the table yet, for readers on the same host."""

    enabled: bool = Field(
        default=True, description="Whether there are any; hot: off says no.", examples=[True]
    )
    directory: Path = Field(
        default=Path("/dev/shm/k2i"),  # noqa: S108 - made for this user alone, refused otherwise
        description="Where they lie: memory of the host. Where it is missing or full, they lie "
        "below state_directory.",
        examples=["/run/k2i"],
    )
    max_bytes: Annotated[int, bounded_size("1MiB", "1TiB")] = Field(
        default=512 * MIB,
        description="Memory of rows that are not in the table; above it nothing more is polled.",
        examples=["512MiB"],
    )


_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _check_topic(value: str) -> str:
    if not _TOPIC.fullmatch(value) or value in (".", ".."):
        message = f"{quoted(value)} is not a topic; allowed: up to 249 letters, digits, ., _ and -"
        raise ValueError(message)
    return value


class DeadLetters(Section):
    """Where records go that cannot become rows."""

    table: Annotated[str, AfterValidator(parse_identifier)] | None = Field(
        default=None,
        description="Table in the same catalog. Default: the target table's name with "
        "_dead_letters behind it.",
        examples=["sales.orders_dead_letters"],
    )
    topic: Annotated[str, AfterValidator(_check_topic)] | None = Field(
        default=None,
        description="Kafka topic that gets a copy of each dead letter, with its reason in the "
        "headers, once it is in the table. Must exist. Default: none.",
        examples=["orders.dead-letters"],
    )
    copy_for: Annotated[float, bounded_duration("100ms", "10m")] = Field(
        default=10 * SECOND,
        description="How long the copies of one commit may take together; then they are given up, "
        "counted and logged, and the rows go on.",
        examples=["10s"],
    )
    max_share: Annotated[float | None, OrOff(bounded_number(0, 1))] = Field(
        default=0.5,
        description="Share of the newest records, from 0 to 1, that may become dead letters; "
        "above it a worker stops rather than divert the topic. off: divert whatever comes.",
        examples=[0.5, "off"],
    )
    over_records: Annotated[int, bounded_count(1, 10**9)] = Field(
        default=1_000,
        description="How many of the newest records of a worker are judged together; fewer never "
        "stop it.",
        examples=[1_000],
    )
