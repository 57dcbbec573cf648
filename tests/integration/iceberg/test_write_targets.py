"""Rows of every type land in the partitions that Iceberg says, with bounds that readers can trust.

Goal: a wrong partition value or bound makes rows invisible to a filter, silently.
Method: write through the real Parquet writer, commit through the real gateway, read back through
PyIceberg with filters that prune, and compare partition values with the library's own transforms.
"""

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.expressions import EqualTo, GreaterThanOrEqual, IsNull
from pyiceberg.manifest import ManifestEntry
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.errors import ConfigError
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.gateway import SnapshotChange
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import SortedBy, TableSettings, Transformed, create_or_adopt
from k2i_core.iceberg.write_targets import path_of, write_target
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import WrittenFile
from k2i_core.schema.evolution import SchemaEvolution

UTC = dt.UTC
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [True, False]),
    "int": (pa.int32(), [1, -7, 2**31 - 1]),
    "long": (pa.int64(), [1, -7, 2**63 - 1]),
    "decimal": (pa.decimal128(9, 2), [Decimal("1.10"), Decimal("-20.05")]),
    "wide_decimal": (
        pa.decimal128(38, 10),
        [Decimal("1.1000000000"), Decimal("-99999999999999999.5000000000")],
    ),
    "date": (pa.date32(), [dt.date(1969, 12, 31), dt.date(2026, 2, 3)]),
    "time": (pa.time64("us"), [dt.time(1, 2, 3), dt.time(23, 59, 59, 999999)]),
    "timestamp": (
        pa.timestamp("us"),
        [dt.datetime(1969, 12, 31, 23), dt.datetime(2026, 2, 3, 4, 5, 6, 7)],  # noqa: DTZ001
    ),
    "timestamptz": (
        pa.timestamp("us", tz="UTC"),
        [dt.datetime(1969, 12, 31, 23, tzinfo=UTC), dt.datetime(2026, 2, 3, 4, 5, tzinfo=UTC)],
    ),
    "string": (pa.string(), ["plain", "a/b=c d%..", "ä" * 300, "..", ""]),
    "binary": (pa.binary(), [b"\x00\xff", b"x" * 300]),
    "fixed": (pa.binary(4), [b"abcd", b"\x00\x00\xff\xff"]),
    "uuid": (pa.uuid(), [uuid.UUID(int=5), uuid.UUID(int=2**127 + 3)]),
}
TRANSFORMS = {
    "identity": None,
    "bucket": 8,
    "truncate": 3,
    "year": None,
    "month": None,
    "day": None,
    "hour": None,
    "void": None,
}


TIMES = {"date", "timestamp", "timestamptz"}
ACCEPTED = {
    "identity": set(VALUES),
    "void": set(VALUES),
    "bucket": set(VALUES) - {"bool"},
    "truncate": {"int", "long", "decimal", "wide_decimal", "string", "binary"},
    "year": TIMES,
    "month": TIMES,
    "day": TIMES,
    "hour": TIMES - {"date"},
}
ROW_COUNT = max(len(values) for _, values in VALUES.values())


def rows_of(kinds: list[str]) -> list[dict[str, Any]]:
    """Return rows that together hold every value of every kind, and one of nulls."""
    rows = [
        {kind: VALUES[kind][1][n % len(VALUES[kind][1])] for kind in kinds}
        for n in range(ROW_COUNT)
    ]
    return [*rows, dict.fromkeys(kinds)]


