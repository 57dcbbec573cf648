"""Random schemas × random records × random evolution orders: three readers read what was produced.

Goal: whatever happens to a record type, and in whatever order records of its versions come, each
of them is read as it was written, from the column that its field has by now.
Method: versions of a record type by random steps (added, dropped, renamed, widened, optional,
moved, at every depth), as values, as keys and inside of Debezium's envelopes, records of all
versions in random order, decoded and written by two workers that each know the table as they last
saw it, committed to a real table, and read by PyIceberg, DuckDB and Polars. A few examples in the
suite; `make soak` goes on for as long as it is told.
"""

import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog

from k2i_core.clock import SystemClock
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.debezium import (
    BEFORE,
    ENVELOPE_COLUMNS,
    DebeziumDecoder,
    EnvelopeReader,
    known_by_name,
)
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.json_schema import columns_of
from k2i_core.decode.json_schema_decoder import JsonSchemaDecoder
from k2i_core.decode.key_columns import (
    PackedDecoder,
    PackedReader,
    struct_part,
    with_avro_column,
)
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.proto_schema import read_descriptors
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder, WriterReader
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.column_names import table_columns
from k2i_core.iceberg.data_files import DataFileMaker
from k2i_core.iceberg.tables import TableSettings, create_or_adopt, evolve
from k2i_core.iceberg.write_targets import write_target
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import KAFKA_COLUMN, KAFKA_TYPE
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.registered import WriterSchema
from k2i_core.wiring.record_columns import without_kafka
from tests.integration.parquet.readers import READERS
from tests.property.evolving_envelopes import Envelopes, in_envelopes
from tests.property.evolving_topics import (
    PROTO_FILE,
    Evolution,
    Row,
    Tree,
    Version,
    all_fields,
    as_shown,
    avro_version,
    json_version,
    keyed,
    proto_version,
    random_tree,
)

FULL = SchemaEvolution.FULL
LANGUAGES: dict[str, Callable[[Row], Version]] = {
    "avro": avro_version,
    "protobuf": proto_version,
    "json_schema": json_version,
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Iceberg scan planning with the polars_iceberg plugin"
)


class Schemas(dict[int, WriterSchema]):
    def find(self, schema_id: int) -> WriterSchema | None:
        return self.get(schema_id)


KEY = "_key"
SHAPES = ("value", "envelope", "key")
MakeDecoder = Callable[[pa.Schema], ValueDecoder]


def decoders(shape: str, language: str, schemas: Schemas) -> MakeDecoder:
    """As the wiring makes them of a pipeline file; a key's are for its column alone."""

    def make_reader(schema: WriterSchema) -> WriterReader:
        if language == "avro":
            reader = AvroReader(with_avro_column(schema, KEY) if shape == "key" else schema)
        else:
            compiled = read_descriptors(bytes.fromhex(schema.text), PROTO_FILE)
            reader = ProtoReader(compiled, None, is_framed=True)
            reader = PackedReader(reader, KEY) if shape == "key" else reader
        return EnvelopeReader(reader) if shape == "envelope" else reader

    def make(row_schema: pa.Schema, *, may_add_columns: bool = True) -> ValueDecoder:
        options: dict[str, Any] = {"may_add_columns": may_add_columns, "may_rename": True}
        if language != "json_schema":
            return SchemaDecoder(row_schema, schemas, make_reader, **options)
        fields = struct_part(row_schema, KEY) if shape == "key" else row_schema
        decoder = JsonSchemaDecoder(
            JsonDecoder(fields, may_add_columns=may_add_columns),
            schemas,
            lambda s: known_by_name(columns_of(s)) if shape == "envelope" else columns_of(s),
            make_renamed=JsonDecoder,
            **options,
        )
        return PackedDecoder(decoder, KEY, row_schema) if shape == "key" else decoder

    def make_unwrapping(row_schema: pa.Schema) -> ValueDecoder:
        return DebeziumDecoder(row_schema, make, may_add_columns=True, may_rename=True)

    return make_unwrapping if shape == "envelope" else make


class Worker:
    """Decodes and writes by the table as it last saw it."""

    def __init__(self, catalog: Catalog, name: str, make: MakeDecoder) -> None:
        self.catalog, self.name, self.make = catalog, name, make
        self._load()

    def _load(self) -> None:
        self.table = self.catalog.load_table(self.name)
        self.decoder = self.make(without_kafka(table_columns(self.table)))

    def take(self, values: pa.BinaryArray, stem: str) -> None:
        while (decoded := self.decoder.decode(values)).proposed_schema is not None:
            evolve(self.catalog, self.name, decoded.proposed_schema, FULL)
            self._load()
        assert not decoded.failures, decoded.failures
        decoded.rows.validate(full=True)
        target = write_target(self.table, stem)
        writer = RollingWriter(target, SystemClock(), lambda _path: None)
        origin = {"topic": "t", "partition": 0, "timestamp": None, "key": None, "headers": None}
        origins = [{**origin, "offset": n} for n in range(decoded.rows.num_rows)]
        kafka = pa.array(origins, KAFKA_TYPE)
        writer.write(decoded.rows.append_column(pa.field(KAFKA_COLUMN, KAFKA_TYPE), kafka))
        maker, written = DataFileMaker(), writer.close()
        table = self.catalog.load_table(self.name)
        with table.transaction() as change, change.update_snapshot().fast_append() as append:
            for file in written:
                append.append_data_file(maker.make(table, file))


