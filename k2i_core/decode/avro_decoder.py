"""Avro records → rows: binary encoding, behind the frame of a schema registry or bare."""

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import flags
from k2i_core.decode.avro_columns import plan_avro
from k2i_core.decode.avro_rows import read_rows
from k2i_core.decode.avro_schema import parse_avro
from k2i_core.decode.conform import Faults
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.schema_decoder import Piece
from k2i_core.decode.unusable_schema import UnusableSchemaError
from k2i_core.schema.registered import WriterSchema


class AvroReader:
    """Reads records of one schema."""

    def __init__(self, schema: WriterSchema, record_name: str | None = None) -> None:
        """Plan the columns.

        Args:
            schema: With its references.
            record_name: Full name that the schema must have; None allows any.

        Raises:
            UnusableSchemaError: Its records cannot be rows.

        """
        avro = parse_avro(schema.text, schema.references)
        if record_name is not None and avro.name != record_name:
            message = f"the schema is of another record than message={record_name}"
            raise UnusableSchemaError(message, ErrorClass.WRONG_MESSAGE)
        self.row = plan_avro(avro)

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the schema."""
        assert isinstance(self.row.type, pa.StructType)
        return pa.schema(list(self.row.type))

    def read(self, cursors: Cursors) -> tuple[tuple[Piece, ...], Faults]:
        """Read n records."""
        rows = read_rows(self.row, cursors)
        places = np.arange(rows.num_rows)
        if not cursors.faults:
            return (Piece(places, rows),), {}
        is_good = ~cursors.is_faulty
        return (Piece(places[is_good], rows.filter(flags(is_good))),), cursors.faults