class Pipe:
    """A table with columns of some kinds, a writer and a gateway."""

    def __init__(
        self, folder: Path, kinds: list[str], settings: TableSettings, *, nested: bool = False
    ) -> None:
        properties = {
            "type": "sql",
            "uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": f"{folder}/warehouse",
        }
        self.catalog = open_catalog("k2i", properties)
        self.kinds = kinds
        fields = [pa.field(kind, VALUES[kind][0]) for kind in kinds]
        schema = pa.schema([pa.field("outer", pa.struct(fields))] if nested else fields)
        create_or_adopt(self.catalog, "a.t", schema, settings, SchemaEvolution.STRICT)
        self.nested = nested
        self.gateway = PyIcebergGateway(lambda: self.catalog, "a.t")

    def load(self) -> Table:
        return self.catalog.load_table("a.t")

    def write(self, rows: list[dict[str, Any]], stem: str = "1-0-1") -> tuple[WrittenFile, ...]:
        target = write_target(self.load(), stem)
        writer = RollingWriter(target, SystemClock(), lambda _: None)
        columns = [pa.array([row[k] for row in rows], VALUES[k][0]) for k in self.kinds]
        if self.nested:
            columns = [pa.StructArray.from_arrays(columns, self.kinds)]
        kafka = [{"topic": "t", "partition": 3, "offset": 100 + n} for n in range(len(rows))]
        columns.append(pa.array(kafka, target.schema.field("_kafka").type))
        names = target.schema.names
        writer.write(pa.RecordBatch.from_arrays(columns, names=names).cast(target.schema))
        return writer.close()

    def commit(self, files: tuple[WrittenFile, ...]) -> None:
        view = self.gateway.load()
        now = max(SystemClock().now_ms(), view.last_updated_ms + 1)
        change = SnapshotChange(RandomIds().snapshot_id(), now, files, {}, {})
        self.gateway.send(self.gateway.prepare(view, change))

    def entries(self) -> list[ManifestEntry]:
        table = self.load()
        head = table.current_snapshot()
        assert head is not None
        return [e for m in head.manifests(table.io) for e in m.fetch_manifest_entry(table.io)]


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_every_transform_of_every_type_puts_rows_where_readers_look(
    tmp_path: Path, transform: str
) -> None:
    kinds = sorted(ACCEPTED[transform])
    argument = TRANSFORMS[transform]
    partition_by = tuple(Transformed(transform, kind, argument) for kind in kinds)
    pipe = Pipe(tmp_path, kinds, TableSettings(partition_by=partition_by))
    rows = rows_of(kinds)

    pipe.commit(pipe.write(rows))

    table = pipe.load()
    applied = [
        field.transform.transform(table.schema().find_field(kind).field_type)
        for kind, field in zip(kinds, table.spec().fields, strict=True)
    ]
    expected = {
        tuple(_stored(t(_internal(row[k]))) for k, t in zip(kinds, applied, strict=True))
        for row in rows
    }
    files = [entry.data_file for entry in pipe.entries()]
    assert {tuple(_stored(v) for v in _values(file.partition)) for file in files} == expected
    assert sum(file.record_count for file in files) == len(rows)
    assert table.scan().to_arrow().num_rows == len(rows)
    for kind in kinds:
        for value in VALUES[kind][1]:
            # PyIceberg itself compares an identity partition's UUID with bytes, and finds nothing.
            if (transform, kind) != ("identity", "uuid"):
                found = table.scan(EqualTo(kind, _literal(value))).to_arrow()
                assert found[kind].to_pylist() == [r[kind] for r in rows if r[kind] == value]
                assert found.num_rows > 0
        assert table.scan(IsNull(kind)).to_arrow().num_rows == 1


def _values(partition: Record) -> list[Any]:
    return [partition[position] for position in range(len(partition))]


def _internal(value: Any) -> Any:
    """Return a value as PyIceberg's transforms take it."""
    match value:
        case dt.datetime():
            base = dt.datetime(1970, 1, 1, tzinfo=value.tzinfo)
            return (value - base) // dt.timedelta(microseconds=1)
        case dt.date():
            return (value - dt.date(1970, 1, 1)).days
        case dt.time():
            base = dt.datetime(1970, 1, 1)  # noqa: DTZ001
            whole = dt.datetime.combine(base.date(), value)
            return (whole - base) // dt.timedelta(microseconds=1)
        case _:
            return value


def _stored(value: Any) -> Any:
    return value.bytes if isinstance(value, uuid.UUID) else value


