"""Properties of the Arrow IPC decoder.

Goal: a record is a row only if it is one stream of one row, with the values that were written, of
whatever Arrow types; a stream of no row or of two shifts no neighbour, and a damaged one harms only
itself.
Method: random types and values written by Arrow's own writer, some streams broken on purpose, in
batches of several schemas, compared with what was written and with each record alone.
"""

import io
import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import ipc

from k2i_core.decode.arrow_decoder import ArrowDecoder
from k2i_core.decode.arrow_messages import END, MalformedError, look
from tests.property.verdicts import verdicts

TIMES = st.times().filter(lambda at: at.tzinfo is None)
STAMPS = st.datetimes(min_value=datetime(1678, 1, 1), max_value=datetime(2261, 1, 1))  # noqa: DTZ001 - zoneless
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)


def decimals(places: int, digits: int) -> st.SearchStrategy[Decimal]:
    largest = 10**digits - 1
    return st.integers(-largest, largest).map(lambda n: Decimal(n).scaleb(-places))


LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    *((pa.int8(), st.integers(-128, 127)), (pa.uint16(), st.integers(0, 2**16 - 1))),
    *((pa.int64(), st.integers(-(2**63), 2**63 - 1)), (pa.uint64(), st.integers(0, 2**64 - 1))),
    *((pa.float32(), st.floats(width=32)), (pa.float64(), st.floats())),
    *((pa.string(), TEXTS), (pa.large_string(), TEXTS), (pa.string_view(), TEXTS)),
    *((pa.binary(), st.binary(max_size=4)), (pa.binary(3), st.binary(min_size=3, max_size=3))),
    (pa.decimal128(9, 2), decimals(2, 9)),
    (pa.decimal256(38, 0), decimals(0, 20)),
    *((pa.date32(), st.dates()), (pa.date64(), st.dates())),
    *((pa.time64("ns"), TIMES), (pa.time64("us"), TIMES)),
    (pa.timestamp("us", tz="Europe/Berlin"), st.datetimes(timezones=st.just(UTC))),
    *((pa.timestamp("ns"), STAMPS), (pa.timestamp("us"), st.datetimes())),
    (pa.dictionary(pa.int8(), pa.string()), TEXTS),
]


def listed(inner: tuple[pa.DataType, Any]) -> tuple[pa.DataType, Any]:
    return pa.list_(inner[0]), st.lists(st.none() | inner[1], max_size=3)


def large_listed(inner: tuple[pa.DataType, Any]) -> tuple[pa.DataType, Any]:
    return pa.large_list(inner[0]), st.lists(st.none() | inner[1], max_size=3)


def paired(inner: tuple[pa.DataType, Any]) -> tuple[pa.DataType, Any]:
    return pa.list_(inner[0], 2), st.lists(inner[1], min_size=2, max_size=2)


def structured(inner: tuple[pa.DataType, Any]) -> tuple[pa.DataType, Any]:
    values = st.fixed_dictionaries({"x": st.none() | inner[1], "y": st.none() | st.booleans()})
    return pa.struct([pa.field("x", inner[0]), pa.field("y", pa.bool_())]), values


def mapped(inner: tuple[pa.DataType, Any]) -> tuple[pa.DataType, Any]:
    values = st.dictionaries(TEXTS, st.none() | inner[1], max_size=2)
    return pa.map_(pa.string(), inner[0]), values.map(lambda one: list(one.items()))


WRAPPERS = st.sampled_from([listed, large_listed, paired, structured, mapped])


def wrapped(leaf: tuple[pa.DataType, Any], wrappers: list[Any]) -> tuple[pa.DataType, Any]:
    for wrap in wrappers:
        leaf = wrap(leaf)
    return leaf


TYPES = st.builds(
    wrapped,
    st.sampled_from(LEAVES),
    st.lists(WRAPPERS, max_size=2),
)


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    output = io.BytesIO()
    with ipc.new_stream(
        output, batches[0].schema, options=ipc.IpcWriteOptions(**options)
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return output.getvalue()


def row(**columns: tuple[Any, pa.DataType]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array([v], t) for name, (v, t) in columns.items()})


