"""MessagePack maps → rows of a row schema.

    values ─► tokens ─► the table's columns ─► rows
                 │            │ does not fit   │ has what the table lacks
                 │            │                └─► its tree ─► a column, or nothing to store
                 └────────────┴──────────┬─────────────┘
                                      failures

Only records with fields or numbers that the table cannot hold cost Python time.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import flags, indices
from k2i_core.decode.conform import Faults, failures_of
from k2i_core.decode.cursors import Cursors
from k2i_core.decode.isolation import no_rows
from k2i_core.decode.json_decoder import UNDECODABLE, cannot_add
from k2i_core.decode.json_growth import Growth, is_needed
from k2i_core.decode.json_plan import plan_row
from k2i_core.decode.json_rows import unknown_path
from k2i_core.decode.json_trees import ErrorClass, RecordError
from k2i_core.decode.msgpack_columns import Reading
from k2i_core.decode.msgpack_tokens import Tokens, scan
from k2i_core.decode.msgpack_trees import TreeReader, find
from k2i_core.records import DecodedValues


class MsgpackDecoder:
    """Decodes MessagePack maps; see the package for what that guarantees."""

    def __init__(
        self,
        row_schema: pa.Schema,
        *,
        may_add_columns: bool = False,
        time_formats: Mapping[str, str],
    ) -> None:
        """Bind the columns.

        Args:
            row_schema: Columns to make, without `_kafka`.
            may_add_columns: Propose columns that the table lacks, instead of refusing the record.
            time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.

        Raises:
            ConfigError: No record can fill a column, such as a map without text keys.

        """
        self._row_schema = row_schema
        self._may_add_columns = may_add_columns
        self._time_formats = time_formats
        self._row = plan_row(row_schema, time_formats)

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        cursors = Cursors.of(values)
        faults: Faults = {}
        tokens = scan(cursors, faults)
        reading = Reading(
            cursors, tokens, faults, self._time_formats, may_add_columns=self._may_add_columns
        )
        columns = reading.columns(self._row_schema)
        growth = self._judge(cursors, tokens, reading)
        if growth.is_needed:
            proposed = growth.row_schema(self._row_schema)
            return DecodedValues(no_rows(self._row_schema), proposed_schema=proposed)
        places = tokens.rows[tokens.roots]
        is_good = np.ones(len(values), np.bool_)
        is_good[list(faults)] = False
        # Without columns there is no array to tell how many rows there are.
        whole = pa.RecordBatch.from_arrays(
            [*columns, pa.array(places)],
            schema=self._row_schema.append(pa.field("", pa.int64())),
        )
        rows = whole.filter(flags(is_good[places]))
        rows = rows.select(list(range(len(columns))))
        if not faults:
            return DecodedValues(rows)
        return DecodedValues(
            rows=rows,
            row_indices=indices(np.flatnonzero(is_good)),
            failures=failures_of(faults),
        )

    def _judge(self, cursors: Cursors, tokens: Tokens, reading: Reading) -> Growth:
        """Look closely at records that have what the table lacks; bad ones become faults."""
        growth = Growth(self._row)
        doubtful = sorted(reading.doubtful - reading.faults.keys())
        if not doubtful:
            return growth
        reader = TreeReader(cursors.whole, tokens)
        roots = tokens.roots[np.searchsorted(tokens.rows[tokens.roots], doubtful)]
        for row, root in zip(doubtful, roots.tolist(), strict=True):
            try:
                findings = find(self._row, reader.members(root))
            except RecordError as error:
                reading.faults[row] = error.fault
                continue
            if row in reading.unheld and not findings.wider:
                reading.faults[row] = UNDECODABLE
            elif not is_needed(findings):
                continue
            elif not self._may_add_columns:
                parent, name, _ = findings.unknown[0]
                message = f"{unknown_path(parent, name)}: the schema has no such field"
                reading.faults[row] = ErrorClass.UNKNOWN_FIELD, message
            elif not growth.add(findings):
                reading.faults[row] = cannot_add(findings)
        return growth
