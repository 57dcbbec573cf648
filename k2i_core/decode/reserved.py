"""Names that records may not give to a column, because k2i makes a column of that name itself."""

import pyarrow as pa

from k2i_core.decode.arrow import AnyField
from k2i_core.decode.record_decoder import ValueDecoder
from k2i_core.records import DecodedValues
from k2i_core.schema.identity import never_called


def without_names(wanted: pa.Schema, reserved: frozenset[str], table: pa.Schema) -> pa.Schema:
    """Return the columns without reserved names, in whatever letter case.

    Below a reserved name is nothing either: a table could not tell the column `a.b` from the field
    b of a column a.

    Args:
        wanted: The table's columns, perhaps under other names, then new ones.
        reserved: Names in lower case.
        table: Of which a column that would get such a name stays as it is.

    """

    def is_free(field: AnyField) -> bool:
        return field.name.casefold().split(".")[0] not in reserved

    columns = [never_called(field, reserved) for field in wanted]
    count = len(table.names)
    own = [new if is_free(new) else old for old, new in zip(table, columns, strict=False)]
    return pa.schema([*own, *filter(is_free, columns[count:])])


class ReservingDecoder:
    """Decodes as another decoder does, but proposes no column of a reserved name.

    A record that holds something there is a dead letter, as where columns may not be added.
    """

    def __init__(
        self, growing: ValueDecoder, strict: ValueDecoder, reserved: frozenset[str]
    ) -> None:
        """Bind two decoders for the same columns.

        Args:
            growing: May propose columns.
            strict: May not.
            reserved: Names in lower case.

        """
        self._growing = growing
        self._strict = strict
        self._reserved = reserved

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._growing.row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        decoded = self._growing.decode(values)
        if decoded.proposed_schema is None:
            return decoded
        wanted = without_names(decoded.proposed_schema, self._reserved, self.row_schema)
        # What a column is known by counts, too, and is metadata.
        if wanted.equals(self.row_schema, check_metadata=True):
            return self._strict.decode(values)
        return DecodedValues(decoded.rows, proposed_schema=wanted)