Change = tuple[str, Tree | None, Tree]
"""What a record says: the operation, the row before, and the row that it becomes."""


def run_example(catalog: Catalog, name: str, shape: str, language: str, random: Random) -> None:
    rows = Evolution(random).run(random.randint(2, 5))
    versions = [LANGUAGES[language](row) for row in rows]
    written: list[Version] | list[Envelopes] = versions
    if shape == "envelope":
        written = [in_envelopes(version) for version in versions]
    schemas = Schemas({n: WriterSchema(n, v.language, v.text) for n, v in enumerate(written)})
    produced: list[Change] = []
    batches: list[pa.Array] = []
    for _ in range(random.randint(2, 5)):
        values: list[bytes] = []
        for _ in range(random.randint(1, 8)):
            number = random.randrange(len(versions))
            tree = random_tree(random, rows[number]) | {0: len(produced)}
            op, before = "c", None
            if shape == "envelope" and (op := random.choice("cud")) != "c":
                before = tree if op == "d" else random_tree(random, rows[number]) | {0: 0}
            shown_before = None if before is None else as_shown(before, rows[number])
            produced.append((op, shown_before, as_shown(tree, rows[number])))
            frame, version = b"\0" + number.to_bytes(4, "big"), written[number]
            if isinstance(version, Envelopes):
                values.append(frame + version.encode(op, before, None if op == "d" else tree))
            else:
                values.append(frame + version.encode(tree))
        batches.append(pa.array(values, pa.binary()))

    make = decoders(shape, language, schemas)
    first = make(pa.schema([])).decode(batches[0])
    assert first.proposed_schema is not None
    create_or_adopt(catalog, name, first.proposed_schema, TableSettings(), FULL)
    workers = [Worker(catalog, name, make) for _ in range(2)]
    for number, batch in enumerate(batches):
        random.choice(workers).take(batch, f"1-0-1-{number}")

    keys = {each_name: each.key for each in all_fields(rows) for each_name in each.names}
    table = catalog.load_table(name)
    columns = without_kafka(table_columns(table))
    before_columns = struct_part(columns, BEFORE)
    assert_no_field_twice(before_columns, keys)
    assert_no_field_twice([field for field in columns if field.name != BEFORE], keys)
    if before_columns.names:
        assert set(before_columns.names) == set(columns.names) - set(ENVELOPE_COLUMNS)
    for reader, read in READERS.items():
        shown = sorted((change_of(row, keys) for row in read(table, None)), key=lambda c: c[2][0])
        # PyIceberg shows a null list or map with structs inside as empty, whoever wrote the file.
        clean = without_empty if reader == "pyiceberg" else list
        assert clean(shown) == clean(produced), reader


def change_of(row: dict[str, Any], keys: dict[str, int]) -> Change:
    columns = row.get(KEY) or row
    own = {k: v for k, v in columns.items() if k not in (*ENVELOPE_COLUMNS, KAFKA_COLUMN)}
    before = row.get(BEFORE)
    return row.get("__op", "c"), before and keyed(before, keys), keyed(own, keys)


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_empty(inner) for key, inner in value.items() if inner not in ([], {})}
    return [without_empty(each) for each in value] if isinstance(value, list | tuple) else value


def assert_no_field_twice(columns: Any, keys: dict[str, int]) -> None:
    found: list[int] = []

    def look(fields: Any) -> None:
        for field in fields:
            if field.name in keys:
                found.append(keys[field.name])
            if isinstance(field.type, pa.StructType):
                look(field.type)
            elif isinstance(field.type, pa.ListType):
                look([field.type.value_field])
            elif isinstance(field.type, pa.MapType):
                look([field.type.item_field])

    look(columns)
    assert len(found) == len(set(found)), columns


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    directory: Path = tmp_path_factory.mktemp("evolution")
    return open_catalog(
        "k2i",
        {
            "type": "sql",
            "uri": f"sqlite:///{directory}/catalog.db",
            "warehouse": str(directory / "warehouse"),
        },
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=2)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_was_produced_is_what_three_readers_read(
    catalog: Catalog, shape: str, language: str, seed: int
) -> None:
    name = f"evolution.{shape}_{language}_{time.monotonic_ns()}"
    run_example(catalog, name, shape, language, Random(seed))


@pytest.mark.soak
def test_what_was_produced_is_read_for_as_long_as_told(
    catalog: Catalog, seed: int, soak_seconds: float
) -> None:
    deadline = time.monotonic() + soak_seconds
    number = 0
    while time.monotonic() < deadline:
        for shape, language in product(SHAPES, LANGUAGES):
            number += 1
            name = f"evolution.soak_{shape}_{language}_{number}"
            run_example(catalog, name, shape, language, Random(f"{seed} {name}"))
