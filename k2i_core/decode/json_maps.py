"""JSON texts with maps → columns: maps are spelled as arrays of entries before they are parsed.

Arrow's parser reads an object as a struct, whose fields it must know; the keys of a map are data.
An array of entries it can read, so `{"labels":{"a":1}}` is parsed as
`{"labels":[{"key":"a","value":1}]}`. All texts are spelled anew at once, by array operations over
the positions of their brackets, colons and commas.

Why a text stays as good or as bad as it was. Nothing is taken out but the brackets, colons and
commas of maps, each for text that has them again, all of it outside strings. What lies between
stays where it is, so what was no key or no value is none afterwards either. What would turn bad
into good is refused here: an entry without its colon, a key that is no string, an array where a map
should be, and after the parsing a key that is there twice.

A key whose spelling has a backslash may be the name of a map in disguise. Such a text is spelled
anew from its tree, one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import (
    AnyArray,
    buffer_of,
    byte_lengths,
    concat_batches,
    list_array,
    list_offsets,
    map_array,
    null_mask,
    struct_fields,
    surround,
)
from k2i_core.decode.framing import WHITESPACE
from k2i_core.decode.isolation import UnreadableError
from k2i_core.decode.json_columns import ColumnReader
from k2i_core.decode.json_structure import (
    BRACE,
    BRACKET,
    COLON,
    COMMA,
    END_BRACE,
    END_BRACKET,
    JsonStructure,
    Positions,
)
from k2i_core.decode.json_trees import Members, RecordError, Tree, parse, write

KEY, VALUE = "key", "value"

SLICE_BYTES_MAX = 4 << 20
"""Texts are spelled in slices of about so many bytes. Larger: more memory, thirty times this;
smaller: the fixed cost of some fifty array operations shows."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """A piece of text and the bytes before which it is inserted.

    Attributes:
        is_behind: Whether it belongs to the byte that it stands behind.
    """

    places: Positions
    piece: str
    is_behind: bool = False


class MapReader:
    """Reads texts into columns of the parse types, like `ColumnReader`; immutable."""

    def __init__(self, parse_schema: pa.Schema) -> None:
        self.parse_schema = parse_schema
        row = _place_of(pa.struct(list(parse_schema)))
        assert row is not None, "without maps, a ColumnReader is what reads"
        self._row = row
        entries = [f.with_type(_entries_type(f.type)) for f in parse_schema]
        self._reader = ColumnReader(pa.schema(entries))

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        """Read n texts as n rows.

        Raises:
            UnreadableError: At least one is not one object of the schema's fields. Try parts.

        """
        slice_count = -(-(pc.sum(byte_lengths(texts)).as_py() or 0) // SLICE_BYTES_MAX) or 1
        step = -(-len(texts) // slice_count) or 1
        batches: list[pa.RecordBatch] = []
        for start in range(0, max(len(texts), 1), step):
            try:
                batches.append(self._read_slice(texts.slice(start, step)))
            except UnreadableError as error:
                raise UnreadableError(None if error.row is None else start + error.row) from error
        return batches[0] if len(batches) == 1 else concat_batches(batches)

    def _read_slice(self, texts: pa.StringArray) -> pa.RecordBatch:
        parsed = self._reader.read(spelled_with_entries(texts, self._row))
        columns = [
            _with_maps(parsed.column(f.name), f.type, np.arange(len(texts)))
            for f in self.parse_schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.parse_schema)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a row where there is a map, or a way to one.

    Attributes:
        is_map: Whether the value at this place is a map.
        fields: Of a struct: name → place.
        element: Of a list or a map: the place of its elements or values.
    """

    is_map: bool = False
    fields: Mapping[str, "Place"] = field(default_factory=lambda: MappingProxyType({}))
    element: "Place | None" = None


def has_map(type_: pa.DataType) -> bool:
    """Tell whether a type is a map or holds one."""
    return _place_of(type_) is not None


