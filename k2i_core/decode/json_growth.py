"""Which columns records need that the schema lacks, and their types.

A type is inferred from all records that have the field; where two disagree, the one seen first
stays and the other record is bad once the column exists.

| JSON | type | becomes, beside another |
|---|---|---|
| number without fraction and exponent | long | double; decimal(38,0) if some exceed long |
| any other number | double | |
| string `YYYY-MM-DDThh:mm…` with a zone | timestamptz | string |
| the same without a zone | timestamp | string |
| any other string, dates alone too | string | |
| object, array | struct, list | their fields are united |
| null, `{}`, `[]`, and what holds nothing else | none yet | whatever it is beside |

Dates, times, uuids and base64 stay strings: a string holds whatever comes next, and whoever wants
the type declares the column.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pyarrow as pa

from k2i_core.decode.arrow import AnyField, map_type
from k2i_core.decode.isolation import UnfitError
from k2i_core.decode.json_plan import ColumnPlan, Shape
from k2i_core.decode.json_rows import WHOLE_NUMBER, Findings
from k2i_core.decode.json_trees import Number, Tree
from k2i_core.decode.json_values import spell
from k2i_core.records import KAFKA_COLUMN
from k2i_core.schema.inferred import clean_inferred_type

FIELDS_MAX = 2_000
"""Fields, nested ones counted, up to which a schema may grow by itself. Larger: objects keyed by an
id make every reader of the table slow; smaller: an honest wide record does not fit."""

TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
LONG_MAX = 2**63 - 1
DECIMAL_DIGITS_MAX = 38

Additions: TypeAlias = dict[ColumnPlan, dict[str, pa.DataType]]


class Growth:
    """What the good records seen so far need beyond the schema."""

    def __init__(self, row: ColumnPlan) -> None:
        self._row = row
        self._places = dict(_places(row, ""))
        self._names = {KAFKA_COLUMN.casefold()}
        for child in row.children.values():
            self._names.update(_full_names(child.field, ""))
        self._additions: Additions = {}
        self._empty: Additions = {}
        self._wider: dict[ColumnPlan, pa.DataType] = {}

    def add(self, findings: Findings) -> bool:
        """Take what one record has beyond the schema, unless the schema cannot get all of it.

        Returns:
            Whether it was taken. If not, the record is bad and has no influence: a table could not
            tell one of its fields from another, or it has too many.

        """
        seen = [(parent, name, observe(tree)) for parent, name, tree in findings.unknown]
        own_names: list[str] = []
        for parent, name, type_ in seen:
            if (stored := clean_inferred_type(type_)) is not None:
                own_names += _full_names(pa.field(name, stored), self._places[parent])
        if (
            len(set(own_names)) < len(own_names)
            or not self._names.isdisjoint(own_names)
            or any(name.endswith(".") or not name for name in own_names)
            or len(self._names) + len(own_names) > FIELDS_MAX
        ):
            return False
        for parent, name, type_ in seen:
            kind = self._empty if clean_inferred_type(type_) is None else self._additions
            fields = kind.setdefault(parent, {})
            fields[name] = unite(fields[name], type_) if name in fields else type_
        self._wider.update(findings.wider)
        return True

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to store that the schema cannot hold."""
        return bool(self._additions or self._wider)

    def row_schema(self, row_schema: pa.Schema) -> pa.Schema:
        """Return the row schema with what is needed.

        Of fields that a table could not tell from each other, the one seen first is there; what
        every record has as null is not.
        """
        names = set(self._names)
        additions: Additions = {}
        for parent, fields in self._additions.items():
            for name, seen in fields.items():
                stored = clean_inferred_type(seen)
                assert stored is not None
                admitted = _admit(name, stored, self._places[parent], names)
                if admitted is not None:
                    additions.setdefault(parent, {})[name] = admitted
        fields = _grow(self._row, lambda plan: plan.field, additions, self._wider).type
        grown = pa.schema(list(fields))
        return grown.with_metadata(row_schema.metadata) if row_schema.metadata else grown

    def parse_schema(self) -> pa.Schema:
        """Return the parse types with those fields seen that hold nothing to store."""
        empty = {
            parent: {name: _parseable(seen) for name, seen in fields.items()}
            for parent, fields in self._empty.items()
        }
        return pa.schema(list(_grow(self._row, lambda plan: plan.parse_field, empty, {}).type))


def is_needed(findings: Findings) -> bool:
    """Return whether a record has anything to store that the schema cannot hold."""
    return bool(findings.wider) or any(
        clean_inferred_type(observe(tree)) is not None for _, _, tree in findings.unknown
    )


def observe(tree: Tree) -> pa.DataType:
    """Return the type of one value; `null` inside it where nothing is known."""
    if tree is None or isinstance(tree, pa.DataType):
        return pa.null() if tree is None else tree
    if isinstance(tree, bool):
        return pa.bool_()
    if isinstance(tree, Number):
        return _number_type(tree)
    if isinstance(tree, str):
        return _text_type(tree)
    if isinstance(tree, list):
        element: pa.DataType = pa.null()
        for below in tree:
            element = unite(element, observe(below))
        return pa.list_(pa.field("element", element))
    return pa.struct([pa.field(name, observe(below)) for name, below in tree])