def _literal(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


@pytest.mark.parametrize("nested", [False, True])
def test_bounds_of_every_type_keep_the_rows_they_should(tmp_path: Path, nested: bool) -> None:
    kinds = sorted(VALUES)
    pipe = Pipe(tmp_path, kinds, TableSettings(), nested=nested)
    *rows, nulls = rows_of(kinds)
    for number, row in enumerate(rows):
        pipe.commit(pipe.write([row, nulls], f"1-0-{number}"))

    table = pipe.load()
    entries = pipe.entries()
    for kind in kinds:
        name = f"outer.{kind}" if nested else kind
        field_id = table.schema().find_field(name).field_id
        for entry in entries:
            assert field_id in entry.data_file.lower_bounds
            assert entry.data_file.value_counts[field_id] == 2
            assert entry.data_file.null_value_counts[field_id] == 1
        for value in VALUES[kind][1]:
            tasks = list(table.scan(EqualTo(name, _literal(value))).plan_files())
            holding = sum(row[kind] == value for row in rows)
            # Cut bounds of long values may keep more, never less.
            assert len(tasks) >= holding
            if not isinstance(value, str | bytes):
                assert len(tasks) == holding


def test_offsets_have_bounds_that_prune(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path, ["long"], TableSettings())
    pipe.commit(pipe.write([{"long": n} for n in (1, 2, 3)]))

    table = pipe.load()

    assert len(list(table.scan(GreaterThanOrEqual("_kafka.offset", 102)).plan_files())) == 1
    assert len(list(table.scan(GreaterThanOrEqual("_kafka.offset", 103)).plan_files())) == 0
    assert len(list(table.scan(EqualTo("_kafka.partition", 4)).plan_files())) == 0
    assert len(list(table.scan(EqualTo("_kafka.topic", "u")).plan_files())) == 0


def test_sorted_rows_are_in_order_and_the_manifest_says_so(tmp_path: Path) -> None:
    settings = TableSettings(sort_by=(SortedBy("long", descending=True, nulls_first=True),))
    pipe = Pipe(tmp_path, ["long"], settings)

    files = pipe.write([{"long": n} for n in (3, None, 9, 5)])
    pipe.commit(files)

    assert pipe.load().scan().to_arrow()["long"].to_pylist() == [None, 9, 5, 3]
    assert pipe.entries()[0].data_file.sort_order_id == pipe.load().sort_order().order_id == 1
    assert write_target(pipe.load(), "x").sort_keys[0].descending


def test_file_names_begin_with_the_tables_uuid_and_never_repeat(tmp_path: Path) -> None:
    settings = TableSettings(partition_by=(Transformed("identity", "string"),))
    pipe = Pipe(tmp_path, ["string"], settings)

    files = pipe.write([{"string": text} for text in "abc"], "7-1-4")

    table = pipe.load()
    names = {file.path.rsplit("/", 1)[1] for file in files}
    prefix = f"{table.metadata.table_uuid.hex[:8]}-7-1-4-"
    assert names == {f"{prefix}{number}.parquet" for number in (1, 2, 3)}
    assert {file.path.rsplit("/", 2)[1] for file in files} == {"string=a", "string=b", "string=c"}


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path, ["long"], TableSettings())
    target = write_target(pipe.load(), "1-0-1")
    path = target.new_path(())
    target.open_output(path).close()

    with pytest.raises(FileExistsError):
        target.open_output(path)


def test_object_storage_layout_is_followed(tmp_path: Path) -> None:
    settings = TableSettings(
        partition_by=(Transformed("identity", "string"),),
        properties={
            "write.object-storage.enabled": "true",
            "write.object-storage.partitioned-paths": "false",
        },
    )
    pipe = Pipe(tmp_path, ["string"], settings)

    (file,) = pipe.write([{"string": "a"}])

    assert "string=" not in file.path
    pipe.commit((file,))
    assert pipe.load().scan(EqualTo("string", "a")).to_arrow().num_rows == 1


@pytest.mark.parametrize(
    ("properties", "codec", "level"),
    [
        ({}, "zstd", 1),
        ({"write.parquet.compression-level": "7"}, "zstd", 7),
        ({"write.parquet.compression-codec": "snappy"}, "snappy", None),
        ({"write.parquet.compression-codec": "GZIP"}, "gzip", None),
        ({"write.parquet.compression-codec": "uncompressed"}, "none", None),
        ({"write.parquet.compression-codec": "lz4"}, "lz4", None),
    ],
)
def test_the_codec_is_the_tables(
    tmp_path: Path, properties: dict[str, str], codec: str, level: int | None
) -> None:
    pipe = Pipe(tmp_path, ["long"], TableSettings(properties=properties))

    target = write_target(pipe.load(), "x")

    assert (target.codec, target.codec_level) == (codec, level)
    assert target.target_file_bytes == 512 * 1024 * 1024
    pipe.commit(pipe.write([{"long": 1}]))
    assert pipe.load().scan().to_arrow().num_rows == 1


@pytest.mark.parametrize(
    "properties",
    [
        {"write.parquet.compression-codec": "lzo"},
        {"write.parquet.compression-level": "high"},
        {"write.target-file-size-bytes": "0"},
    ],
)
def test_properties_that_cannot_be_followed_are_refused_by_name(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    pipe = Pipe(tmp_path, ["long"], TableSettings(properties=properties))

    with pytest.raises(ConfigError, match=next(iter(properties))):
        write_target(pipe.load(), "x")


def test_a_nested_source_has_the_path_to_it(tmp_path: Path) -> None:
    settings = TableSettings(partition_by=(Transformed("identity", "outer.long"),))
    pipe = Pipe(tmp_path, ["long"], settings, nested=True)

    target = write_target(pipe.load(), "x")

    assert target.partition_fields[0].source_path == ("outer", "long")
    pipe.commit(pipe.write([{"long": n} for n in (5, None, 5)]))
    table = pipe.load()
    assert table.spec().fields[0].transform == IdentityTransform()
    assert {entry.data_file.partition[0] for entry in pipe.entries()} == {5, None}
    with pytest.raises(ConfigError, match="field id 999"):
        path_of(table.schema(), 999)
