"""Section `table`: which Iceberg table the rows go to, its columns and its layout."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from k2i_core.config.layout import PartitionField, SortField
from k2i_core.config.problems import quoted
from k2i_core.config.settings import FreeMapping, Scalars, Section, Written
from k2i_core.config.units import KIB, MIB, TIB
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.iceberg_types import (
    TIMESTAMP_TYPES,
    FixedType,
    IcebergField,
    IcebergType,
    PrimitiveType,
)
from k2i_core.schema.type_texts import parse_type, type_text

_IDENTIFIER = re.compile(r"[\w-]+(?:\.[\w-]+)+")

Codec: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]

CODEC_KEY = "write.parquet.compression-codec"
CODEC_LEVEL_KEY = "write.parquet.compression-level"
FILE_BYTES_KEY = "write.target-file-size-bytes"

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "zstd": "zstd",
        "snappy": "snappy",
        "gzip": "gzip",
        "lz4": "lz4",
        "brotli": "brotli",
        "none": "none",
        "uncompressed": "none",
    }
)
"""What Iceberg's property may say → what the writer is told."""

CODEC_LEVELS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"zstd": (1, 22), "gzip": (1, 9), "brotli": (0, 11)}
)
"""Codec → lowest and highest level; the others have none."""

CODEC_LEVEL_DEFAULTS: Mapping[str, int] = MappingProxyType({"zstd": 1})
"""A higher level costs more time than its smaller files are worth on the way in; compaction can
choose another."""

FILE_BYTES_DEFAULT = 512 * MIB

FILE_BYTES_LIMITS = (64 * KIB, TIB)

TimeFormat: TypeAlias = Literal["iso", "epoch_s", "epoch_ms", "epoch_us"]

_TIME_TYPES = TIMESTAMP_TYPES | {PrimitiveType.DATE, PrimitiveType.TIME}


def parse_identifier(value: str) -> str:
    """Check a table's namespace and name.

    Raises:
        ValueError: It is not at least one namespace and a name.

    """
    if not _IDENTIFIER.fullmatch(value):
        message = (
            f"{quoted(value)} is not a table; write namespace.name in letters, digits, _ and -"
        )
        raise ValueError(message)
    return value


def _check_column_name(value: str) -> str:
    if value.casefold() == "_kafka":
        message = f"{quoted(value)} is the column that k2i adds itself; choose another name"
        raise ValueError(message)
    return value


def _check_property(key: str, value: str) -> None:
    if key == CODEC_KEY and value not in CODECS:
        message = f"{quoted(value)} is not a codec; write one of {', '.join(CODECS)}"
        raise ValueError(message)
    lowest, highest = FILE_BYTES_LIMITS
    if key == FILE_BYTES_KEY and not _is_between(value, lowest, highest):
        message = (
            f"{quoted(value)} is not a number of bytes from {lowest} to {highest}; "
            f"512MiB is written {FILE_BYTES_DEFAULT}"
        )
        raise ValueError(message)
    if key == "format-version" and value != "2":
        message = f"{quoted(value)} is not a format version that k2i writes; write 2"
        raise ValueError(message)
    if key == "write.format.default" and value != "parquet":
        message = f"{quoted(value)} is not a file format that k2i writes; write parquet"
        raise ValueError(message)
    if key.startswith("k2i."):
        message = "is k2i's own: properties that begin with k2i. hold its checkpoint"
        raise ValueError(message)


def codec_level_refusal(properties: Mapping[str, str]) -> str | None:
    """Say why the codec cannot have its level; None when it can, or none is set."""
    level = properties.get(CODEC_LEVEL_KEY)
    codec = CODECS[properties.get(CODEC_KEY, "zstd")]
    if level is None:
        return None
    if codec not in CODEC_LEVELS:
        return f"{quoted(level)} cannot be used: codec {codec} has no levels"
    lowest, highest = CODEC_LEVELS[codec]
    if not _is_between(level, lowest, highest):
        return f"{quoted(level)} is not a level of {codec}; write one from {lowest} to {highest}"
    return None


def _is_between(text: str, lowest: int, highest: int) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,18}", text)) and lowest <= int(text) <= highest


def _is_binary(type_: IcebergType) -> bool:
    return type_ is PrimitiveType.BINARY or isinstance(type_, FixedType)


