"""A native reader that is unsure, wrong about itself, or not there.

Goal: whatever it does, the outcome is that of the Python decoder.
Method: readers written here, so that this holds without the wheel as well.
"""

from typing import Any

import pyarrow as pa
import pytest

from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.native_json import NativeJsonDecoder, accelerated
from k2i_core.errors import ConfigError
from k2i_core.native import INTERFACE, find_native

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False)])
VALUES = [b'{"id":0}', b"x", b'{"id":2}', b'{"id":3}', b'{"id":4,"new":1}']


class UnsureReader:
    """Takes the records at some places, and leaves the others."""

    def __init__(self, *places: int) -> None:
        self.places = places

    def read(
        self, values: pa.BinaryArray, /
    ) -> tuple[pa.RecordBatch, pa.Int64Array, pa.Int64Array]:
        rest = [place for place in range(len(values)) if place not in self.places]
        taken = pa.array(self.places, pa.int64())
        return (
            JsonDecoder(SCHEMA).decode(values.take(taken)).rows,
            taken,
            pa.array(rest, pa.int64()),
        )


class BrokenReader:
    """Fails as a panic does."""

    def read(self, _: pa.BinaryArray, /) -> Any:
        message = "panicked at src/somewhere.rs:1"
        raise RuntimeError(message)


@pytest.mark.parametrize("places", [(), (0,), (2, 3), (0, 2, 3)])
def test_what_the_reader_leaves_is_decoded_in_its_place(places: tuple[int, ...]) -> None:
    values = pa.array(VALUES, pa.binary())
    decoder = NativeJsonDecoder(UnsureReader(*places), JsonDecoder(SCHEMA), pytest.fail)

    decoded = decoder.decode(values)

    expected = JsonDecoder(SCHEMA).decode(values)
    assert decoded.rows.equals(expected.rows)
    assert decoded.row_indices is not None
    assert decoded.row_indices.equals(expected.row_indices)
    assert decoded.failures == expected.failures
    assert [failure.index for failure in decoded.failures] == [1, 4]


def test_rows_of_both_are_all_rows_when_nothing_fails() -> None:
    values = pa.array([b'{"id":0}', b'{"id":1}', b'{"id":2}'], pa.binary())
    decoder = NativeJsonDecoder(UnsureReader(1), JsonDecoder(SCHEMA), pytest.fail)

    decoded = decoder.decode(values)

    assert decoded.row_indices is None
    assert decoded.rows.column("id").to_pylist() == [0, 1, 2]


def test_columns_are_proposed_for_what_the_reader_leaves() -> None:
    values = pa.array(VALUES, pa.binary())
    python = JsonDecoder(SCHEMA, may_add_columns=True)

    decoded = NativeJsonDecoder(UnsureReader(0, 2, 3), python, pytest.fail).decode(values)

    assert decoded.proposed_schema == python.decode(values).proposed_schema
    assert decoded.rows.num_rows == 0


def test_a_reader_that_fails_costs_nothing_but_time_and_is_reported() -> None:
    values = pa.array(VALUES, pa.binary())
    reports: list[str] = []

    decoded = NativeJsonDecoder(BrokenReader(), JsonDecoder(SCHEMA), reports.append).decode(values)

    assert decoded.failures == JsonDecoder(SCHEMA).decode(values).failures
    assert decoded.rows.column("id").to_pylist() == [0, 2, 3]
    assert reports == ["panicked at src/somewhere.rs:1"]


class Refusing:
    INTERFACE = INTERFACE
    __version__ = "0"

    def JsonReader(self, *_: object, **__: object) -> Any:  # noqa: N802 - as in the wheel
        message = "x: type Int8"
        raise ValueError(message)


def test_columns_that_the_reader_does_not_read_are_decoded_in_python() -> None:
    python = JsonDecoder(SCHEMA)

    decoder = accelerated(
        python, Refusing(), time_formats={}, may_add_columns=False, report_failure=pytest.fail
    )

    assert decoder is python


def hide(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "k2i_native", module)


def test_without_the_wheel_python_does_it_unless_the_wheel_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, None)

    assert find_native("auto").library is None
    assert find_native("off").detail == "switched off by native=off"
    with pytest.raises(ConfigError, match=r"native=required.*not installed.*make setup"):
        find_native("required")


def test_a_wheel_of_another_interface_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Refusing):
        INTERFACE = 0

    hide(monkeypatch, Old())

    assert find_native("auto").library is None
    with pytest.raises(ConfigError, match="interface=0"):
        find_native("required")


def test_a_wheel_that_fits_is_used_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library := Refusing())

    assert find_native("auto").library is library
    assert find_native("required").detail == "k2i-native 0"
    assert find_native("off").library is None
