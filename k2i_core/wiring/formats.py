"""The pipeline file's `format` section as decoders, and as the columns of a new table."""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import cast

import pyarrow as pa
import structlog

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.config.format import SCHEMA_FORMATS, SchemaRegistry
from k2i_core.decode.arrow_decoder import ArrowDecoder
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.connect_json import ConnectJsonDecoder
from k2i_core.decode.contradictions import Contradiction
from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.debezium import BEFORE, ENVELOPE_PARTS, DebeziumDecoder, unwrapped_schema
from k2i_core.decode.json_decoder import JsonDecoder, infer_row_schema
from k2i_core.decode.json_schema_decoder import JsonSchemaDecoder
from k2i_core.decode.msgpack_decoder import MsgpackDecoder
from k2i_core.decode.native_binary import accelerated_reader
from k2i_core.decode.native_json import NativeJsonDecoder, accelerated
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.record_decoder import (
    Part,
    RecordDecoder,
    ValueDecoder,
    united_schema,
)
from k2i_core.decode.reserved import ReservingDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.decode.schema_frames import KnownSchemas
from k2i_core.decode.text import RawDecoder, StringDecoder
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.errors import ConfigError
from k2i_core.ingest.ports import Decoder
from k2i_core.native import find_native
from k2i_core.registry.client import RegistryClient, RegistrySettings
from k2i_core.registry.schemas import RegistrySchemas
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.identity import known_by
from k2i_core.schema.registered import NoSuchSchema, SchemaId, SchemaLanguage, WriterSchema
from k2i_core.schema.tags import Tagged
from k2i_core.wiring.csv_dialect import csv_dialect
from k2i_core.wiring.key_format import KeyFormat
from k2i_core.wiring.latest_schemas import LatestSchema, latest_schema
from k2i_core.wiring.schema_rules import SchemaRules
from k2i_core.wiring.writer_readers import SchemaSettings, WriterReaders

_log = structlog.get_logger(__name__)

_NO_COLUMNS = pa.schema([])

_TEXTS = frozenset({"string", "raw"})