def _place_of(type_: pa.DataType) -> Place | None:
    if isinstance(type_, pa.MapType):
        return Place(is_map=True, element=_place_of(type_.item_type))
    if isinstance(type_, pa.ListType):
        element = _place_of(type_.value_type)
        return Place(element=element) if element else None
    if isinstance(type_, pa.StructType):
        below = {child.name: _place_of(child.type) for child in type_}
        fields = {name: place for name, place in below.items() if place}
        return Place(fields=MappingProxyType(fields)) if fields else None
    return None


def spelled_with_entries(texts: pa.StringArray, row: Place) -> pa.StringArray:
    """Spell every map of n texts as an array of entries.

    Args:
        texts: Each `{…}`, valid UTF-8, without surrounding whitespace.
        row: The ways to the maps.

    Raises:
        UnreadableError: At least one text is no JSON object, or has something else than a map or
            null where a map belongs.

    """
    structure = JsonStructure(texts)
    found, disguised = _find_maps(structure, row)
    maps, empty = _split_empty(structure, found)
    data = structure.data
    if len(empty):
        data = data.copy()
        data[structure.tokens[empty]] = BRACKET
        data[structure.tokens[empty + 1]] = END_BRACKET
    depths = structure.depths[maps]
    levels = [(maps[depths == depth], int(depth)) for depth in np.unique(depths)]
    insertions = [one for level in levels for one in _insertions(structure, *level)]
    spelled = _inserted(data, structure.starts, insertions)
    if not disguised:
        return spelled
    anew = pa.array([_spelled_from_tree(texts, index, row) for index in disguised], pa.string())
    mask = np.zeros(len(texts), np.bool_)
    mask[disguised] = True
    return cast("pa.StringArray", pc.replace_with_mask(spelled, pa.array(mask), anew))


def _find_maps(structure: JsonStructure, row: Place) -> tuple[Positions, list[int]]:
    """Return which tokens begin a map, and which texts have a key in disguise.

    Level by level, because what a bracket holds follows from what the bracket around it holds.
    """
    opens = structure.opens
    depths = structure.depths[opens]
    maps: list[Positions] = []
    disguised: set[int] = set()
    places: list[Place] = [row]
    around = opens[depths == 1]
    held = np.zeros(len(around), np.int64)
    depth = 1
    while places:
        depth += 1
        brackets = opens[depths == depth]
        # The bracket around is the last one before it that is one level up.
        parents = np.searchsorted(around, brackets) - 1
        below: list[Place] = []
        held_below = np.full(len(brackets), -1, np.int64)
        for number, place in enumerate(places):
            inside = np.flatnonzero(held[parents] == number)
            if place.element is not None:
                held_below[inside] = len(below)
                below.append(place.element)
            named, texts = _by_name(structure, brackets, inside, tuple(place.fields))
            disguised.update(texts)
            for name, members in named.items():
                held_below[members] = len(below)
                below.append(place.fields[name])
        for number, place in enumerate(below):
            if place.is_map:
                begun = brackets[held_below == number]
                structure.refuse_any(begun[structure.chars[begun] != BRACE])
                maps.append(begun)
        around, held, places = brackets, held_below, below if len(brackets) else []
    return np.sort(np.concatenate([np.zeros(0, np.int64), *maps])), sorted(disguised)


def _by_name(
    structure: JsonStructure, brackets: Positions, inside: Positions, names: tuple[str, ...]
) -> tuple[dict[str, Positions], list[int]]:
    """Find out the names under which brackets stand in their objects.

    Returns:
        Name → which of `brackets`; and the texts that spell a name with a backslash.

    """
    if not names or not len(inside):
        return {}, []
    colons = brackets[inside] - 1
    is_value = structure.chars[colons] == COLON
    inside, colons = inside[is_value], structure.tokens[colons[is_value]]
    ends = np.searchsorted(structure.quotes, colons) - 1
    inside, ends = inside[ends > 0], ends[ends > 0]
    key_starts, key_ends = structure.quotes[ends - 1] + 1, structure.quotes[ends]
    named: dict[str, Positions] = {}
    for name in names:
        spelling = np.frombuffer(name.encode(), np.uint8)
        fits = np.flatnonzero(key_ends - key_starts == len(spelling))
        keys = structure.data[key_starts[fits, None] + np.arange(len(spelling))]
        named[name] = inside[fits[(keys == spelling).all(axis=1)]]
    first, last = np.searchsorted(structure.backslashes, (key_starts, key_ends))
    return named, [structure.text_of(int(start)) for start in key_starts[first != last]]


