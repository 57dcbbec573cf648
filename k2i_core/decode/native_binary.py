"""Avro and Protobuf records of one schema → rows, natively where a record is a row for certain.

    records ─► native reader ─► one piece ──────────────┬─► pieces, faults
                    │ the rest                          │
                    └─► AvroReader, ProtoReader ────────┘

As with JSON (`native_json`), the native reader decides nothing but "this is a row". It knows no
schema either: what becomes which column is planned in Python, and told as a plan.
"""

from collections.abc import Callable

import pyarrow as pa

from k2i_core.decode import avro_columns, proto_columns
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.avro_schema import Kind
from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors, numbers_array
from k2i_core.decode.proto_decoder import ProtoReader
from k2i_core.decode.schema_decoder import Piece, WriterReader
from k2i_core.native import AvroPlan, NativeLibrary, NativeRecordReader, ProtobufPlan


class NativeBinaryReader:
    """Reads records of one schema."""

    def __init__(
        self,
        native: NativeRecordReader,
        reader: WriterReader,
        report_failure: Callable[[str], None],
    ) -> None:
        """Bind both.

        Args:
            native: Of the columns of `reader`.
            reader: Has the last word.
            report_failure: Told when `native` itself fails; the records are read all the same.

        """
        self._native = native
        self._reader = reader
        self._report_failure = report_failure

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the schema."""
        return self._reader.row_schema

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        starts, ends = cursors.positions, cursors.ends
        try:
            rows, certain, uncertain = self._native.read(
                numbers_array(cursors.bytes_, pa.uint8()),
                numbers_array(starts, pa.int64()),
                numbers_array(ends, pa.int64()),
            )
        except (RuntimeError, ValueError) as error:
            self._report_failure(str(error))
            return self._reader.read(cursors)
        piece = Piece(certain.to_numpy(), rows)
        if len(uncertain) == 0:
            return (piece,), {}
        places = uncertain.to_numpy()
        pieces, faults = self._reader.read(cursors.inside(starts[places], ends[places]))
        return (
            # Of several messages, the one that is read natively is the last one in Python, too.
            (*(Piece(places[rest.places], rest.rows) for rest in pieces), piece),
            {int(places[row]): fault for row, fault in faults.items()},
        )


def accelerated_reader(
    reader: AvroReader | ProtoReader,
    library: NativeLibrary,
    report_failure: Callable[[str], None],
) -> WriterReader:
    """Return a reader that asks the native one first, if that one reads such records.

    Args:
        reader: Of one schema.
        library: With the native reader.
        report_failure: As `NativeBinaryReader`.

    """
    try:
        if isinstance(reader, AvroReader):
            native = library.avro_reader(reader.row_schema, avro_plan(reader.row))
        elif (frame := reader.frame) is not None:
            fields = [protobuf_plan(column) for column in reader.row.columns]
            native = library.protobuf_reader(reader.row_schema, fields, frame)
        else:
            return reader
    except ValueError:
        return reader
    return NativeBinaryReader(native, reader, report_failure)


def avro_plan(column: avro_columns.Column) -> AvroPlan:
    """Return how a type is read into its column."""
    avro = column.avro
    parts = tuple(avro_plan(part) for part in column.parts)
    match column.shape:
        case avro_columns.Shape.JSON:
            return AvroPlan("unread")
        case avro_columns.Shape.OPTIONAL:
            return AvroPlan("optional", parts=parts)
        case _ if avro.kind is Kind.UNION:
            return AvroPlan("members", parts=parts)
        case _ if avro.kind is Kind.FIXED and avro.byte_count == 0:
            # A list of what has no bytes has any length.
            return AvroPlan("unread")
        case _:
            return AvroPlan(avro.kind.value, avro.logical, avro.byte_count, avro.symbols, parts)


def protobuf_plan(column: proto_columns.Column) -> ProtobufPlan:
    """Return how a field is read into its column."""
    field = column.field
    is_empty = field.message is not None and not field.message.fields
    kind = _KINDS.get(column.shape, field.kind.name.lower())
    if not column.is_stored:
        kind = "empty" if is_empty else "unread"
    elif column.is_map:
        kind = "map"
    is_read = kind not in ("empty", "unread")
    return ProtobufPlan(
        number=field.number,
        kind=kind,
        is_repeated=field.is_repeated,
        is_stored=column.is_stored,
        presence=field.presence.name.lower(),
        oneof=field.oneof,
        symbols=field.symbols,
        parts=tuple(map(protobuf_plan, column.parts)) if is_read else (),
    )


_KINDS = {
    proto_columns.Shape.WRAPPER: "wrapper",
    proto_columns.Shape.TIMESTAMP: "timestamp",
    proto_columns.Shape.JSON: "unread",
}
