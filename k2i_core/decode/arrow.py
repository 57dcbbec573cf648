"""Arrow calls whose published types are wrong or missing, each with the types that it has.

Nothing is decided here; the rest of the package calls Arrow itself where the types are right.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

AnyArray: TypeAlias = "pa.Array[Any]"
AnyField: TypeAlias = "pa.Field[Any]"

_pa: Any = pa
_pc: Any = pc
_pj: Any = pj


def byte_lengths(values: AnyArray) -> AnyArray:
    """Return the bytes of each text or binary value."""
    return _pc.binary_length(values)


def surround(prefix: str, texts: AnyArray, suffix: "str | AnyArray") -> AnyArray:
    """Return each text with `prefix` before it and `suffix`, or its own, behind it; null stays."""
    # The last argument goes between the others.
    return _pc.binary_join_element_wise(prefix, texts, suffix, "")


def joined_pairs(first: AnyArray, second: AnyArray) -> Any:  # noqa: ANN401 - as its arguments
    """Return each element of `first` with that of `second` behind it; none is null."""
    return _pc.binary_join_element_wise(first, second, b"")


def cut_bytes(values: AnyArray, from_start: int, from_end: int) -> pa.BinaryArray:
    """Return each value without some bytes at its start and at its end."""
    return _pc.binary_slice(values, from_start, -from_end)


def starts_with(values: AnyArray, prefix: bytes) -> AnyArray:
    """Return whether each value starts so."""
    return _pc.starts_with(values, pattern=prefix)


def list_parents(lists: AnyArray) -> "npt.NDArray[np.int64]":
    """Return which list each element of all lists is in."""
    return _pc.list_parent_indices(lists).to_numpy()


def buffer_of(numbers: "npt.NDArray[Any]") -> pa.Buffer:
    """Return the memory of numbers, not copied."""
    return _pa.py_buffer(numbers)


def numbers_of(
    array: AnyArray, buffer_number: int, type_: "type[np.generic]"
) -> "npt.NDArray[Any]":
    """Return a buffer of an array as numbers, not copied; none where there is no buffer."""
    buffer: Any = array.buffers()[buffer_number]
    return np.frombuffer(b"" if buffer is None else buffer, type_)


def joined(texts: AnyArray) -> bytes:
    """Return the bytes of all texts, of which none is null, one after the other."""
    whole = pa.ListArray.from_arrays([0, len(texts)], texts)
    return _pc.binary_join(whole, "")[0].as_buffer().to_pybytes()


def replace(texts: AnyArray, old: str, new: str) -> AnyArray:
    """Replace a part of each text wherever it occurs."""
    return _pc.replace_substring(texts, pattern=old, replacement=new)


def ends_with(texts: AnyArray, suffix: str) -> AnyArray:
    """Return whether each text ends so."""
    return _pc.ends_with(texts, pattern=suffix)


def list_array(
    offsets: AnyArray, elements: AnyArray, type_: pa.DataType, mask: "AnyArray | None"
) -> AnyArray:
    """Return lists cut out of `elements`, null where `mask` is true."""
    return _pa.ListArray.from_arrays(offsets, elements, type=type_, mask=mask)


def map_array(
    offsets: AnyArray,
    entries: tuple[AnyArray, AnyArray],
    type_: pa.DataType,
    mask: "AnyArray | None",
) -> AnyArray:
    """Return maps cut out of keys and values, null where `mask` is true."""
    return _pa.MapArray.from_arrays(offsets, *entries, type=type_, mask=mask)


def map_type(key: AnyField, value: AnyField) -> pa.DataType:
    """Return a map type that keeps both fields as they are."""
    return _pa.map_(key, value)


def indices(places: "npt.NDArray[np.int64]", is_null: "npt.NDArray[np.bool_] | None" = None) -> Any:  # noqa: ANN401 - the stubs know no array of indices
    """Return places to take elements from, null where `is_null`."""
    return _pa.array(places, _pa.int64(), mask=is_null)


def flags(is_kept: "npt.NDArray[np.bool_]") -> pa.BooleanArray:
    """Return what `filter` takes."""
    return _pa.array(is_kept, _pa.bool_())


def buffer_over(numbers: "npt.NDArray[Any]") -> pa.Buffer:
    """Return a buffer over the memory of an array."""
    return _pa.py_buffer(numbers)


def nulls(count: int, type_: pa.DataType) -> AnyArray:
    """Return nulls of any type."""
    return _pa.nulls(count, type_)


def concat_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of all batches, of which there is at least one."""
    return _pa.concat_batches(batches)


def read_json(block: pa.Buffer, options: pj.ParseOptions) -> pa.Table:
    """Parse one block on this thread."""
    read_options = pj.ReadOptions(use_threads=False, block_size=block.size)
    return _pj.read_json(pa.BufferReader(block), read_options=read_options, parse_options=options)


def struct_fields(array: pa.StructArray) -> dict[str, AnyArray]:
    """Return a struct's fields, null where the struct is: below a null may lie anything."""
    names = [field.name for field in array.type]
    plain = [array.field(index) for index in range(len(names))]
    return dict(zip(names, array.flatten() if array.null_count else plain, strict=True))


def null_mask(array: AnyArray) -> pa.BooleanArray | None:
    """Return where an array is null; None when nowhere."""
    return array.is_null() if array.null_count else None


def list_offsets(
    array: "pa.ListArray[Any] | pa.MapArray[Any, Any]",
) -> tuple[AnyArray, int, int]:
    """Return offsets from zero, and which part of the child array they cut up: first and count."""
    if len(array) == 0:
        return pa.array([0], pa.int32()), 0, 0
    first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
    # Arrow takes a null mask only beside offsets that are no slice; a difference is none.
    return pc.subtract(array.offsets, pa.scalar(first, pa.int32())), first, last - first


def run_end_decoded(array: AnyArray) -> AnyArray:
    """Return the values of a run-end encoded array, one an element."""
    return _pc.run_end_decode(array)