class Formats:
    """One pipeline's format: decoders for it, and what it knows of columns."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        """Read the schema files, if there are any; nothing is asked of a registry yet.

        Raises:
            ConfigError: The file cannot be used, or a native part is required and missing.

        """
        self._pipeline = pipeline
        self._native = find_native(pipeline.native)
        self._is_failure_reported = False
        self._accepted: frozenset[str] | None = None
        format_ = pipeline.format
        registry = format_.schema_registry
        self._registry = None if registry is None else _open_registry(registry, clock)
        self._schemas = self._registry if format_.reads_registry else None
        self._readers = None
        if format_.value in SCHEMA_FORMATS:
            language = SchemaLanguage(format_.value)
            self._readers = WriterReaders(
                SchemaSettings(
                    language,
                    format_.message,
                    format_.schema_file,
                    "format.schema_file",
                    has_connect_types=format_.envelope is not None,
                    is_envelope=format_.envelope is not None,
                ),
                self._accelerate,
            )
        column = format_.key_column_name
        self._keys = None
        if column:
            self._keys = KeyFormat(pipeline, column, self._registry, self._accelerate)

    def of_table(self, pipeline: Pipeline) -> "Formats":
        """Return the same for one of several tables: its own columns, what is known in common."""
        own = copy(self)
        own._pipeline = pipeline  # noqa: SLF001 - a copy of this very class
        own._keys = self._keys and self._keys.of_table(pipeline)  # noqa: SLF001 - likewise
        return own

    def schema_of(self, schema_id: SchemaId) -> WriterSchema | NoSuchSchema:
        """Return a schema, asked for if need be, or that there is none.

        Raises:
            UnavailableError, ConfigError: As `fetch`.

        """
        assert self._schemas is not None
        while (schema := self._schemas.find(schema_id)) is None:
            self._schemas.fetch(frozenset({schema_id}))
        return schema

    @property
    def readers(self) -> WriterReaders | None:
        """What reads values by their writers' schemas; None for formats that have none."""
        return self._readers

    @property
    def writer_schemas(self) -> KnownSchemas | WriterSchema:
        """What the numbers in records mean, or the one schema of records without a number."""
        schemas = self._schemas or (self._readers and self._readers.file_schema)
        assert schemas is not None
        return schemas

    def tell_tags(self, tell: Callable[[Iterable[Tagged]], None]) -> None:
        """Tell what the latest schemas tag now, and each other one before records are read by it.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        if self._readers is not None:
            self._readers = self._readers.telling(tell)
            if self._readers.file_schema is not None:
                tell(self._readers.tagged(self._readers.file_schema))
            self.latest_schemas()

    def fetch(self, schema_ids: frozenset[SchemaId], /) -> None:
        """Make writers' schemas known to the decoders."""
        assert self._registry is not None
        self._registry.fetch(schema_ids)

    def make_decoder(self, row_schema: pa.Schema) -> Decoder:
        """Return a decoder of records for the current columns."""
        return self._record_decoder(row_schema, may_add_columns=self._rules.may_add_columns)

    def judge_schemas(self, accepted: frozenset[str]) -> None:
        """Let decoders stop at schemas that break the table, but for those that are accepted."""
        self._accepted = accepted

    @property
    def _rules(self) -> SchemaRules:
        table = self._pipeline.table
        return SchemaRules(
            may_add_columns=table.schema_evolution is not SchemaEvolution.STRICT,
            may_rename=self.may_rename,
            accepted=None if table.on_breaking_change == "dead_letter" else self._accepted,
        )

    @property
    def may_rename(self) -> bool:
        """Whether columns are known under other names, and get them."""
        # Transforms and privacy name the records' columns, and would not follow.
        pipeline = self._pipeline
        has_steps = bool(pipeline.transforms) or pipeline.privacy is not None
        return pipeline.table.schema_evolution is SchemaEvolution.FULL and not has_steps

    @property
    def key_column(self) -> str | None:
        """The column that keys are; None where they are none."""
        return None if self._keys is None else self._keys.column

    def describe_registry(self) -> str | None:
        """Ask the registry once, and say what it answers; None without a registry.

        Raises:
            UnavailableError, ConfigError: It does not answer, or refuses us.

        """
        return None if self._registry is None else f"{self._registry.subject_count()} subjects"

    def known_row_schema(self) -> pa.Schema | None:
        """Return the columns that a new table gets before any record is read; None: read some.

        Raises:
            UnavailableError: The registry did not answer in time.
            ConfigError: The schema cannot be a table, or the registry refuses us.

        """
        known = self._known_value_schema()
        if known is None or self._keys is None:
            return known
        key = self._keys.known_schema(self._key_subjects)
        return None if key is None else united_schema(known, self._keys.column, key, None)

    def _known_value_schema(self) -> pa.Schema | None:
        if self._pipeline.format.value == "csv":
            names = csv_dialect(self._pipeline).columns
            return pa.schema([pa.field(name, pa.string()) for name in names])
        if self._pipeline.format.value in _TEXTS:
            return self._decoder(_NO_COLUMNS, may_add_columns=False).row_schema
        latest = self.latest_schemas()
        # Several topics may have several schemas: what unites them is seen in the records, which
        # may be readable, too, where a schema is not.
        return latest[0].columns if len(latest) == 1 else None

    def latest_schemas(self) -> list[LatestSchema]:
        """Return what the schema file, or each subject of the topics, says of the values now.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        readers = self._readers
        if readers is None:
            return []
        if readers.file_schema is not None:
            try:
                columns = self._table_columns(readers, readers.file_schema)
            except UnusableSchemaError as error:
                message = f"format.schema_file={self._pipeline.format.schema_file}: {error}"
                raise ConfigError(message) from error
            return [LatestSchema(f"file {self._pipeline.format.schema_file}", None, columns)]
        assert self._schemas is not None
        return [
            latest_schema(self._schemas, subject, partial(self._table_columns, readers))
            for subject in self._subjects("value", self._pipeline.format.message)
        ]

    def latest_key_schemas(self) -> list[LatestSchema]:
        """Return what the schema file, or each subject of the topics, says of the keys now.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        return [] if self._keys is None else self._keys.latest_schemas(self._key_subjects)

    def _table_columns(self, readers: WriterReaders, schema: WriterSchema) -> pa.Schema:
        columns = readers.columns_of(schema)
        if not self._has_envelope:
            return columns
        unwrapped = unwrapped_schema(columns, _NO_COLUMNS, may_rename=self.may_rename)
        if not unwrapped.names:
            message = "the schema is of no envelope: it has no struct after or before"
            raise UnusableSchemaError(message)
        return unwrapped

    def contradictions(
        self, table_schema: pa.Schema, columns: pa.Schema, *, of_keys: bool
    ) -> tuple[Contradiction, ...]:
        """Return what no record of a writer's schema could fill of the table's columns."""
        format_, formats = self._pipeline.format, self._pipeline.time_formats()
        language = format_.key if of_keys else format_.value
        if self._has_envelope:
            formats |= {f"{BEFORE}.{column}": spelled for column, spelled in formats.items()}
        return self._rules.contradictions(table_schema, columns, formats, language)

    def _time_formats(self, table_schema: pa.Schema, row_schema: pa.Schema) -> dict[str, str]:
        """Return the formats of columns, by what they are called in records, or in envelopes."""
        formats = self._pipeline.time_formats()
        if self._has_envelope:
            own = formats.items()
            formats = {f"{part}.{c}": spelled for part in ENVELOPE_PARTS for c, spelled in own}
        return known_by(formats, table_schema, row_schema)

    def row_schema_of(self, records: pa.RecordBatch) -> pa.Schema:
        """Return the columns that n first records need; none when they tell nothing.

        Args:
            records: n rows × POLLED_SCHEMA, tombstones too.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        whole = records.filter(records.column("value").is_valid())
        value = self._known_value_schema() or self._value_columns(whole)
        if self._keys is None or not value.names:
            return value
        key = self._keys.make(_NO_COLUMNS, self._rules, may_add_columns=True)
        decoder = RecordDecoder(_NO_COLUMNS, Part(RawDecoder()), key)
        found = self._columns_found(decoder, whole)
        return united_schema(value, self._keys.column, found, None)

    def _value_columns(self, records: pa.RecordBatch) -> pa.Schema:
        if self._pipeline.format.value == "json" and not self._has_envelope:
            return infer_row_schema(cast("list[bytes]", records.column("value").to_pylist()))
        part = self._value_part(_NO_COLUMNS, may_add_columns=True)
        return self._columns_found(RecordDecoder(_NO_COLUMNS, part), records)

    def _columns_found(self, decoder: Decoder, records: pa.RecordBatch) -> pa.Schema:
        while True:
            decoded = decoder.decode(records)
            if not decoded.missing_schema_ids:
                return decoded.proposed_schema or _NO_COLUMNS
            self.fetch(decoded.missing_schema_ids)

    def _record_decoder(self, row_schema: pa.Schema, *, may_add_columns: bool) -> Decoder:
        if self._keys is None:
            part = self._value_part(row_schema, may_add_columns=may_add_columns)
            return RecordDecoder(row_schema, part)
        name = self._keys.column
        rest = pa.schema([field for field in row_schema if field.name != name])
        part = self._value_part(rest, may_add_columns=may_add_columns)
        if may_add_columns:
            strict = self._value_decoder(rest, may_add_columns=False)
            reserved = frozenset({name.casefold()})
            part = replace(part, decoder=ReservingDecoder(part.decoder, strict, reserved))
        key = self._keys.make(row_schema, self._rules, may_add_columns=may_add_columns)
        return RecordDecoder(row_schema, part, key)

    def _value_part(self, row_schema: pa.Schema, *, may_add_columns: bool) -> Part:
        return Part(
            self._value_decoder(row_schema, may_add_columns=may_add_columns),
            reads_headers=self._schemas is not None,
            has_indices=self._pipeline.format.value == "protobuf",
        )

    def _value_decoder(self, row_schema: pa.Schema, *, may_add_columns: bool) -> ValueDecoder:
        if not self._has_envelope:
            return self._decoder(row_schema, may_add_columns=may_add_columns)
        key_column = self._pipeline.format.key_column_name
        reserved = frozenset({key_column.casefold()} if key_column else ())
        return DebeziumDecoder(
            row_schema,
            self._decoder,
            may_add_columns=may_add_columns,
            may_rename=self.may_rename,
            reserved=reserved,
        )

    @property
    def _has_envelope(self) -> bool:
        return self._pipeline.format.envelope is not None

    def _decoder(  # noqa: PLR0911 - one return a format
        self, row_schema: pa.Schema, *, may_add_columns: bool
    ) -> ValueDecoder:
        format_, rules = self._pipeline.format.value, self._rules
        time_formats = self._time_formats(row_schema, row_schema)
        match format_:
            case "json":
                plain = self._json_decoder(row_schema, may_add_columns=may_add_columns)
                if not self._has_envelope:
                    return plain
                return ConnectJsonDecoder(
                    plain, may_add_columns=may_add_columns, time_formats=time_formats
                )
            case "csv":
                return CsvDecoder(
                    row_schema,
                    csv_dialect(self._pipeline),
                    time_formats=time_formats,
                    may_add_columns=may_add_columns,
                )
            case "msgpack":
                return MsgpackDecoder(
                    row_schema, time_formats=time_formats, may_add_columns=may_add_columns
                )
            case "arrow_ipc":
                return ArrowDecoder(
                    row_schema, time_formats=time_formats, may_add_columns=may_add_columns
                )
            case "string":
                return StringDecoder()
            case "raw":
                return RawDecoder()
            case "json_schema":
                assert self._schemas is not None
                assert self._readers is not None
                return JsonSchemaDecoder(
                    self._json_decoder(row_schema, may_add_columns=may_add_columns),
                    self._schemas,
                    self._readers.columns_of,
                    may_add_columns=may_add_columns,
                    may_rename=rules.may_rename,
                    judge=rules.judge(row_schema, time_formats, format_),
                    make_renamed=lambda renamed: self._json_decoder(
                        renamed, table_schema=row_schema, may_add_columns=False
                    ),
                )
            case "avro" | "protobuf":
                readers = self._readers
                assert readers is not None
                return SchemaDecoder(
                    row_schema,
                    self.writer_schemas,
                    readers.make,
                    may_add_columns=may_add_columns,
                    may_rename=rules.may_rename,
                    time_formats=time_formats,
                    judge=rules.judge(row_schema, time_formats, format_),
                )

    def _json_decoder(
        self,
        row_schema: pa.Schema,
        *,
        may_add_columns: bool,
        table_schema: pa.Schema | None = None,
    ) -> NativeJsonDecoder | JsonDecoder:
        time_formats = self._time_formats(table_schema or row_schema, row_schema)
        decoder = JsonDecoder(
            row_schema, time_formats=time_formats, may_add_columns=may_add_columns
        )
        if self._native.library is None:
            return decoder
        return accelerated(
            decoder,
            self._native.library,
            time_formats=time_formats,
            may_add_columns=may_add_columns,
            report_failure=self._report_native_failure,
        )

    def _accelerate(self, reader: AvroReader | ProtoReader) -> WriterReader:
        library = self._native.library
        if library is None:
            return reader
        return accelerated_reader(reader, library, self._report_native_failure)

    def _report_native_failure(self, reason: str) -> None:
        # Once, because the next batch is likely to fail in the same way.
        if not self._is_failure_reported:
            self._is_failure_reported = True
            _log.warning("native decoding failed, decoding in Python", reason=reason)

    @property
    def _key_subjects(self) -> list[str]:
        return self._subjects("key", self._pipeline.format.key_message)

    def _subjects(self, part: str, record: str | None) -> list[str]:
        """Return the subjects of values or keys, which are such records."""
        format_, topics = self._pipeline.format, self._pipeline.kafka.topics
        registry = format_.schema_registry
        strategy = "topic" if registry is None else registry.subject_strategy
        if strategy == "record":
            return [str(record)]
        ending = part if strategy == "topic" else record
        return [f"{topic}-{ending}" for topic in topics]


def _open_registry(section: SchemaRegistry, clock: Clock) -> RegistrySchemas:
    settings = RegistrySettings(
        url=section.url,
        user=section.username,
        password=section.password,
        bearer_token=section.bearer_token,
        ca_file=section.ca_file,
        certificate_file=section.certificate_file,
        key_file=section.key_file,
        key_password=section.key_password,
        request_seconds_max=section.request_timeout,
        seconds_max=section.retry_for,
        cache_seconds=section.cache_ttl,
    )
    return RegistrySchemas(RegistryClient(settings, clock), settings, clock)