def unite(first: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return a type for both, or `first` if there is none."""
    if first == other or pa.types.is_null(other):
        return first
    if pa.types.is_null(first):
        return other
    if isinstance(first, pa.StructType) and isinstance(other, pa.StructType):
        fields = {field.name: field.type for field in first}
        for field in other:
            known = fields.get(field.name)
            fields[field.name] = field.type if known is None else unite(known, field.type)
        return pa.struct([pa.field(name, type_) for name, type_ in fields.items()])
    if isinstance(first, pa.ListType) and isinstance(other, pa.ListType):
        return pa.list_(pa.field("element", unite(first.value_type, other.value_type)))
    if first in _NUMBERS and other in _NUMBERS:
        return max(first, other, key=_NUMBERS.index)
    return pa.string() if first in _TEXTS and other in _TEXTS else first


_NUMBERS = (pa.int64(), pa.decimal128(DECIMAL_DIGITS_MAX, 0), pa.float64())
_TEXTS = (pa.string(), pa.timestamp("us"), pa.timestamp("us", tz="UTC"))


def _parseable(empty: pa.DataType) -> pa.DataType:
    """Return a type of the same empty values that Arrow's parser reads correctly.

    It counts only the first of several nulls in a list of nulls and then hands out a broken array.
    """
    if isinstance(empty, pa.ListType):
        element = empty.value_type
        known = pa.struct([]) if pa.types.is_null(element) else _parseable(element)
        return pa.list_(pa.field("element", known))
    if isinstance(empty, pa.StructType):
        return pa.struct([field.with_type(_parseable(field.type)) for field in empty])
    return empty


def _number_type(number: Number) -> pa.DataType:
    if not WHOLE_NUMBER.fullmatch(number):
        return pa.float64()
    if len(number.lstrip("-")) > DECIMAL_DIGITS_MAX:
        return pa.float64()
    is_long = -LONG_MAX - 1 <= int(number) <= LONG_MAX
    return pa.int64() if is_long else pa.decimal128(DECIMAL_DIGITS_MAX, 0)


def _text_type(text: str) -> pa.DataType:
    match = TIMESTAMP.fullmatch(text)
    if match is None:
        return pa.string()
    stamp = pa.timestamp("us", tz="UTC") if match[1] else pa.timestamp("us")
    spelling = spell(stamp, None)
    assert spelling is not None
    assert spelling.convert is not None
    try:
        spelling.convert(pa.array([text]))
    except (UnfitError, pa.ArrowInvalid):
        return pa.string()
    return stamp


def _grow(
    plan: ColumnPlan,
    own_field: Callable[[ColumnPlan], AnyField],
    additions: Additions,
    wider: dict[ColumnPlan, pa.DataType],
) -> AnyField:
    """Return the field of `plan` with what is added below it; what stays keeps its metadata."""
    own = own_field(plan)
    if not plan.children and plan not in additions:
        return own.with_type(wider[plan]) if plan in wider else own
    children = [_grow(child, own_field, additions, wider) for child in plan.children.values()]
    if plan.shape is Shape.STRUCT:
        new = [pa.field(name, type_) for name, type_ in additions.get(plan, {}).items()]
        return own.with_type(pa.struct(children + new))
    if plan.shape is Shape.LIST:
        return own.with_type(pa.list_(children[0]))
    assert isinstance(own.type, pa.MapType)
    return own.with_type(map_type(own.type.key_field, children[0]))


def _full_names(field: AnyField, prefix: str) -> Iterator[str]:
    """Yield the full names, as Iceberg joins them, of a field and all below it, in lower case.

    A table with two equal ones cannot be loaded, and one with two that differ only in letter case
    cannot be queried by half of all engines.
    """
    name = (prefix + field.name).casefold()
    yield name
    if isinstance(field.type, pa.StructType):
        for child in field.type:
            yield from _full_names(child, f"{name}.")
    elif isinstance(field.type, pa.ListType):
        yield from _full_names(field.type.value_field.with_name("element"), f"{name}.")
    elif isinstance(field.type, pa.MapType):
        yield f"{name}.key"
        yield from _full_names(field.type.item_field.with_name("value"), f"{name}.")


def _admit(name: str, new: pa.DataType, prefix: str, taken: set[str]) -> pa.DataType | None:
    """Return what of a new field's type can be had, and take its full names."""
    full_name = (prefix + name).casefold()
    if not name or full_name in taken or len(taken) >= FIELDS_MAX:
        return None
    taken.add(full_name)
    if isinstance(new, pa.ListType):
        element = _admit("element", new.value_type, f"{full_name}.", taken)
        return None if element is None else pa.list_(pa.field("element", element))
    if not isinstance(new, pa.StructType):
        return new
    admitted = [
        (field.name, _admit(field.name, field.type, f"{full_name}.", taken)) for field in new
    ]
    fields = [pa.field(name, type_) for name, type_ in admitted if type_ is not None]
    return pa.struct(fields) if fields else None


def _places(plan: ColumnPlan, prefix: str) -> Iterator[tuple[ColumnPlan, str]]:
    """Yield each plan with what its fields' full names begin with."""
    yield plan, prefix
    for child in plan.children.values():
        step = {Shape.LIST: "element", Shape.MAP: "value"}.get(plan.shape, child.field.name)
        yield from _places(child, f"{prefix}{step}.")
