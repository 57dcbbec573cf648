"""Records that name their schema: what is asked for, what is proposed, what comes in order.

Goal: an unknown schema is asked for and nothing is decided before; the rows of several schemas come
in the order of the records; a table grows by what readable records have, and by nothing else.
Method: a dict of schemas, and Avro records written out by hand.
"""

import json
from typing import Any

import pyarrow as pa

from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.schema.registered import NoSuchSchema, SchemaLanguage, WriterSchema


def avro(number: int, *fields: tuple[str, Any]) -> WriterSchema:
    described = [{"name": name, "type": type_} for name, type_ in fields]
    text = json.dumps({"type": "record", "name": "R", "fields": described})
    return WriterSchema(number, SchemaLanguage.AVRO, text)


class Known(dict[int, WriterSchema | NoSuchSchema]):
    def find(self, schema_id: int) -> WriterSchema | NoSuchSchema | None:
        return self.get(schema_id)


OLD = avro(1, ("a", "long"))
NEW = avro(2, ("a", "long"), ("b", ["null", "string"]))
TABLE = pa.schema([pa.field("a", pa.int64())])


def framed(number: int, content: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + content


def decoder(known: Known, *, may_add_columns: bool = False) -> SchemaDecoder:
    return SchemaDecoder(TABLE, known, AvroReader, may_add_columns=may_add_columns)


def binary(*values: bytes) -> pa.BinaryArray:
    array = pa.array(values, pa.binary())
    assert isinstance(array, pa.BinaryArray)
    return array


def test_every_unknown_schema_is_asked_for_at_once_and_nothing_is_decided_before() -> None:
    values = binary(framed(1, b"\2"), framed(7, b""), framed(9, b""), b"x", framed(7, b""))
    decoded = decoder(Known({1: OLD})).decode(values)
    assert decoded.missing_schema_ids == {7, 9}
    assert decoded.rows.num_rows == 0
    assert not decoded.failures


def test_rows_come_in_the_order_of_the_records_with_the_schema_id_of_the_bad_ones() -> None:
    known = Known({1: OLD, 2: NEW, 3: NoSuchSchema(3), 4: WriterSchema(4, OLD.language, "{")})
    values = binary(
        framed(2, b"\2\0"), framed(1, b"\4"), framed(3, b""), framed(2, b"\6\0"), framed(4, b""),
        framed(1, b"\x80"), framed(1, b"\10"), b"",
    )  # fmt: skip
    decoded = decoder(known).decode(values)
    assert decoded.rows.column("a").to_pylist() == [1, 2, 3, 4]
    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [0, 1, 3, 6]
    assert [(f.index, f.error_class, f.schema_id) for f in decoded.failures] == [
        (2, "unknown_schema_id", 3),
        (4, "unusable_schema", 4),
        (5, "invalid_encoding", 1),
        (7, "invalid_framing", None),
    ]


def test_a_table_grows_by_the_schemas_of_readable_records_only() -> None:
    known = Known({1: OLD, 2: NEW})
    grows = decoder(known, may_add_columns=True)
    assert grows.decode(binary(framed(1, b"\2"), framed(2, b"\2\1"))).proposed_schema is None
    proposed = grows.decode(binary(framed(1, b"\2"), framed(2, b"\2\0"))).proposed_schema
    assert proposed is not None
    assert proposed.names == ["a", "b"]


def test_a_strict_table_refuses_only_what_would_be_lost() -> None:
    strict = decoder(Known({2: NEW}))
    decoded = strict.decode(binary(framed(2, b"\2\0"), framed(2, b"\4\2\2x")))
    assert decoded.rows.to_pylist() == [{"a": 1}]
    assert [f.error_class for f in decoded.failures] == ["unknown_field"]


def test_a_verdict_that_the_registry_has_no_schema_is_not_kept() -> None:
    known = Known({3: NoSuchSchema(3)})
    one = decoder(known)
    assert one.decode(binary(framed(3, b"\2"))).failures
    known[3] = OLD
    assert one.decode(binary(framed(3, b"\2"))).rows.num_rows == 1


def test_no_values_and_slices_are_fine() -> None:
    known = Known({1: OLD})
    assert decoder(known).decode(binary()).rows.num_rows == 0
    values = binary(framed(1, b"\2"), framed(1, b"\4"), framed(1, b"\6")).slice(1, 2)
    assert isinstance(values, pa.BinaryArray)
    assert decoder(known).decode(values).rows.column("a").to_pylist() == [2, 3]
