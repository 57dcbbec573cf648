"""What reads records of a writer's schema, for values and for keys."""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.connect_types import with_logical_types
from k2i_core.decode.debezium import EnvelopeReader, known_by_name
from k2i_core.decode.json_schema import columns_of
from k2i_core.decode.key_columns import PackedReader, with_avro_column
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import CompiledSchema, read_descriptors
from k2i_core.decode.schema_decoder import WriterReader
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.errors import ConfigError
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.schema.tags import Tagged, tagged_fields
from k2i_core.wiring.proto_compiler import FILE_NAME, check_compiler, compile_proto

Accelerate: TypeAlias = Callable[[AvroReader | ProtoReader], WriterReader]
TellTags: TypeAlias = Callable[[Iterable[Tagged]], None]

SCHEMA_FILE_BYTES_MAX = 16 << 20
"""Larger: a wrong path fills the memory; smaller: a large schema does not fit."""


@dataclass(frozen=True, slots=True)
class SchemaSettings:
    """How the schemas of values, or of keys, are to be read.

    Attributes:
        language: What they are written in.
        message: Full name of the record or message to take; None takes any.
        file: The schema of all records; None where records name theirs.
        setting: That names the file, for messages.
        has_connect_types: Whether Avro's schemas say more in the names of Kafka Connect.
        is_envelope: Whether records are Debezium's envelopes.
        column: Of keys: what they are, as this one column. None: fields are columns.
    """

    language: SchemaLanguage
    message: str | None
    file: Path | None
    setting: str
    column: str | None = None
    has_connect_types: bool = False
    is_envelope: bool = False


class WriterReaders:
    """Readers by their schema."""

    def __init__(self, settings: SchemaSettings, accelerate: Accelerate) -> None:
        """Read the schema file, if there is one.

        Args:
            settings: Of values or of keys.
            accelerate: Returns a reader that is faster, or the same.

        Raises:
            ConfigError: The file cannot be used.

        """
        self._settings = settings
        self._accelerate = accelerate
        if settings.language is SchemaLanguage.PROTOBUF:
            check_compiler()
        # Kept over decoders, because each column that is added makes new ones. Written by any
        # thread: whichever is last, the readers of one schema are alike.
        self._readers: dict[WriterSchema, WriterReader] = {}
        self._compiled: dict[WriterSchema, CompiledSchema] = {}
        self._proto_tags: dict[WriterSchema, tuple[Tagged, ...]] = {}
        self._tell: TellTags | None = None
        self._told: set[WriterSchema] = set()
        self.file_schema = _file_schema(settings)
        if self.file_schema is not None:
            try:
                self.make(self.file_schema)
            except UnusableSchemaError as error:
                message = f"{settings.setting}={settings.file}: {error}"
                raise ConfigError(message) from error

    def telling(self, tell: TellTags) -> "WriterReaders":
        """Return the same readers, which tell the tags of each schema before it is read by."""
        own = copy(self)
        own._tell, own._told = tell, set()  # noqa: SLF001 - a copy of this very class
        return own

    def make(self, schema: WriterSchema) -> WriterReader:
        """Return what reads records of a schema.

        Raises:
            UnusableSchemaError: Nothing can.

        """
        if (known := self._readers.get(schema)) is None:
            known = self._new(schema)
            if self._settings.is_envelope:
                known = EnvelopeReader(known)
            self._readers[schema] = known
        self._tell_of(schema)
        return known

    def compiled(self, schema: WriterSchema) -> CompiledSchema:
        """Return what Protobuf's compiler made of a schema, which takes it a third of a second.

        Raises:
            UnusableSchemaError: It does not compile.
            UnavailableError: The compiler did not end in time.

        """
        if (known := self._compiled.get(schema)) is None:
            imports = self._settings.file.parent if self._settings.file else None
            known = read_descriptors(compile_proto(schema, imports), FILE_NAME)
            self._compiled[schema] = known
        return known

    def tagged(self, schema: WriterSchema) -> tuple[Tagged, ...]:
        """Return the fields that have tags, of a schema for which a reader was made."""
        is_protobuf = schema.language is SchemaLanguage.PROTOBUF
        return self._proto_tags[schema] if is_protobuf else tagged_fields(schema)

    def columns_of(self, schema: WriterSchema) -> pa.Schema:
        """Return the columns of a schema of any language.

        Raises:
            UnusableSchemaError: It has none.

        """
        if schema.language is SchemaLanguage.JSON_SCHEMA:
            self._check_language(schema)
            self._tell_of(schema)
            columns = columns_of(schema)
            return known_by_name(columns) if self._settings.is_envelope else columns
        return self.make(schema).row_schema

    def _tell_of(self, schema: WriterSchema) -> None:
        if self._tell is not None and schema not in self._told:
            self._tell(self.tagged(schema))
            self._told.add(schema)

    def _new(self, schema: WriterSchema) -> WriterReader:
        self._check_language(schema)
        if schema.language is SchemaLanguage.AVRO and self._settings.has_connect_types:
            schema = with_logical_types(schema)
        settings, column = self._settings, self._settings.column
        if schema.language is SchemaLanguage.AVRO:
            if column is None:
                return self._accelerate(AvroReader(schema, settings.message))
            if settings.message is not None:
                AvroReader(schema, settings.message)
            return self._accelerate(AvroReader(with_avro_column(schema, column)))
        is_framed = settings.file is None
        proto = ProtoReader(self.compiled(schema), settings.message, is_framed=is_framed)
        self._proto_tags[schema] = proto.tagged
        reader = self._accelerate(proto)
        return reader if column is None else PackedReader(reader, column)

    def _check_language(self, schema: WriterSchema) -> None:
        wanted = self._settings.language
        if schema.language is not wanted:
            message = f"the schema is of type={schema.language}, not {wanted}"
            raise UnusableSchemaError(message)


def _file_schema(settings: SchemaSettings) -> WriterSchema | None:
    if settings.file is None:
        return None
    return WriterSchema(None, settings.language, _file_text(settings.file, settings.setting))


def _file_text(path: Path, setting: str) -> str:
    try:
        if path.stat().st_size > SCHEMA_FILE_BYTES_MAX:
            message = f"{setting}={path} is larger than bytes={SCHEMA_FILE_BYTES_MAX}"
            raise ConfigError(message)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{setting}={path} cannot be read: check the path"
        raise ConfigError(message) from error
