"""Tokens of MessagePack records → the table's columns, from the top down.

Where a value does not have the table's type, it is kept if that type holds exactly it, by the rules
of `conform`; so a column may get integers of one record and texts of the next.

| MessagePack | as |
|---|---|
| integer | long; beyond that decimal(20,0) |
| float 32, float 64 | double |
| str, bin | string, binary |
| extension -1 | timestamptz; digits beyond the microsecond are cut off, towards the past |
| array, map | list; struct or map with text keys |
| nil, or nothing at all | null |
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from k2i_core.decode.arrow import AnyArray, AnyField, indices, list_array, map_array, nulls
from k2i_core.decode.conform import Fault, Faults, conform
from k2i_core.decode.cursors import Cursors, Flags, Integers, nulls_where, numbers_array
from k2i_core.decode.framing import to_texts
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_trees import ErrorClass, shown
from k2i_core.decode.json_values import MICROSECONDS_RANGE
from k2i_core.decode.msgpack_tokens import KINDS, Kind, Tokens

ABSENT = -1
"""Stands for a token where there is none, and for a row where nothing is asked for."""

TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")
TIMESTAMP_EXTENSION = 0xFF
"""Minus one, as a byte."""

_TIMESTAMP_BYTES = (4, 8, 12)
_UNSIGNED_64, _FLOAT_32 = 0xCF, 0xCA
_SIGNED = range(0xD0, 0xD4)
_TRUE = 0xC3
_NANOSECONDS = 1_000_000_000
_EMPTY = np.zeros(0, np.int64)

_WIDER: Mapping[pa.DataType, Kind] = {pa.int32(): Kind.INTEGER, pa.float32(): Kind.FLOAT}


class Reading:
    """The rows of one batch, while they are made.

    Attributes:
        faults: Row → why it is none.
        doubtful: Rows with something that the table lacks: a field, or a wider number.
        unheld: Those with a wider number, which stands as null in its column.
    """

    def __init__(
        self,
        cursors: Cursors,
        tokens: Tokens,
        faults: Faults,
        time_formats: Mapping[str, str],
        *,
        may_add_columns: bool,
    ) -> None:
        self._cursors = cursors
        self._tokens = tokens
        self._time_formats = time_formats
        self._may_add_columns = may_add_columns
        self.faults = faults
        self.doubtful: set[int] = set()
        self.unheld: set[int] = set()

    def columns(self, row_schema: pa.Schema) -> list[AnyArray]:
        """Return the columns of all whole records; those of rows that are faulty mean nothing."""
        tokens = self._tokens
        is_map = tokens.kinds[tokens.roots] == Kind.MAP
        fault = (ErrorClass.NOT_AN_OBJECT, "expected a map")
        self._fail(tokens.rows[tokens.roots[~is_map]], fault)
        roots = np.where(is_map, tokens.roots, ABSENT)
        owners = np.where(is_map, tokens.rows[tokens.roots], ABSENT)
        return self._fields(roots, owners, list(row_schema), "")

    def _fail(self, rows: Integers, fault: Fault) -> None:
        for row in rows.tolist():
            if row != ABSENT:
                self.faults.setdefault(row, fault)

    def _fields(
        self, nodes: Integers, owners: Integers, fields: "list[AnyField]", path: str
    ) -> list[AnyArray]:
        """Return a column a field of n maps; a map may be absent."""
        present = np.flatnonzero(nodes != ABSENT)
        inside, places = self._tokens.inside(nodes[present])
        keys, values, places = inside[0::2], inside[1::2], present[places[0::2]]
        names = {field.name.encode(): number for number, field in enumerate(fields)}
        numbers = self._named(keys, names, path)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(len(fields) + 1))
        self._unknown(values[order[: bounds[0]]], keys[order[: bounds[0]]], path)
        made: list[AnyArray] = []
        for number, field in enumerate(fields):
            own = order[bounds[number] : bounds[number + 1]]
            below = np.full(len(nodes), ABSENT)
            below[places[own]] = values[own]
            inner_path = f"{path}{shown(field.name)}"
            is_twice = np.bincount(places[own], minlength=len(nodes)) > 1
            fault = (ErrorClass.DUPLICATE_KEY, f"{inner_path}: the key is there twice")
            self._fail(owners[is_twice], fault)
            made.append(self._field(below, owners, field, inner_path))
        return made

    def _named(self, keys: Integers, names: Mapping[bytes, int], path: str) -> Integers:
        """Return which field each key names; ABSENT for none."""
        is_text = self._tokens.kinds[keys] == Kind.TEXT
        fault = (ErrorClass.WRONG_TYPE, f"{path or 'the record'}: a key is no text")
        self._fail(self._tokens.rows[keys[~is_text]], fault)
        encoded: Any = self._binaries(keys).dictionary_encode()
        known = [names.get(name, ABSENT) for name in encoded.dictionary.to_pylist()]
        numbers = np.array([*known, ABSENT])[encoded.indices.to_numpy(zero_copy_only=False)]
        return np.where(is_text, numbers, ABSENT)

    def _unknown(self, values: Integers, keys: Integers, path: str) -> None:
        """Note what the table lacks, unless it holds nothing."""
        tokens = self._tokens
        kinds = tokens.kinds[values]
        is_nested = (kinds == Kind.LIST) | (kinds == Kind.MAP)
        holds = (kinds != Kind.NIL) & ~(is_nested & (tokens.lengths[values] == 0))
        is_unsure = holds if self._may_add_columns else holds & is_nested
        self.doubtful.update(tokens.rows[values[is_unsure]].tolist())
        for key in keys[holds & ~is_unsure].tolist():
            name = self._binaries(np.array([key]))[0].as_py().decode(errors="replace")
            message = f"{path}{shown(name)}: the schema has no such field"
            self.faults.setdefault(int(tokens.rows[key]), (ErrorClass.UNKNOWN_FIELD, message))

    def _field(self, nodes: Integers, owners: Integers, field: AnyField, path: str) -> AnyArray:
        is_there = nodes != ABSENT
        is_there[is_there] = self._tokens.kinds[nodes[is_there]] != Kind.NIL
        if not field.nullable:
            fault = (ErrorClass.REQUIRED_FIELD_MISSING, f"{path}: required, but missing or null")
            self._fail(owners[~is_there], fault)
        nodes = np.where(is_there, nodes, ABSENT)
        type_ = field.type
        if isinstance(type_, pa.StructType):
            nodes = self._of_kind(nodes, owners, Kind.MAP, path)
            inside = np.where(nodes == ABSENT, ABSENT, owners)
            made = self._fields(nodes, inside, list(type_), f"{path}.")
            return pa.StructArray.from_arrays(made, fields=list(type_), mask=_mask(nodes))
        if isinstance(type_, pa.ListType):
            nodes = self._of_kind(nodes, owners, Kind.LIST, path)
            elements, offsets, inside = self._entries(nodes, owners)
            made = self._field(elements, inside, type_.value_field, f"{path}[]")
            return list_array(offsets, made, type_, _mask(nodes))
        if isinstance(type_, pa.MapType):
            return self._map(self._of_kind(nodes, owners, Kind.MAP, path), owners, type_, path)
        return self._leaf(nodes, owners, field, path)

    def _of_kind(self, nodes: Integers, owners: Integers, kind: Kind, path: str) -> Integers:
        """Return the nodes of a kind, ABSENT for others, which are of the wrong type."""
        present = np.flatnonzero(nodes != ABSENT)
        is_other = self._tokens.kinds[nodes[present]] != kind
        if not is_other.any():
            return nodes
        others = present[is_other]
        self._fail(owners[others], (ErrorClass.WRONG_TYPE, f"{path}: the table has another type"))
        nodes = nodes.copy()
        nodes[others] = ABSENT
        return nodes

    def _entries(self, nodes: Integers, owners: Integers) -> tuple[Integers, AnyArray, Integers]:
        """Return what n lists or maps hold, their offsets in it, and the row of each."""
        present = np.flatnonzero(nodes != ABSENT)
        inside, places = self._tokens.inside(nodes[present])
        lengths = np.zeros(len(nodes), np.int64)
        lengths[present] = self._tokens.lengths[nodes[present]]
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        return inside, pa.array(offsets), owners[present[places]]

    def _map(self, nodes: Integers, owners: Integers, type_: pa.MapType, path: str) -> AnyArray:
        inside, offsets, inner = self._entries(nodes, owners)
        keys, values, inner = inside[0::2], inside[1::2], inner[0::2]
        lists = np.repeat(np.arange(len(nodes)), np.diff(offsets.to_numpy()))
        is_text = self._tokens.kinds[keys] == Kind.TEXT
        self._fail(inner[~is_text], (ErrorClass.WRONG_TYPE, f"{path}: a key is no text"))
        binaries = self._binaries(keys)
        encoded: Any = binaries.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        marks = lists * max(len(encoded.dictionary), 1) + codes
        order = np.argsort(marks, kind="stable")
        twice = order[1:][marks[order][1:] == marks[order][:-1]]
        fault = (ErrorClass.DUPLICATE_KEY, f"{path}: a key is there twice")
        self._fail(inner[twice], fault)
        texts = self._texts(binaries, inner, f"{path}{{}}").fill_null("")
        items = self._field(values, inner, type_.item_field, f"{path}{{}}")
        return map_array(offsets, (texts, items), type_, _mask(nodes))

    def _leaf(self, nodes: Integers, owners: Integers, field: AnyField, path: str) -> AnyArray:
        """Return a column of values that hold no others, of whatever kinds they are."""
        present = np.flatnonzero(nodes != ABSENT)
        kinds = self._tokens.kinds[nodes[present]]
        column = pa.field(path, field.type)
        pieces: list[AnyArray] = [nulls(1, field.type)]
        places = np.zeros(len(nodes), np.int64)
        count = 1
        for kind in np.unique(kinds).tolist():
            chosen = present[kinds == kind]
            for array, subset in self._written(Kind(kind), nodes[chosen], owners[chosen], column):
                own = chosen[subset]
                made = self._conformed(array, owners[own], column, Kind(kind))
                if len(own) == len(nodes):
                    return made
                pieces.append(made)
                places[own] = count + np.arange(len(own))
                count += len(own)
        whole: AnyArray = pa.concat_arrays(pieces)
        return whole.take(indices(places))

    def _conformed(
        self, array: AnyArray, owners: Integers, column: AnyField, kind: Kind
    ) -> AnyArray:
        rows = pa.RecordBatch.from_arrays([array], names=[column.name])
        made, misfits = conform(rows, pa.schema([column]), self._time_formats)
        for place, fault in misfits.items():
            row = int(owners[place])
            is_wider = fault[0] is ErrorClass.NUMBER_OUT_OF_RANGE and (
                _WIDER.get(column.type) is kind
            )
            if is_wider and self._may_add_columns and row != ABSENT:
                self.doubtful.add(row)
                self.unheld.add(row)
            else:
                self._fail(np.array([row]), fault)
        return made.column(0)

    def _written(  # noqa: PLR0911 - one return a kind
        self, kind: Kind, nodes: Integers, owners: Integers, column: AnyField
    ) -> "list[tuple[AnyArray, Integers]]":
        """Return the values of one kind as they were written, and which of `nodes` they are."""
        everything = np.arange(len(nodes))
        tags = self._tokens.tags[nodes]
        match kind:
            case Kind.BOOLEAN:
                return [(pa.array(tags == _TRUE), everything)]
            case Kind.INTEGER:
                return self._integers(nodes, tags, owners, column)
            case Kind.FLOAT:
                return [(self._floats(nodes, tags), everything)]
            case Kind.TEXT:
                texts = self._texts(self._binaries(nodes), owners, column.name)
                return [(texts, everything)]
            case Kind.BINARY:
                return [(self._binaries(nodes), everything)]
            case Kind.EXTENSION:
                return [self._timestamps(nodes, owners, column.name)]
            case _:
                fault = (ErrorClass.WRONG_TYPE, f"{column.name}: the table has another type")
                self._fail(owners, fault)
                return []

    def _integers(
        self, nodes: Integers, tags: "np.ndarray[Any, Any]", owners: Integers, column: AnyField
    ) -> "list[tuple[AnyArray, Integers]]":
        numbers = self._whole_numbers(nodes, tags)
        is_large = (tags == _UNSIGNED_64) & (numbers < 0)
        if not is_large.any():
            return [(numbers_array(numbers, pa.int64()), np.arange(len(nodes)))]
        small, large = np.flatnonzero(~is_large), np.flatnonzero(is_large)
        unsigned = numbers[large].astype(np.uint64)
        made: list[tuple[AnyArray, Integers]] = [(numbers_array(numbers[small], pa.int64()), small)]
        if pa.types.is_floating(column.type):
            return [*made, (pa.array(unsigned.astype(np.float64)), large)]
        if pa.types.is_integer(column.type):
            message = f"{column.name}: does not fit the table's type"
            self._fail(owners[large], (ErrorClass.NUMBER_OUT_OF_RANGE, message))
            return made
        return [*made, (pa.array(unsigned).cast(pa.decimal128(20, 0)), large)]

    def _whole_numbers(self, nodes: Integers, tags: "np.ndarray[Any, Any]") -> Integers:
        """Return integers; those of 64 bits without a sign as if they had one."""
        sizes = self._tokens.lengths[nodes]
        words = self._cursors.words_at(self._tokens.starts[nodes], 8).byteswap()
        shifts = (64 - 8 * np.maximum(sizes, 1)).astype(np.uint64)
        unsigned = (words >> shifts).astype(np.int64)
        signed = words.astype(np.int64) >> shifts.astype(np.int64)
        is_signed = (tags >= _SIGNED.start) & (tags < _SIGNED.stop)
        fixed = tags.astype(np.int8).astype(np.int64)
        return np.where(sizes == 0, fixed, np.where(is_signed, signed, unsigned))

    def _floats(self, nodes: Integers, tags: "np.ndarray[Any, Any]") -> AnyArray:
        words = self._cursors.words_at(self._tokens.starts[nodes], 8).byteswap()
        singles = (words >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
        return numbers_array(
            np.where(tags == _FLOAT_32, singles, words.view(np.float64)), pa.float64()
        )

    def _texts(self, binaries: AnyArray, owners: Integers, path: str) -> AnyArray:
        try:
            return to_texts(binaries)
        except UnfitError:
            unfit = find_unfit(binaries, to_texts)
        self._fail(owners[unfit], (ErrorClass.INVALID_UTF8, f"{path}: not utf-8"))
        is_bad = np.zeros(len(binaries), np.bool_)
        is_bad[unfit] = True
        return to_texts(nulls_where(binaries, is_bad))

    def _binaries(self, nodes: Integers) -> pa.BinaryArray:
        tokens = self._tokens
        lengths = np.where(_HOLDS_BYTES[tokens.tags[nodes]], tokens.lengths[nodes], 0)
        return self._cursors.binaries(tokens.starts[nodes], lengths)

    def _timestamps(
        self, nodes: Integers, owners: Integers, path: str
    ) -> tuple[AnyArray, Integers]:
        """Return extensions that are timestamps; others are of no type."""
        starts, sizes = self._tokens.starts[nodes], self._tokens.lengths[nodes]
        is_stamp = np.isin(sizes, _TIMESTAMP_BYTES)
        is_stamp &= self._cursors.bytes_[starts] == TIMESTAMP_EXTENSION
        fault = (ErrorClass.WRONG_TYPE, f"{path}: an extension that is no timestamp")
        self._fail(owners[~is_stamp], fault)
        chosen = np.flatnonzero(is_stamp)
        starts, sizes = starts[chosen] + 1, sizes[chosen]
        words = self._cursors.words_at(starts, 8).byteswap()
        later = self._cursors.words_at(starts + 4, 8).byteswap()
        seconds = np.where(sizes == 4, (words >> np.uint64(32)).astype(np.int64), 0)  # noqa: PLR2004 - see below
        nanoseconds = np.zeros(len(chosen), np.int64)
        # 4 bytes: seconds. 8: 30 bits of nanoseconds, 34 of seconds. 12: 32 bits, and 64 signed.
        packed, long_ = sizes == 8, sizes == 12  # noqa: PLR2004
        seconds = np.where(packed, (words & np.uint64((1 << 34) - 1)).astype(np.int64), seconds)
        nanoseconds = np.where(packed, (words >> np.uint64(34)).astype(np.int64), nanoseconds)
        seconds = np.where(long_, later.astype(np.int64), seconds)
        nanoseconds = np.where(long_, (words >> np.uint64(32)).astype(np.int64), nanoseconds)
        lowest, highest = (bound // 1_000_000 for bound in MICROSECONDS_RANGE)
        is_bad = (seconds < lowest) | (seconds > highest) | (nanoseconds >= _NANOSECONDS)
        message = f"{path}: a timestamp outside of the years 1 to 9999, or of more than a second"
        self._fail(owners[chosen[is_bad]], (ErrorClass.NUMBER_OUT_OF_RANGE, message))
        microseconds = np.where(is_bad, 0, seconds) * 1_000_000 + np.where(
            is_bad, 0, nanoseconds // 1_000
        )
        return numbers_array(microseconds, TIMESTAMP_TYPE), chosen


_HOLDS_BYTES: Flags = (KINDS == Kind.TEXT) | (KINDS == Kind.BINARY)


def _mask(nodes: Integers) -> pa.BooleanArray | None:
    is_absent = nodes == ABSENT
    return pa.array(is_absent) if is_absent.any() else None
