"""The pipeline file's `format` section as decoders, and as the columns of a new table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import structlog

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.config.csv_format import Csv
from k2i_core.config.format import SchemaRegistry
from k2i_core.decode.arrow_columns import MAPPING_VERSION as ARROW_MAPPING_VERSION
from k2i_core.decode.arrow_decoder import ArrowDecoder
from k2i_core.decode.avro_columns import MAPPING_VERSION as AVRO_MAPPING_VERSION
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.conform import can_hold
from k2i_core.decode.contradictions import Contradiction, contradictions
from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from k2i_core.decode.json_decoder import JsonDecoder, infer_row_schema
from k2i_core.decode.json_schema import MAPPING_VERSION as JSON_SCHEMA_MAPPING_VERSION
from k2i_core.decode.json_schema import can_hold as json_can_hold
from k2i_core.decode.json_schema import columns_of
from k2i_core.decode.json_schema_decoder import JsonSchemaDecoder
from k2i_core.decode.native_json import NativeJsonDecoder, accelerated
from k2i_core.decode.proto_columns import MAPPING_VERSION as PROTO_MAPPING_VERSION
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.decode.schema_frames import KnownSchemas
from k2i_core.decode.text import RawDecoder, StringDecoder
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.errors import ConfigError
from k2i_core.ingest.ports import Decoder
from k2i_core.native import find_native
from k2i_core.registry.client import RegistryClient, RegistrySettings
from k2i_core.registry.schemas import RegistrySchemas
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.wiring.proto_compiler import FILE_NAME, check_compiler, compile_proto

_log = structlog.get_logger(__name__)

SCHEMA_FILE_BYTES_MAX = 16 << 20
"""Larger: a wrong path fills the memory; smaller: a large schema does not fit."""

MAPPING_PROPERTY = "k2i.format-mapping"
"""Property of a table: how its columns were made of the writers' schemas, for ever."""

_MAPPINGS = {
    "arrow_ipc": f"arrow_ipc/{ARROW_MAPPING_VERSION}",
    "avro": f"avro/{AVRO_MAPPING_VERSION}",
    "json_schema": f"json_schema/{JSON_SCHEMA_MAPPING_VERSION}",
    "protobuf": f"protobuf/{PROTO_MAPPING_VERSION}",
}


@dataclass(frozen=True, slots=True)
class LatestSchema:
    """What a registry's subject, or the schema file, says of the rows now.

    Attributes:
        source: Subject or file, for people.
        columns: None where there are none.
        problem: Why there are none.
    """

    source: str
    schema_id: int | None = None
    columns: pa.Schema | None = None
    problem: str | None = None


