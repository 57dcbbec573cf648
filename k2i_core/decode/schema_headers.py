"""Records whose schema is named in a header → the same bytes as records that begin with it.

A header holds exactly what other records begin with: a frame (`schema_frames`), and for Protobuf
the indices behind it. So it is put before the content, and everything after this step knows one
kind of record. A header is believed before the content, as Confluent's own deserializers do: the
content of such a record begins at its first byte, whatever that byte is.

Source: confluent-kafka `schema_registry/__init__.py`, `dual_schema_id_deserializer`.
"""

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import indices, joined_pairs, list_parents
from k2i_core.decode.cursors import CONTINUED, nulls_where
from k2i_core.decode.schema_frames import FRAME_BYTES, GUID_FRAME_BYTES, GUID_MAGIC

KEY_HEADER = "__key_schema_id"
VALUE_HEADER = "__value_schema_id"

_UNFRAMED = b""
"""Stands for a record whose header names no schema: nothing can be read of it."""


def begin_with_schema(
    contents: pa.BinaryArray, headers: "pa.ListArray[Any]", header_name: str, *, has_indices: bool
) -> pa.BinaryArray:
    """Put what headers say about schemas before the contents.

    Args:
        contents: n non-null keys or values.
        headers: Of the same n records, as in POLLED_SCHEMA.
        header_name: `KEY_HEADER` or `VALUE_HEADER`; the first one of a record counts.
        has_indices: Whether a frame goes on with indices, as Protobuf's does.

    Returns:
        n frames with their contents; a record without the header is as it was. Empty where a
        header is there and is no frame, because its content must not be taken for one.

    """
    entries = cast("pa.StructArray", headers.flatten())
    if not len(entries):
        return contents
    is_named = pc.equal(entries.field("key"), pa.scalar(header_name)).fill_null(False)  # noqa: FBT003 - Arrow's
    places = np.flatnonzero(is_named.to_numpy(zero_copy_only=False))
    if not len(places):
        return contents
    records, first = np.unique(list_parents(headers)[places], return_index=True)
    frames = entries.field("value").take(indices(places[first]))
    # As where it lacks: a header without a value tells nothing.
    is_there = frames.is_valid().to_numpy(zero_copy_only=False)
    records, frames = records[is_there], frames.drop_null()
    distinct = frames.dictionary_encode()
    headers_seen = cast("list[bytes]", distinct.dictionary.to_pylist())
    known = [header for header in headers_seen if _is_frame(header, has_indices=has_indices)]
    is_frame = pc.is_in(frames, pa.array(known, pa.binary())).to_numpy(zero_copy_only=False)
    owners = np.zeros(len(contents), np.int64)
    owners[records] = np.arange(len(records))
    has_none = np.ones(len(contents), np.bool_)
    has_none[records] = False
    prefixes = frames.take(indices(owners, has_none)).fill_null(b"")
    whole = joined_pairs(prefixes, contents)
    if is_frame.all():
        return whole
    is_bad = np.zeros(len(contents), np.bool_)
    is_bad[records[~is_frame]] = True
    return cast("pa.BinaryArray", nulls_where(whole, is_bad).fill_null(_UNFRAMED))


def _is_frame(header: bytes, *, has_indices: bool) -> bool:
    frame_bytes = {0: FRAME_BYTES, GUID_MAGIC: GUID_FRAME_BYTES}.get(header[0]) if header else None
    if frame_bytes is None or len(header) < frame_bytes:
        return False
    behind = header[frame_bytes:]
    return _is_whole_list(behind) if has_indices else not behind


def _is_whole_list(numbers: bytes) -> bool:
    """Tell whether a count and as many numbers are there and nothing else, each a varint."""
    ends = [place for place, byte in enumerate(numbers) if byte < CONTINUED]
    if not ends or ends[-1] != len(numbers) - 1:
        return False
    count = 0
    for shift, byte in enumerate(numbers[: ends[0] + 1]):
        count |= (byte & 0x7F) << (7 * shift)
    return count % 2 == 0 and len(ends) == 1 + count // 2