def _insertions(structure: JsonStructure, maps: Positions, depth: int) -> list[Insertion]:
    """Return what makes arrays of entries out of maps that lie equally deep and are not empty.

    Raises:
        UnreadableError: In one of them, keys, colons and commas do not take turns.

    """
    at_depth = np.flatnonzero(structure.depths == depth)
    brackets = structure.opens[structure.depths[structure.opens] == depth]
    owners = brackets[np.searchsorted(brackets, at_depth, side="right") - 1]
    is_of_map = np.isin(owners, maps)
    tokens, owners = at_depth[is_of_map], owners[is_of_map]
    chars = structure.chars[tokens]
    colons, commas, closes = (tokens[chars == char] for char in (COLON, COMMA, END_BRACE))

    # Each colon has a string before it, and before that its map's bracket or one of its commas.
    before = colons - 1
    follows = (structure.depths[before] == depth) & np.isin(structure.chars[before], (BRACE, COMMA))
    begins, ends = np.searchsorted(
        structure.quotes, (structure.tokens[before], structure.tokens[colons])
    )
    is_key = follows & (ends - begins == 2)  # noqa: PLR2004 - the two quotes of one string
    structure.refuse_any(colons[~is_key])
    # One colon more than commas: then each comma has its own.
    colon_counts = _count(owners[chars == COLON], maps)
    comma_counts = _count(owners[chars == COMMA], maps)
    structure.refuse_any(maps[colon_counts != comma_counts + 1])

    opened, between, next_, closed = (
        structure.tokens[some] for some in (maps, colons, commas, closes)
    )
    return [
        Insertion(opened, "["),
        Insertion(opened + 1, f'"{KEY}":', is_behind=True),
        Insertion(between, f',"{VALUE}"'),
        Insertion(next_, "}"),
        Insertion(next_ + 1, f'{{"{KEY}":', is_behind=True),
        Insertion(closed + 1, "]", is_behind=True),
    ]


def _split_empty(structure: JsonStructure, maps: Positions) -> tuple[Positions, Positions]:
    """Set apart the maps in which there is nothing but whitespace."""
    begins, ends = structure.tokens[maps], structure.tokens[maps + 1]
    is_short = structure.chars[maps + 1] == END_BRACE
    is_empty = is_short & (ends == begins + 1)
    for index in np.flatnonzero(is_short & ~is_empty):
        between = structure.data[begins[index] + 1 : ends[index]].tobytes()
        is_empty[index] = not between.strip(WHITESPACE.encode())
    return maps[~is_empty], maps[is_empty]


def _count(owners: Positions, maps: Positions) -> Positions:
    """Return how often each map is among the owners; both ascending."""
    return np.searchsorted(owners, maps, side="right") - np.searchsorted(owners, maps)


def _inserted(
    data: npt.NDArray[np.uint8], starts: Positions, insertions: list[Insertion]
) -> pa.StringArray:
    """Return the texts that lie in `data` between `starts`, with pieces inserted."""
    if not insertions:
        return _texts(starts, buffer_of(data))
    places = np.concatenate([one.places for one in insertions])
    kinds = np.repeat(np.arange(len(insertions)), [len(one.places) for one in insertions])
    # Where two meet, what is behind one byte comes before what precedes the next.
    precedes = np.array([not one.is_behind for one in insertions])[kinds]
    order = np.argsort(places * 2 + precedes)
    places, kinds = places[order], kinds[order]
    between = _texts(np.concatenate(([0], places, [len(data)])), buffer_of(data))
    pieces = pa.array([*(one.piece for one in insertions), ""], pa.string())
    chosen = pieces.take(pa.array(np.append(kinds, len(insertions)), pa.int64()))
    joined = surround("", between, chosen).buffers()[2]
    assert joined is not None
    lengths = np.array([len(one.piece) for one in insertions])[kinds]
    moves = np.concatenate(([0], np.cumsum(lengths)))
    return _texts(starts + moves[np.searchsorted(places, starts)], joined)