def broken(draw: st.DrawFn, good: bytes, batch: pa.RecordBatch) -> bytes:
    whole = [
        *(b"", good[:-1], good + b"\0", good + good, good[:8], stream(batch, batch)),
        *(stream(batch.slice(0, 0)), END, b"\xff" * 16, good[: len(good) // 2]),
    ]
    return draw(st.sampled_from(whole))


@st.composite
def made(draw: st.DrawFn) -> tuple[list[bytes], list[Any], pa.Schema]:
    """Streams, the rows that were written (None: a broken one), and the columns they need."""
    kinds = [
        {name: draw(TYPES) for name in names}
        for names in draw(st.sampled_from([[("a",)], [("a", "b"), ("c",)]]))
    ]
    streams: list[bytes] = []
    rows: list[Any] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(kinds))
        values = {name: draw(st.none() | each[1]) for name, each in kind.items()}
        batch = row(**{name: (values[name], each[0]) for name, each in kind.items()})
        good = stream(batch, **draw(st.sampled_from([{}, {}, {"compression": "zstd"}])))
        if draw(st.integers(0, 4)) == 0:
            streams.append(broken(draw, good, batch))
            rows.append(None)
        else:
            streams.append(good)
            rows.append(values)
    return streams, rows, pa.schema([])


def plain(value: Any) -> Any:
    """What a value looks like once it was read back."""
    if isinstance(value, dict):
        return {name: plain(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else value
    return getattr(value, "bytes", value)


GONE = pa.struct([("x", pa.dictionary(pa.int8(), pa.string()))])


@example(([stream(row(a=(None, GONE)))], [{"a": None}], pa.schema([])))
@given(made())
def test_a_batch_is_its_records_one_by_one_and_each_is_what_was_written(
    drawn: tuple[list[bytes], list[Any], pa.Schema],
) -> None:
    streams, rows, schema = drawn
    array = pa.array(streams, pa.binary())
    decoder = ArrowDecoder(schema, may_add_columns=True, time_formats={})
    if (wanted := decoder.decode(array).proposed_schema) is not None:
        decoder = ArrowDecoder(wanted, may_add_columns=True, time_formats={})
    together = verdicts(decoder.decode(array), len(streams))
    alone = [verdicts(decoder.decode(pa.array([v], pa.binary())), 1)[0] for v in streams]
    assert repr(together) == repr(alone)
    for outcome, values in zip(together, rows, strict=True):
        if values is None:
            assert isinstance(outcome, tuple)
            continue
        assert isinstance(outcome, dict), outcome
        read = {name: value for name, value in outcome.items() if value is not None}
        written = {name: value for name, value in values.items() if value is not None}
        assert plain(read) == plain(written)


NAMED = row(id=(1, pa.int64()), name=("a", pa.string()))


def reason(value: bytes) -> str:
    with pytest.raises(MalformedError) as raised:
        look(pa.py_buffer(value))
    return str(raised.value)


def test_a_stream_of_another_number_of_rows_is_no_row() -> None:
    two = pa.concat_batches([NAMED, NAMED])
    assert reason(stream(two)) == "expected batches=1 of rows=1, got batches=1 of rows=2"
    assert reason(stream(NAMED, NAMED)) == "expected batches=1 of rows=1, got batches=2 of rows=2"
    empty = bytes(NAMED.schema.serialize()) + END
    assert reason(empty) == "expected batches=1 of rows=1, got batches=0 of rows=0"


def test_what_claims_more_memory_than_it_has_bytes_is_not_read() -> None:
    many = pa.record_batch({"n": pa.array([[None] * 3], pa.list_(pa.null()))})
    good = stream(many)
    look(pa.py_buffer(good))
    hostile = good.replace(struct.pack("<q", 3), struct.pack("<q", 2**40))
    assert hostile != good
    assert "more elements" in reason(hostile)
    packed = stream(row(t=("x" * 5_000, pa.string())), compression="zstd")
    place = packed.rindex(struct.pack("<q", 5_000))
    bomb = packed[:place] + struct.pack("<q", 1 << 40) + packed[place + 8 :]
    assert "when it is unpacked" in reason(bomb)


def test_no_cut_and_no_flipped_bit_does_more_than_make_a_dead_letter() -> None:
    good = stream(
        row(
            id=(7, pa.int64()),
            tags=(["a", "b"], pa.list_(pa.string())),
            kind=("x", pa.dictionary(pa.int8(), pa.string())),
            gone=(None, pa.list_(GONE)),
            pair=([None], pa.list_(pa.list_(GONE, 2))),
        )
    )
    columns = ArrowDecoder(pa.schema([]), may_add_columns=True, time_formats={}).decode(
        pa.array([good], pa.binary())
    )
    assert columns.proposed_schema is not None
    decoder = ArrowDecoder(columns.proposed_schema, time_formats={})
    cuts = [good[:length] for length in range(0, len(good), 5)]
    flips = [
        good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(len(good))
    ]
    found = verdicts(
        decoder.decode(pa.array([good, *cuts, *flips, good], pa.binary())),
        2 + len(cuts) + len(flips),
    )
    whole = {"id": 7, "tags": ["a", "b"], "kind": "x", "gone": None, "pair": [None]}
    assert found[0] == found[-1] == whole
    # Without the mark of its end a stream is whole.
    rows = [v for v, cut in zip(found[1:], cuts, strict=False) if isinstance(v, dict)]
    assert len(rows) <= 2


def nested(place: int, *, is_null: bool) -> dict[str, pa.Array]:
    """One element each, that has places in a dictionary of one value, below a null or not."""
    places = pa.DictionaryArray.from_arrays(pa.array([place] * 2, pa.int8()), ["v"], safe=False)
    one, two = (pa.array([is_null] * count) for count in (1, 2))
    structs = pa.StructArray.from_arrays([places], names=["x"], mask=two)
    bounds = pa.array([0, 2], pa.int32())
    return {
        "struct": structs.slice(0, 1),
        "structs": pa.ListArray.from_arrays(bounds, structs),
        "list": pa.ListArray.from_arrays(bounds, places, mask=one),
        "large": pa.LargeListArray.from_arrays(bounds.cast(pa.int64()), places, mask=one),
        "pair": pa.FixedSizeListArray.from_arrays(places, 2, mask=one),
        "map": pa.MapArray.from_arrays(bounds, ["k", "l"], structs),
    }


@pytest.mark.parametrize("place", [0, 1, 100, -1])
def test_a_place_in_a_dictionary_may_be_wrong_below_a_null_and_nowhere_else(place: int) -> None:
    unseen = nested(place, is_null=True)
    good = stream(pa.record_batch(nested(0, is_null=False)))
    streams = [good, stream(pa.record_batch(unseen)), good]
    for name, array in nested(place, is_null=False).items():
        streams.append(stream(pa.record_batch({**unseen, name: array})))
    values = pa.array(streams, pa.binary())
    columns = ArrowDecoder(pa.schema([]), may_add_columns=True, time_formats={}).decode(values)
    assert columns.proposed_schema is not None

    found = verdicts(ArrowDecoder(columns.proposed_schema, time_formats={}).decode(values), 9)

    shown = {name: array.to_pylist()[0] for name, array in nested(0, is_null=False).items()}
    hidden = {name: array.to_pylist()[0] for name, array in nested(0, is_null=True).items()}
    assert found[:3] == [shown, hidden, shown]
    one_shown = [{**hidden, name: shown[name]} for name in shown]
    unreadable = ("invalid_encoding", "Arrow cannot read the stream")
    assert found[3:] == (one_shown if place == 0 else [unreadable] * len(shown))


def test_columns_meet_the_table_by_name_and_types_that_no_table_has_are_named() -> None:
    schema = pa.schema([pa.field("id", pa.int32(), nullable=False), pa.field("at", pa.date32())])
    decoder = ArrowDecoder(schema, time_formats={})
    values = [
        stream(row(id=(1, pa.int64()), at=("2026-01-02", pa.string()))),
        stream(row(id=(1 << 40, pa.int64()))),
        stream(row(at=(date(2026, 1, 2), pa.date32()))),
        stream(row(id=(3, pa.int8()), more=(None, pa.string()))),
        stream(row(id=(3, pa.int8()), more=("x", pa.string()))),
        stream(row(id=(3, pa.int8()), gap=(5, pa.duration("s")))),
        stream(row(id=(3, pa.int8()), at=(time(1), pa.time64("us")))),
    ]
    found = verdicts(decoder.decode(pa.array(values, pa.binary())), len(values))
    assert found[0] == {"id": 1, "at": date(2026, 1, 2)}
    assert found[3] == {"id": 3, "at": None}
    assert [found[n][0] for n in (1, 2, 4, 5, 6)] == [
        "number_out_of_range",
        "required_field_missing",
        "unknown_field",
        "unusable_schema",
        "wrong_type",
    ]
