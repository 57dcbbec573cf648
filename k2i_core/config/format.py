"""Section `format`: what the bytes of a record are, and where their schemas come from."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from k2i_core.config.csv_format import Csv
from k2i_core.config.problems import quoted
from k2i_core.config.redaction import redacted_mapping
from k2i_core.config.settings import Section, refused_keys
from k2i_core.config.units import bounded_duration

SCHEMA_FORMATS = frozenset({"avro", "protobuf", "json_schema"})
"""Formats whose records need a schema to be read."""

_URL = re.compile(r"https?://(?P<user>[^/@]*@)?[^/@\s?#]+(/[^\s?#]*)?")

KEY_COLUMN = "_key"

_COLUMN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_FULL_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def _check_url(value: str) -> str:
    match = _URL.fullmatch(value)
    if match is None:
        message = "must be an address such as https://schemas.example.org:8081, without parameters"
        raise ValueError(message)
    if match["user"]:
        message = "has a user in it; write username and password beside it"
        raise ValueError(message)
    return value.rstrip("/")


def _check_message(value: str) -> str:
    if not _FULL_NAME.fullmatch(value):
        message = f"{quoted(value)} is no full name, such as shop.orders.Order"
        raise ValueError(message)
    return value


def _check_key_column(value: str) -> str:
    if not _COLUMN_NAME.fullmatch(value):
        message = f"{quoted(value)} is no name; write letters, digits and _, the first no digit"
        raise ValueError(message)
    if value.casefold() == "_kafka":
        message = f"{quoted(value)} is the column that k2i adds itself; choose another name"
        raise ValueError(message)
    return value


class SchemaRegistry(Section):
    """Where writers' schemas are, in a registry that speaks Confluent's interface."""

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        description="Address, with the path if there is one.", examples=["http://localhost:8081"]
    )
    username: str | None = Field(
        default=None, description="For basic authentication.", examples=["k2i"]
    )
    password: str | None = Field(
        default=None, description="Of username.", examples=["${REGISTRY_PASSWORD}"]
    )
    bearer_token: str | None = Field(
        default=None,
        description="Sent instead of username and password.",
        examples=["${file:/run/secrets/registry-token}"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates to trust, PEM. Default: the system's.",
        examples=["/etc/ssl/registry-ca.pem"],
    )
    certificate_file: Path | None = Field(
        default=None, description="Our own certificate, PEM.", examples=["/etc/ssl/k2i.pem"]
    )
    key_file: Path | None = Field(
        default=None, description="Its private key, PEM.", examples=["/etc/ssl/k2i.key"]
    )
    key_password: str | None = Field(
        default=None, description="Of key_file.", examples=["${REGISTRY_KEY_PASSWORD}"]
    )
    subject_strategy: Literal["topic", "record", "topic_record"] = Field(
        default="topic",
        description="What subjects are called: topic: orders-value; record: the message's full "
        "name; topic_record: both. A new table gets the columns of the subject's latest schema.",
        examples=["topic"],
    )
    request_timeout: Annotated[float, bounded_duration("100ms", "5m")] = Field(
        default=10.0, description="How long one question may take.", examples=["10s"]
    )
    retry_for: Annotated[float, bounded_duration("0s", "1h")] = Field(
        default=60.0,
        description="How long a question is asked again when the registry does not answer. Then "
        "the session starts over; no record is given up.",
        examples=["1m"],
    )
    cache_ttl: Annotated[float, bounded_duration("1s", "24h")] = Field(
        default=60.0,
        description="How long it is believed that the registry has no schema of an id. What an id "
        "means never changes and is kept.",
        examples=["1m"],
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> "SchemaRegistry":
        refused: dict[str | int, str] = {}
        if (self.username is None) != (self.password is None):
            missing = "username" if self.username is None else "password"
            refused[missing] = "is required, because the other half is there"
        if self.bearer_token is not None and self.username is not None:
            refused["bearer_token"] = "stands beside a username; write one of them"  # noqa: S105 - no token
        if (self.certificate_file is None) != (self.key_file is None):
            missing = "certificate_file" if self.certificate_file is None else "key_file"
            refused[missing] = "is required, because the other half is there"
        if refused:
            raise refused_keys(refused)
        return self

    @model_serializer(mode="wrap")
    def _redacted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown = redacted_mapping(handler(self))
        # Stars say that there is a secret, so where there is none is nothing.
        return {
            key: value if getattr(self, key) is not None else None for key, value in shown.items()
        }

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from self.model_dump(mode="json").items()


class Format(Section):
    """What the bytes of a record are."""

    value: Literal[
        "json", "avro", "protobuf", "json_schema", "csv", "msgpack", "arrow_ipc", "string", "raw"
    ] = Field(
        default="json",
        description="json: an object becomes a row. avro, protobuf: a record becomes a row, by the "
        "schema that it names in the registry, or by schema_file. json_schema: an object behind "
        "the number of its schema. csv: one record of fields becomes a row. msgpack: a map becomes "
        "a row. arrow_ipc: a stream of one row, whose schema it brings. string, raw: the whole "
        "value, as UTF-8 text or as bytes, becomes the one column value.",
        examples=["json"],
    )
    key: Literal["raw", "string", "json", "avro", "protobuf", "json_schema", "int", "long"] = Field(
        default="raw",
        description="raw: any bytes. string: a key that is not UTF-8 makes its record a dead "
        "letter. json, avro, protobuf, json_schema: as value. int, long: four or eight bytes, "
        "highest first. All but raw and string become the column key_column; the bytes are kept "
        "in _kafka.key.",
        examples=["string"],
    )
    key_column: Annotated[str, AfterValidator(_check_key_column)] | None = Field(
        default=None,
        description=f"Name of the column of keys: a struct of the key's fields, or the one value "
        f"that it is. Default: {KEY_COLUMN}; for raw and string: none.",
        examples=[KEY_COLUMN],
    )
    key_schema_file: Path | None = Field(
        default=None,
        description="The schema of all keys, instead of a registry.",
        examples=["schemas/order-key.avsc"],
    )
    key_message: Annotated[str, AfterValidator(_check_message)] | None = Field(
        default=None,
        description="Full name of the record or message that keys are, as message.",
        examples=["shop.orders.OrderKey"],
    )
    csv: Csv | None = Field(
        default=None,
        description="How CSV records are written. Default: as RFC 4180 has it.",
        examples=[{"delimiter": ";", "columns": ["order_id", "amount"]}],
    )
    envelope: Literal["debezium"] | None = Field(
        default=None,
        description="debezium: values are change events, of which the row becomes the columns, "
        "and __op, __ts_ms, __source and __before say what the change was. Default: none.",
        examples=["debezium"],
    )
    schema_registry: SchemaRegistry | None = Field(
        default=None,
        description="Where writers' schemas are: each record begins with a zero byte and the "
        "number of its schema.",
        examples=[{"url": "http://localhost:8081"}],
    )
    schema_file: Path | None = Field(
        default=None,
        description="The schema of all records, instead of a registry; records then begin with "
        "their content. A relative path counts from the working directory.",
        examples=["schemas/order.avsc"],
    )
    message: Annotated[str, AfterValidator(_check_message)] | None = Field(
        default=None,
        description="Full name of the record or message that values are; others become dead "
        "letters. Default: whatever comes.",
        examples=["shop.orders.Order"],
    )

    @property
    def key_column_name(self) -> str | None:
        """The column of keys; None where there is none."""
        if self.key in ("raw", "string"):
            return self.key_column
        return self.key_column or KEY_COLUMN

    @property
    def reads_registry(self) -> bool:
        """Whether values name a schema in the registry."""
        return self.value in SCHEMA_FORMATS and self.schema_file is None

    @property
    def reads_registry_for_keys(self) -> bool:
        """Whether keys name a schema in the registry."""
        return self.key in SCHEMA_FORMATS and self.key_schema_file is None

    @model_validator(mode="after")
    def _check_csv(self) -> "Format":
        if self.csv is not None and self.value != "csv":
            raise refused_keys({"csv": f"is not used by format {self.value}; leave it out"})
        return self

    @model_validator(mode="after")
    def _check_schema_source(self) -> "Format":
        refused = {**self._refused_of_value(), **self._refused_of_key()}
        registry = self.schema_registry
        if registry is not None and not (self.reads_registry or self.reads_registry_for_keys):
            if self.schema_file is not None or self.key_schema_file is not None:
                which = "key_schema_file" if self.schema_file is None else "schema_file"
                refused.setdefault(which, "stands beside schema_registry; write one of them")
            else:
                message = f"is not used by format {self.value}; leave it out"
                refused.setdefault("schema_registry", message)
        elif registry and registry.subject_strategy != "topic":
            message = f"is required when subject_strategy is {registry.subject_strategy}"
            if self.reads_registry and self.message is None:
                refused["message"] = message
            if self.reads_registry_for_keys and self.key_message is None:
                refused["key_message"] = message
        if refused:
            raise refused_keys(refused)
        return self

    def _refused_of_value(self) -> dict[str | int, str]:
        refused: dict[str | int, str] = {}
        if self.envelope is not None and self.value not in (*SCHEMA_FORMATS, "json"):
            refused["envelope"] = f"is not used by format {self.value}; leave it out"
        if self.value not in SCHEMA_FORMATS:
            for key in ("schema_file", "message"):
                if getattr(self, key) is not None:
                    refused[key] = f"is not used by format {self.value}; leave it out"
        elif self.value == "json_schema":
            if self.schema_registry is None:
                refused["value"] = '"json_schema" needs schema_registry; bare objects are json'
            if self.schema_file is not None:
                refused["schema_file"] = "is not used by format json_schema; leave it out"
        elif self.schema_registry is None and self.schema_file is None:
            refused["value"] = f'"{self.value}" needs schema_registry or schema_file'
        return refused

    def _refused_of_key(self) -> dict[str | int, str]:
        refused: dict[str | int, str] = {}
        if self.key not in SCHEMA_FORMATS:
            for key in ("key_schema_file", "key_message"):
                if getattr(self, key) is not None:
                    refused[key] = f"is not used by keys of format {self.key}; leave it out"
        elif self.key == "json_schema":
            if self.schema_registry is None:
                refused["key"] = '"json_schema" needs schema_registry; bare values are json'
            if self.key_schema_file is not None:
                refused["key_schema_file"] = "is not used by keys of format json_schema"
        elif self.schema_registry is None and self.key_schema_file is None:
            refused["key"] = f'"{self.key}" needs schema_registry or key_schema_file'
        return refused