class Formats:
    """One pipeline's format: decoders for it, and what it knows of columns."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        """Read the schema file, if there is one; nothing is asked of a registry yet.

        Raises:
            ConfigError: The file cannot be used, or a native part is required and missing.

        """
        self._pipeline = pipeline
        self._native = find_native(pipeline.native)
        self._is_failure_reported = False
        if pipeline.format.value == "protobuf":
            check_compiler()
        registry = pipeline.format.schema_registry
        self._schemas = None if registry is None else _open_registry(registry, clock)
        self._file_schema = _file_schema(pipeline)
        # Kept over decoders, because each column that is added makes new ones. Written by any
        # thread: whichever is last, the readers of one schema are alike.
        self._readers: dict[WriterSchema, WriterReader] = {}
        if self._file_schema is not None:
            self._make_reader_of_file(self._file_schema)

    def fetch(self, schema_ids: frozenset[int], /) -> None:
        """Make writers' schemas known to the decoders."""
        assert self._schemas is not None
        self._schemas.fetch(schema_ids)

    def make_decoder(self, row_schema: pa.Schema) -> Decoder:
        """Return a decoder for the current columns."""
        may_add_columns = self._pipeline.table.schema_evolution != "strict"
        return self._decoder(row_schema, may_add_columns=may_add_columns)

    def describe_registry(self) -> str | None:
        """Ask the registry once, and say what it answers; None without a registry.

        Raises:
            UnavailableError, ConfigError: It does not answer, or refuses us.

        """
        return None if self._schemas is None else f"{self._schemas.subject_count()} subjects"

    def known_row_schema(self) -> pa.Schema | None:
        """Return the columns that a new table gets before any record is read; None: read some.

        Raises:
            UnavailableError: The registry did not answer in time.
            ConfigError: The schema cannot be a table, or the registry refuses us.

        """
        if self._pipeline.format.value == "csv":
            names = _csv_dialect(self._pipeline).columns
            return pa.schema([pa.field(name, pa.string()) for name in names])
        latest = self.latest_schemas()
        # Several topics may have several schemas: what unites them is seen in the records, which
        # may be readable, too, where a schema is not.
        return latest[0].columns if len(latest) == 1 else None

    def latest_schemas(self) -> list[LatestSchema]:
        """Return what the schema file, or each subject of the topics, says of the rows now.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        if self._file_schema is not None:
            columns = self._make_reader_of_file(self._file_schema).row_schema
            return [LatestSchema(f"file {self._pipeline.format.schema_file}", None, columns)]
        if self._schemas is None:
            return []
        return [self._latest_schema(self._schemas, subject) for subject in self._subjects()]

    def _latest_schema(self, schemas: RegistrySchemas, subject: str) -> LatestSchema:
        source = f"subject {subject}"
        schema = schemas.latest(subject)
        if schema is None:
            return LatestSchema(source, problem="the registry has no schema of this subject")
        try:
            return LatestSchema(source, schema.schema_id, self._columns_of(schema))
        except UnusableSchemaError as error:
            return LatestSchema(source, schema.schema_id, problem=str(error))

    def contradictions(
        self, table_schema: pa.Schema, columns: pa.Schema
    ) -> tuple[Contradiction, ...]:
        """Return what no record of a writer's schema could fill of the table's columns."""
        is_json = self._pipeline.format.value == "json_schema"
        return contradictions(
            table_schema,
            columns,
            self._pipeline.time_formats(),
            json_can_hold if is_json else can_hold,
        )

    def row_schema_of(self, values: pa.BinaryArray) -> pa.Schema:
        """Return the columns that n first records need; none when they tell nothing.

        Raises:
            UnavailableError, ConfigError: As `known_row_schema`.

        """
        if self._pipeline.format.value == "json":
            return infer_row_schema(value for value in values.to_pylist() if value is not None)
        decoder = self._decoder(pa.schema([]), may_add_columns=True)
        while True:
            decoded = decoder.decode(values)
            if not decoded.missing_schema_ids:
                return decoded.proposed_schema or pa.schema([])
            assert self._schemas is not None
            self._schemas.fetch(decoded.missing_schema_ids)

    def _decoder(  # noqa: PLR0911 - one return a format
        self, row_schema: pa.Schema, *, may_add_columns: bool
    ) -> Decoder:
        time_formats = self._pipeline.time_formats()
        match self._pipeline.format.value:
            case "json":
                return self._json_decoder(row_schema, may_add_columns=may_add_columns)
            case "csv":
                return CsvDecoder(
                    row_schema,
                    _csv_dialect(self._pipeline),
                    time_formats=time_formats,
                    may_add_columns=may_add_columns,
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
                return JsonSchemaDecoder(
                    self._json_decoder(row_schema, may_add_columns=may_add_columns),
                    self._schemas,
                    self._columns_of,
                    may_add_columns=may_add_columns,
                )
            case "avro" | "protobuf":
                schemas: KnownSchemas | WriterSchema | None = self._schemas or self._file_schema
                assert schemas is not None
                return SchemaDecoder(
                    row_schema,
                    schemas,
                    self._make_reader,
                    may_add_columns=may_add_columns,
                    time_formats=time_formats,
                )

    def _json_decoder(
        self, row_schema: pa.Schema, *, may_add_columns: bool
    ) -> NativeJsonDecoder | JsonDecoder:
        time_formats = self._pipeline.time_formats()
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

    def _report_native_failure(self, reason: str) -> None:
        # Once, because the next batch is likely to fail in the same way.
        if not self._is_failure_reported:
            self._is_failure_reported = True
            _log.warning("native decoding failed, decoding in Python", reason=reason)

    def _make_reader(self, schema: WriterSchema) -> WriterReader:
        if (known := self._readers.get(schema)) is None:
            known = self._readers[schema] = self._new_reader(schema)
        return known

    def _new_reader(self, schema: WriterSchema) -> WriterReader:
        self._check_language(schema)
        format_ = self._pipeline.format
        if schema.language is SchemaLanguage.AVRO:
            return AvroReader(schema, format_.message)
        imports = format_.schema_file.parent if format_.schema_file else None
        compiled = read_descriptors(compile_proto(schema, imports), FILE_NAME)
        return ProtoReader(compiled, format_.message, is_framed=format_.schema_file is None)

    def _columns_of(self, schema: WriterSchema) -> pa.Schema:
        """Return the columns of a schema of any language."""
        if schema.language is SchemaLanguage.JSON_SCHEMA:
            self._check_language(schema)
            return columns_of(schema)
        return self._make_reader(schema).row_schema

    def _check_language(self, schema: WriterSchema) -> None:
        wanted = SchemaLanguage(self._pipeline.format.value)
        if schema.language is not wanted:
            message = f"the schema is of type={schema.language}, not {wanted}"
            raise UnusableSchemaError(message)

    def _make_reader_of_file(self, schema: WriterSchema) -> WriterReader:
        try:
            return self._make_reader(schema)
        except UnusableSchemaError as error:
            message = f"format.schema_file={self._pipeline.format.schema_file}: {error}"
            raise ConfigError(message) from error

    def _subjects(self) -> list[str]:
        format_, topics = self._pipeline.format, self._pipeline.kafka.topics
        registry = format_.schema_registry
        strategy = "topic" if registry is None else registry.subject_strategy
        if strategy == "record":
            return [str(format_.message)]
        ending = "value" if strategy == "topic" else format_.message
        return [f"{topic}-{ending}" for topic in topics]


def mapping_property(pipeline: Pipeline) -> dict[str, str]:
    """Return the property that a new table of this format gets."""
    mapping = _MAPPINGS.get(pipeline.format.value)
    return {} if mapping is None else {MAPPING_PROPERTY: mapping}


def check_mapping(pipeline: Pipeline, properties: "Callable[[str], str | None]") -> None:
    """Refuse a table whose columns were made in a way that this version does not know.

    Raises:
        ConfigError: Use the version of k2i that made the table, or a newer one.

    """
    wanted, found = _MAPPINGS.get(pipeline.format.value), properties(MAPPING_PROPERTY)
    if wanted is not None and found is not None and found != wanted:
        message = (
            f"table={pipeline.table.identifier} has {MAPPING_PROPERTY}={found}, this k2i knows "
            f"{wanted}: use the k2i that made the table, or a newer one"
        )
        raise ConfigError(message)


def _csv_dialect(pipeline: Pipeline) -> CsvDialect:
    section = pipeline.format.csv or Csv()
    declared = tuple(column.name for column in pipeline.table.columns or ())
    return CsvDialect(
        columns=section.columns or declared,
        delimiter=section.delimiter,
        quote=section.quote,
        null=section.null,
    )


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


def _file_schema(pipeline: Pipeline) -> WriterSchema | None:
    path = pipeline.format.schema_file
    if path is None:
        return None
    return WriterSchema(None, SchemaLanguage(pipeline.format.value), _file_text(path))


def _file_text(path: Path) -> str:
    try:
        if path.stat().st_size > SCHEMA_FILE_BYTES_MAX:
            message = f"format.schema_file={path} is larger than bytes={SCHEMA_FILE_BYTES_MAX}"
            raise ConfigError(message)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"format.schema_file={path} cannot be read: check the path"
        raise ConfigError(message) from error
