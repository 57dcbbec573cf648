"""Section `transforms`: what is made of the columns of the records before they are rows.

Each entry of the list is one step with one key. Whether the columns exist, and whether SQL can be
computed, is for `validate` and for the start of a worker: only the engine knows the types.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from k2i_core.config.problems import quoted
from k2i_core.config.settings import (
    SCALAR_SCHEMA,
    FixedMapping,
    Scalars,
    Section,
    Texts,
    read_each,
    refused_keys,
)
from k2i_core.config.units import bounded_count
from k2i_core.errors import ConfigError
from k2i_core.schema.iceberg_types import FixedType, IcebergType, is_nested
from k2i_core.schema.type_texts import parse_type, type_text

KAFKA_PARTS = ("topic", "partition", "offset", "timestamp", "key", "headers")
"""What a record is besides its value."""

Constant: TypeAlias = str | int | float | bool

_LONG_MAX = 2**63


class Constants(FixedMapping[Constant]):
    """Values by column."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        shown = core_schema.plain_serializer_function_ser_schema(dict)
        return core_schema.no_info_plain_validator_function(cls._read, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number = {"anyOf": [dict(SCALAR_SCHEMA), {"type": "number"}]}
        return {"type": "object", "additionalProperties": number}

    @classmethod
    def _read(cls, values: object) -> "Constants":
        if isinstance(values, Constants):
            return values
        if not isinstance(values, Mapping) or not values:
            message = f"must be a mapping of columns to values, not {quoted(values)}"
            raise ValueError(message)
        return cls(read_each(cast("Mapping[str | int, object]", values), _read_constant))


class Expressions(FixedMapping[Texts]):
    """JSON text column → new column → expression."""

    __slots__ = ()

    def _shown(self) -> dict[str, dict[str, Any]]:
        return {column: texts.redacted() for column, texts in self._values.items()}

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        shown = core_schema.plain_serializer_function_ser_schema(cls._shown)
        return core_schema.no_info_plain_validator_function(cls._read, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        columns = {"type": "object", "additionalProperties": {"type": "string"}}
        return {"type": "object", "additionalProperties": columns}

    @classmethod
    def _read(cls, values: object) -> "Expressions":
        if isinstance(values, Expressions):
            return values
        if not isinstance(values, Mapping) or not values:
            message = "must be a mapping of JSON text columns to columns and their expressions"
            raise ValueError(message)
        return cls(read_each(cast("Mapping[str | int, object]", values), _read_expressions))


def _read_expressions(_: str | int, texts: object) -> Texts:
    listed = cast("Mapping[object, object]", texts if isinstance(texts, Mapping) else {})
    if not listed or not all(_is_expression(name, text) for name, text in listed.items()):
        message = "must be a mapping of new columns to JMESPath expressions"
        raise ValueError(message)
    return Texts(cast("Mapping[str, str]", listed))


def _is_expression(name: object, text: object) -> bool:
    if not isinstance(name, str) or not isinstance(text, str):
        return False
    return _refusal_of_name(name) is None and bool(text.strip())


def _read_constant(name: str | int, value: object) -> Constant:
    _check_name(str(name))
    if not isinstance(value, str | bool | float | int):
        message = (
            f"must be text, a number, true or false, not {quoted(value)}; cast makes other types"
        )
        raise ValueError(message)  # noqa: TRY004 - pydantic collects only ValueError
    if isinstance(value, int) and not -_LONG_MAX <= value < _LONG_MAX:
        message = f"{value} is larger than a long"
        raise ValueError(message)
    return value


def _refusal_of_name(name: str) -> str | None:
    if not name:
        return "a column needs a name"
    if name.casefold() in ("_kafka", "_kafka_item"):
        return f"{quoted(name)} is a column that k2i adds itself; choose another name"
    return None


def _check_name(name: str) -> None:
    if refusal := _refusal_of_name(name):
        raise ValueError(refusal)


def _check_rename(name: str, new_name: str) -> None:
    _check_name(name)
    _check_name(new_name)


def _check_sql(name: str, sql: str) -> None:
    _check_name(name)
    if not sql.strip():
        message = "must not be empty; write one SQL expression"
        raise ValueError(message)


def _check_kafka(part: str, name: str) -> None:
    if part not in KAFKA_PARTS:
        message = f"{quoted(part)} is no part of a record; write one of {', '.join(KAFKA_PARTS)}"
        raise ValueError(message)
    _check_name(name)


def read_cast_type(text: str) -> IcebergType:
    """Read a type that values can be cast to.

    Raises:
        ConfigError: It is no type.
        ValueError: Nothing can be cast to it.

    """
    type_ = parse_type(text)
    if is_nested(type_) or isinstance(type_, FixedType):
        message = f"nothing can be cast to {type_text(type_)}; write a type without parts"
        raise ValueError(message)
    return type_


def _check_cast(name: str, text: str) -> None:
    _check_name(name)
    try:
        read_cast_type(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    refused: dict[str | int, str] = {}
    for index, name in enumerate(names):
        if name in names[:index]:
            refused[index] = f"{quoted(name)} is there twice"
        elif refusal := _refusal_of_name(name):
            refused[index] = refusal
    if refused:
        raise refused_keys(refused)
    if not names:
        message = "must not be empty"
        raise ValueError(message)
    return names


def _check_one_name(name: str) -> str:
    _check_name(name)
    return name


def _check_filter(sql: str) -> str:
    _check_sql("filter", sql)
    return sql


def _read_explode(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


_Names: TypeAlias = Annotated[tuple[str, ...], AfterValidator(_check_names)]

EXPLODED_ROWS_MAX = 100_000
"""As many rows as a record may become. More would take a proof of the table more memory than there
is: it holds a set of offsets for each of them."""


class Explode(Section):
    """One row for each element of a list; `explode: items` is `explode: {column: items}`."""

    column: Annotated[str, AfterValidator(_check_one_name)] = Field(
        description="Column of a list; it becomes a column of its elements.", examples=["items"]
    )
    empty: Literal["filter", "row"] = Field(
        default="filter",
        description="What becomes of a record whose list is empty or null: it is filtered, or one "
        "row with null in that column.",
        examples=["row"],
    )
    max_rows: Annotated[int, bounded_count(1, EXPLODED_ROWS_MAX)] = Field(
        default=1_000,
        description="A record with more rows behind this step is a dead letter (too_many_rows).",
        examples=[10_000],
    )


_Explode: TypeAlias = Annotated[
    Explode,
    BeforeValidator(_read_explode),
    WithJsonSchema({"anyOf": [{"type": "string"}, Explode.model_json_schema()]}),
]


class Transform(Section):
    """One step; exactly one of its keys is written."""

    rename: Annotated[Texts, Scalars(_check_rename, Texts)] | None = Field(
        default=None,
        description="Column → its new name.",
        examples=[{"ts": "created_at"}],
    )
    drop: _Names | None = Field(
        default=None, description="Columns to leave out.", examples=[["debug"]]
    )
    keep: _Names | None = Field(
        default=None,
        description="The only columns to keep; those of unknown fields are left out, too.",
        examples=[["order_id", "amount"]],
    )
    cast: Annotated[Texts, Scalars(_check_cast, Texts)] | None = Field(
        default=None,
        description="Column → Iceberg type without parts. As SQL's CAST: a decimal with fewer "
        "digits is rounded; a value that cannot be cast makes the record a dead letter.",
        examples=[{"amount": "decimal(12,2)"}],
    )
    constant: Constants | None = Field(
        default=None,
        description="New column → the value that it has in every row.",
        examples=[{"source": "eu"}],
    )
    sql: Annotated[Texts, Scalars(_check_sql, Texts)] | None = Field(
        default=None,
        description="Column, new or not → one SQL expression of DuckDB over the columns of the "
        "same record.",
        examples=[{"total": "price * quantity"}],
    )
    jmespath: Expressions | None = Field(
        default=None,
        description="Column of JSON text → new text column → JMESPath expression over that JSON.",
        examples=[{"payload": {"city": "customer.address.city"}}],
    )
    kafka: Annotated[Texts, Scalars(_check_kafka, Texts)] | None = Field(
        default=None,
        description=f"Part of the record ({', '.join(KAFKA_PARTS)}) → name of a new column.",
        examples=[{"topic": "source_topic", "timestamp": "produced_at"}],
    )
    filter: Annotated[str, AfterValidator(_check_filter)] | None = Field(
        default=None,
        description="SQL expression that is true for the records to keep; the others are counted "
        "as filtered.",
        examples=["amount > 0"],
    )
    flatten: _Names | None = Field(
        default=None,
        description="Struct columns whose fields become columns, called column_field; structs "
        "inside them, too.",
        examples=[["customer"]],
    )
    explode: _Explode | None = Field(
        default=None,
        description="Column of a list of which each element becomes a row, the other columns "
        "repeated; one such step a pipeline.",
        examples=["items", {"column": "items", "empty": "row"}],
    )

    @model_validator(mode="after")
    def _check_one(self) -> "Transform":
        written = [name for name in STEPS if getattr(self, name) is not None]
        if len(written) != 1:
            there = f"there are {', '.join(written)}" if written else "there is none"
            message = f"is one step, with one key of {', '.join(STEPS)}; {there}"
            raise ValueError(message)
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def step(self) -> str:
        """The key that is written."""
        return next(name for name in STEPS if getattr(self, name) is not None)


STEPS = (
    "rename",
    "drop",
    "keep",
    "cast",
    "constant",
    "sql",
    "jmespath",
    "kafka",
    "filter",
    "flatten",
    "explode",
)