def _texts(offsets: Positions, data: pa.Buffer) -> pa.StringArray:
    return pa.StringArray.from_buffers(len(offsets) - 1, buffer_of(offsets.astype(np.int32)), data)


def _spelled_from_tree(texts: pa.StringArray, index: int, row: Place) -> str:
    try:
        members = _tree_with_entries(parse(texts[index].as_py()), row)
    except RecordError as error:
        raise UnreadableError(index) from error
    if members is None:
        raise UnreadableError(index)
    return write(cast("Members", members))


def _tree_with_entries(tree: Tree, place: Place | None) -> Tree:
    """Return a tree with arrays of entries for its maps.

    What is no map where one belongs becomes an empty text, which no reader takes for a list.
    """
    if place is None or tree is None:
        return tree
    if place.is_map:
        if not isinstance(tree, tuple):
            return ""
        return [
            ((KEY, name), (VALUE, _tree_with_entries(below, place.element))) for name, below in tree
        ]
    if isinstance(tree, tuple):
        return tuple(
            (name, _tree_with_entries(below, place.fields.get(name))) for name, below in tree
        )
    if isinstance(tree, list) and place.element is not None:
        return [_tree_with_entries(below, place.element) for below in tree]
    return tree


def _entries_type(type_: pa.DataType) -> pa.DataType:
    """Return a type with lists of entries for its maps."""
    if isinstance(type_, pa.MapType):
        value = pa.field(VALUE, _entries_type(type_.item_type))
        return pa.list_(pa.field("element", pa.struct([pa.field(KEY, pa.string()), value])))
    if isinstance(type_, pa.ListType):
        return pa.list_(type_.value_field.with_type(_entries_type(type_.value_type)))
    if isinstance(type_, pa.StructType):
        return pa.struct([child.with_type(_entries_type(child.type)) for child in type_])
    return type_


def _with_maps(array: AnyArray, type_: pa.DataType, rows: Positions) -> AnyArray:
    """Return an array with maps for its lists of entries.

    Args:
        array: n values of `_entries_type(type_)`.
        type_: A parse type.
        rows: Which row each value belongs to.

    Raises:
        UnreadableError: A map has a key twice; names the first such row.

    """
    if not has_map(type_):
        return array
    if isinstance(type_, pa.StructType):
        assert isinstance(array, pa.StructArray)
        below = struct_fields(array)
        parts = [_with_maps(below[child.name], child.type, rows) for child in type_]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=null_mask(array))
    assert isinstance(array, pa.ListArray)
    offsets, first, count = list_offsets(array)
    values: AnyArray = array.values.slice(first, count)
    lists = np.repeat(np.arange(len(array)), np.diff(offsets.to_numpy()))
    if isinstance(type_, pa.ListType):
        elements = _with_maps(values, type_.value_type, rows[lists])
        return list_array(offsets, elements, type_, null_mask(array))
    assert isinstance(type_, pa.MapType)
    assert isinstance(values, pa.StructArray)
    keys = values.field(KEY)
    _check_unique(keys, lists, rows)
    items = _with_maps(values.field(VALUE), type_.item_type, rows[lists])
    return map_array(offsets, (keys, items), type_, null_mask(array))


def _check_unique(keys: AnyArray, lists: Positions, rows: Positions) -> None:
    encoded = keys.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    marks = np.sort(lists * max(len(encoded.dictionary), 1) + codes)
    twice = marks[1:][marks[1:] == marks[:-1]]
    if len(twice):
        raise UnreadableError(int(rows[twice[0] // len(encoded.dictionary)]))