class Column(Section):
    """One column of the table."""

    name: Annotated[str, AfterValidator(_check_column_name)] = Field(
        min_length=1,
        description="Name in the table and in the records, letter case included.",
        examples=["order_id"],
    )
    type: Annotated[IcebergType, Written(IcebergType, parse_type, type_text)] = Field(
        description="Iceberg type: boolean, int, long, float, double, decimal(p,s), date, time, "
        "timestamp, timestamptz, string, binary, uuid, fixed[n], list<T>, map<K, V>, "
        "struct<a: T, b: T not null>.",
        examples=["long", "decimal(9,2)", "list<struct<sku: string not null, quantity: int>>"],
    )
    required: bool = Field(
        default=False,
        description="A record without a value for it becomes a dead letter.",
        examples=[True],
    )
    doc: str | None = Field(
        default=None,
        description="What the column means; kept in the table.",
        examples=["net, in euro"],
    )
    format: TimeFormat = Field(
        default="iso",
        description="How records spell it: iso (ISO 8601 text) for date, time and timestamps; "
        "epoch_s, epoch_ms or epoch_us (a number since 1970 UTC) for timestamps only.",
        examples=["epoch_ms"],
    )
    encoding: Literal["base64"] = Field(
        default="base64",
        description="How records spell binary and fixed: base64 text.",
        examples=["base64"],
    )

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: TimeFormat, info: ValidationInfo) -> TimeFormat:
        type_ = info.data.get("type")
        if type_ is not None and type_ not in _TIME_TYPES:
            message = (
                f"is only for date, time, timestamp and timestamptz, not for {type_text(type_)}"
            )
            raise ValueError(message)
        if type_ is not None and value != "iso" and type_ not in TIMESTAMP_TYPES:
            message = f"{quoted(value)} is only for timestamps; write iso for {type_text(type_)}"
            raise ValueError(message)
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: Literal["base64"], info: ValidationInfo) -> Literal["base64"]:
        type_ = info.data.get("type")
        if type_ is not None and not _is_binary(type_):
            message = f"is only for binary and fixed, not for {type_text(type_)}"
            raise ValueError(message)
        return value

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not the defaults of format and encoding, which are refused where they mean nothing.
        unset = {"format", "encoding"} - self.model_fields_set
        return {key: value for key, value in handler(self).items() if key not in unset}

    @property
    def field(self) -> IcebergField:
        """The column as the table has it, without how records spell it."""
        return IcebergField(self.name, self.type, self.required, self.doc)


def _check_count(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    # Not as a length of the list, because pydantic counts only the valid ones.
    if not columns:
        message = "must not be empty; leave it out to have the columns inferred"
        raise ValueError(message)
    return columns


class Table(Section):
    """Where rows go and how they lie there."""

    identifier: Annotated[str, AfterValidator(parse_identifier)] = Field(
        description="Namespace and name, joined by dots.",
        examples=["sales.orders"],
    )
    columns: Annotated[tuple[Column, ...], AfterValidator(_check_count)] | None = Field(
        default=None,
        description="Columns in the order of the table; with transforms, those of the records. "
        "Default: inferred from the first records (json, msgpack), from their schema (avro, "
        "protobuf, json_schema, arrow_ipc), text by the names of format.csv, or the one column "
        "value (string, raw).",
        examples=[[{"name": "order_id", "type": "long", "required": True}]],
    )
    partition_by: tuple[
        Annotated[PartitionField, Written(PartitionField, PartitionField.parse)], ...
    ] = Field(
        default=(),
        description="Partition fields: a column name, bucket(n, col), truncate(w, col), "
        "year(col), month(col), day(col), hour(col), void(col).",
        examples=[["day(created_at)", "bucket(16, customer_id)"]],
    )
    sort_by: tuple[Annotated[SortField, Written(SortField, SortField.parse)], ...] = Field(
        default=(),
        description='Order of the rows within a file: "col", "col desc", "col desc nulls last". '
        "Nulls come first when ascending and last when descending, unless written otherwise.",
        examples=[["created_at", "amount desc nulls last"]],
    )
    schema_evolution: SchemaEvolution = Field(
        default=SchemaEvolution.ADD_COLUMNS,
        description="What an unknown field in a record does. strict: the record becomes a dead "
        "letter. add_columns: the column is added as optional, and int may become long, float "
        "double, a decimal longer. full: columns are also renamed (by Avro's aliases, Protobuf's "
        "numbers, JSON Schema's id), and required ones become optional where records may lack "
        "them.",
        examples=["add_columns"],
    )
    on_breaking_change: Literal["pause", "dead_letter"] = Field(
        default="pause",
        description="What a writer's schema does whose records cannot fill a column of the table, "
        "whatever they hold (avro, protobuf, json_schema). pause: nothing more is committed to the "
        "table until `k2i table resume`. dead_letter: each record shows whether it fits.",
        examples=["pause"],
    )
    properties: Annotated[FreeMapping, Scalars(_check_property)] = Field(
        default_factory=FreeMapping,
        description="Iceberg table properties by their own names; k2i's writer follows "
        f"{CODEC_KEY} ({', '.join(CODECS)}; default zstd), {CODEC_LEVEL_KEY} and {FILE_BYTES_KEY} "
        f"(default {FILE_BYTES_DEFAULT}).",
        examples=[{CODEC_KEY: "zstd", FILE_BYTES_KEY: FILE_BYTES_DEFAULT}],
    )

    @property
    def codec(self) -> Codec:
        """Compression of new files."""
        return CODECS[self.properties.reveal().get(CODEC_KEY, "zstd")]

    @property
    def codec_level(self) -> int | None:
        """Level of the compression; None for the codec's own default."""
        level = self.properties.reveal().get(CODEC_LEVEL_KEY)
        return CODEC_LEVEL_DEFAULTS.get(self.codec) if level is None else int(level)

    @property
    def target_file_bytes(self) -> int:
        """Size at which a file is finished."""
        return int(self.properties.reveal().get(FILE_BYTES_KEY, FILE_BYTES_DEFAULT))
