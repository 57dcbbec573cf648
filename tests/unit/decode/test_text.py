"""The decoders with one column.

Goal: bytes and text come through unchanged; only what is not UTF-8 fails, and only as text.
Method: the real decoders on small arrays.
"""

import pyarrow as pa

from k2i_core.decode.text import RawDecoder, StringDecoder


def test_raw_values_are_kept_as_they_are() -> None:
    values = pa.array([b"x", b"", b"\xff\x00"], pa.binary())

    decoded = RawDecoder().decode(values.slice(1))

    assert decoded.rows.to_pylist() == [{"value": b""}, {"value": b"\xff\x00"}]
    assert decoded.rows.schema.equals(RawDecoder().row_schema)
    assert (decoded.row_indices, decoded.failures) == (None, ())


def test_text_is_kept_as_it_is() -> None:
    decoded = StringDecoder().decode(pa.array(["", " é😀\0\n".encode()], pa.binary()))

    assert decoded.rows.to_pylist() == [{"value": ""}, {"value": " é😀\0\n"}]
    assert decoded.rows.schema.equals(StringDecoder().row_schema)
    assert (decoded.row_indices, decoded.failures) == (None, ())


def test_what_is_not_utf8_is_a_failure_and_no_more() -> None:
    bad = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"]
    values = [
        value for pair in zip(bad, [b"\xa9"[:0] + b"good"] * 5, strict=True) for value in pair
    ]

    decoded = StringDecoder().decode(pa.array([b"x", *values], pa.binary()).slice(1))

    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [1, 3, 5, 7, 9]
    assert decoded.rows.column("value").to_pylist() == ["good"] * 5
    assert [failure.index for failure in decoded.failures] == [0, 2, 4, 6, 8]
    assert {failure.error_class for failure in decoded.failures} == {"invalid_utf8"}


def test_no_values_are_no_rows() -> None:
    for decoder in (StringDecoder(), RawDecoder()):
        assert decoder.decode(pa.array([], pa.binary())).rows.num_rows == 0
