"""What `format.key` says as a decoder of one column, and as a new table's column."""

from copy import copy
from functools import partial

import pyarrow as pa

from k2i_core.config import Pipeline
from k2i_core.config.format import SCHEMA_FORMATS
from k2i_core.decode.connect_json import PayloadDecoder
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_keys import JsonKeyDecoder
from k2i_core.decode.json_schema_decoder import JsonSchemaDecoder
from k2i_core.decode.key_columns import (
    PLAIN_KEYS,
    PackedDecoder,
    PlainKeyDecoder,
    packed_judge,
    packed_schema,
    plain_key_schema,
    struct_part,
)
from k2i_core.decode.record_decoder import KeyColumn, Part, ValueDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.decode.schema_frames import KnownSchemas
from k2i_core.registry.schemas import RegistrySchemas
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.latest_schemas import LatestSchema, latest_schema
from k2i_core.wiring.schema_rules import SchemaRules
from k2i_core.wiring.writer_readers import Accelerate, SchemaSettings, WriterReaders


class KeyFormat:
    """One pipeline's keys, where they are a column."""

    def __init__(
        self,
        pipeline: Pipeline,
        column: str,
        schemas: RegistrySchemas | None,
        accelerate: Accelerate,
    ) -> None:
        """Read the schema file of keys, if there is one.

        Args:
            pipeline: Of the keys.
            column: That they are.
            schemas: Of the registry.
            accelerate: As `WriterReaders`.

        Raises:
            ConfigError: It cannot be used.

        """
        format_ = pipeline.format
        self.column = column
        self._kind = format_.key
        self._schema_file = format_.key_schema_file
        self._has_connect_types = format_.envelope is not None
        self._schemas = schemas if format_.reads_registry_for_keys else None
        self._time_formats = _time_formats(pipeline, column)
        self._readers = None
        if format_.key in SCHEMA_FORMATS:
            # JSON Schema's own columns are put into the struct by the decoder.
            is_json = format_.key == "json_schema"
            self._readers = WriterReaders(
                SchemaSettings(
                    SchemaLanguage(format_.key),
                    format_.key_message,
                    format_.key_schema_file,
                    "format.key_schema_file",
                    None if is_json else column,
                    has_connect_types=self._has_connect_types,
                ),
                accelerate,
            )

    def of_table(self, pipeline: Pipeline) -> "KeyFormat":
        """Return the same for one of several tables, whose columns say how times are spelled."""
        own = copy(self)
        own._time_formats = _time_formats(pipeline, self.column)  # noqa: SLF001 - a copy of this class
        return own

    def make(
        self, row_schema: pa.Schema, rules: SchemaRules, *, may_add_columns: bool
    ) -> KeyColumn:
        """Return what makes the column, for the current columns of all records."""
        own = pa.schema([field for field in row_schema if field.name == self.column])
        decoder = self._decoder(own, rules, may_add_columns=may_add_columns)
        reads_headers = self._schemas is not None
        return KeyColumn(self.column, Part(decoder, reads_headers, self._kind == "protobuf"))

    def known_schema(self, subjects: list[str]) -> pa.Schema | None:
        """Return the column of a new table before any record is read; None: read some.

        Args:
            subjects: Where the registry has the keys' schemas.

        Raises:
            UnavailableError: The registry did not answer in time.
            ConfigError: The registry refuses us.

        """
        if self._kind in PLAIN_KEYS:
            return plain_key_schema(self._kind, self.column)
        latest = self.latest_schemas(subjects)
        # Where one is not readable, other keys of the topic may be.
        return latest[0].columns if len(latest) == 1 else None

    def latest_schemas(self, subjects: list[str]) -> list[LatestSchema]:
        """Return what the schema file, or each of the subjects, says of the column now.

        Raises:
            UnavailableError, ConfigError: As `known_schema`.

        """
        readers = self._readers
        if readers is None:
            return []
        if readers.file_schema is not None:
            columns = readers.make(readers.file_schema).row_schema
            return [LatestSchema(f"file {self._schema_file}", None, columns, of_keys=True)]
        assert self._schemas is not None
        return [
            latest_schema(self._schemas, subject, partial(self._column_of, readers), of_keys=True)
            for subject in subjects
        ]

    def _column_of(self, readers: WriterReaders, schema: WriterSchema) -> pa.Schema:
        columns = readers.columns_of(schema)
        return packed_schema(columns, self.column) if self._kind == "json_schema" else columns

    def _decoder(
        self, own: pa.Schema, rules: SchemaRules, *, may_add_columns: bool
    ) -> ValueDecoder:
        if self._kind in PLAIN_KEYS:
            return PlainKeyDecoder(self._kind, self.column, own, may_add_columns=may_add_columns)
        if self._readers is None:
            plain = JsonKeyDecoder(
                self.column, own, time_formats=self._time_formats, may_add_columns=may_add_columns
            )
            return PayloadDecoder(plain) if self._has_connect_types else plain
        judge = rules.judge(own, self._time_formats, self._kind)
        if self._kind == "json_schema":
            assert self._schemas is not None
            fields = struct_part(own, self.column)
            inner = JsonSchemaDecoder(
                JsonDecoder(fields, may_add_columns=may_add_columns),
                self._schemas,
                self._readers.columns_of,
                may_add_columns=may_add_columns,
                may_rename=rules.may_rename,
                judge=judge and packed_judge(judge, self.column),
                make_renamed=JsonDecoder,
            )
            return PackedDecoder(inner, self.column, own)
        schemas: KnownSchemas | WriterSchema | None = self._readers.file_schema or self._schemas
        assert schemas is not None
        return SchemaDecoder(
            own,
            schemas,
            self._readers.make,
            may_add_columns=may_add_columns,
            may_rename=rules.may_rename,
            time_formats=self._time_formats,
            judge=judge,
        )


def _time_formats(pipeline: Pipeline, column: str) -> dict[str, str]:
    return {name: spelled for name, spelled in pipeline.time_formats().items() if name == column}
