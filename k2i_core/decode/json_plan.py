"""How each column of a row schema is read from JSON: planned once, used by every batch.

A plan mirrors the schema: one node a field, nested ones too. The reader takes the parse types from
it, the closer look at a bad record walks it, and `convert_rows` makes the columns by it.

Paths name fields in messages and in `time_formats`: `items[].price` is the field `price` of the
elements of the list `items`, `labels{}` a value of the map `labels`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum, auto

import pyarrow as pa

from k2i_core.decode.arrow import (
    AnyArray,
    AnyField,
    list_array,
    list_offsets,
    map_array,
    null_mask,
    struct_fields,
)
from k2i_core.decode.connect_types import spell_connect
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_trees import shown
from k2i_core.decode.json_values import Conversion, check_time_format, spell
from k2i_core.errors import ConfigError


class Shape(Enum):
    """What a column needs from JSON."""

    BOOLEAN = auto()
    INTEGER = auto()
    FLOAT = auto()
    DECIMAL = auto()
    TEXT = auto()
    LIST = auto()
    STRUCT = auto()
    MAP = auto()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ColumnPlan:
    """How one field is read.

    Attributes:
        field: Of the row schema.
        path: For messages.
        shape: Which JSON values it takes.
        parse_type: What a reader makes of them.
        convert: From the parse type to the field's type; None when they are equal.
        children: Fields of a struct, the element of a list, the value of a map.
    """

    field: AnyField
    path: str
    shape: Shape
    parse_type: pa.DataType
    convert: Conversion | None
    children: Mapping[str, "ColumnPlan"] = dataclasses.field(
        default_factory=dict[str, "ColumnPlan"]
    )

    @property
    def parse_field(self) -> AnyField:
        """The field for a reader; always nullable.

        Arrow's parser refuses a null struct that has a required field, which is allowed, so nulls
        are checked in the conversion.
        """
        return pa.field(self.field.name, self.parse_type)


def plan_row(row_schema: pa.Schema, time_formats: Mapping[str, str]) -> ColumnPlan:
    """Plan a whole row, as a struct without a name.

    Args:
        row_schema: Columns of the table, without `_kafka`.
        time_formats: Path → `epoch_s`, `epoch_ms` or `epoch_us`, for timestamps not in ISO 8601.

    Raises:
        ConfigError: A column that JSON cannot hold, or a time format for no timestamp. Change the
            table's columns or the pipeline file.

    """
    assert len(set(row_schema.names)) == len(row_schema.names)
    children = {field.name: _plan(field, shown(field.name), time_formats) for field in row_schema}
    row = ColumnPlan(
        field=pa.field("", pa.struct(list(row_schema)), nullable=False),
        path="",
        shape=Shape.STRUCT,
        parse_type=pa.struct([child.parse_field for child in children.values()]),
        convert=None,
        children=children,
    )
    if unknown := sorted(set(time_formats) - {node.path for node in walk(row)}):
        message = f"a time format names no column, columns={', '.join(unknown)}"
        raise ConfigError(message)
    return row


def parse_schema(row: ColumnPlan) -> pa.Schema:
    """Return what a reader makes of a row."""
    return pa.schema([child.parse_field for child in row.children.values()])


def walk(plan: ColumnPlan) -> Iterator[ColumnPlan]:
    """Yield `plan` and every plan below it."""
    yield plan
    for child in plan.children.values():
        yield from walk(child)


def convert_rows(
    row: ColumnPlan, parsed: pa.RecordBatch, row_schema: pa.Schema
) -> tuple[pa.RecordBatch, list[int]]:
    """Make the columns of the parse types, leaving out rows with a value that does not fit.

    Args:
        row: Plan of `row_schema`.
        parsed: n rows × the parse types of the plan, and any further columns.
        row_schema: The columns to make.

    Returns:
        The rows that fit, in order × `row_schema`, and the other rows, ascending.

    """
    columns: list[AnyArray] = []
    unfit: set[int] = set()
    for child in row.children.values():
        column = parsed.column(child.field.name)
        try:
            columns.append(convert_field(child, column, absent_count=0))
        except UnfitError:
            unfit.update(find_unfit(column, lambda part, c=child: convert_field(c, part, 0)))
    if not unfit:
        # Without columns there is no array to tell how many rows there are.
        no_columns = parsed.select([])
        return (
            pa.RecordBatch.from_arrays(columns, schema=row_schema) if columns else no_columns
        ), []
    kept = pa.array([index for index in range(parsed.num_rows) if index not in unfit], pa.int64())
    rows, still_unfit = convert_rows(row, parsed.take(kept), row_schema)
    assert not still_unfit
    return rows, sorted(unfit)


def _plan(field: AnyField, path: str, time_formats: Mapping[str, str]) -> ColumnPlan:
    time_format = time_formats.get(path)
    spelling = None if time_format is None else spell_connect(field.type, time_format)
    if spelling is None and time_format is not None:
        check_time_format(path, field.type, time_format)
    if isinstance(field.type, pa.StructType):
        return _plan_struct(field, path, time_formats)
    if isinstance(field.type, pa.ListType):
        return _plan_list(field, path, time_formats)
    if isinstance(field.type, pa.MapType) and pa.types.is_string(field.type.key_type):
        return _plan_map(field, path, time_formats)
    spelling = spelling or spell(field.type, time_format)
    if spelling is None:
        message = f"json cannot fill this column, column={path} type={field.type}"
        raise ConfigError(message)
    return ColumnPlan(
        field, path, _leaf_shape(spelling.parse_type), spelling.parse_type, spelling.convert
    )


def _leaf_shape(parse_type: pa.DataType) -> Shape:
    types = pa.types
    if types.is_boolean(parse_type):
        return Shape.BOOLEAN
    if types.is_integer(parse_type):
        return Shape.INTEGER
    if types.is_floating(parse_type):
        return Shape.FLOAT
    return Shape.DECIMAL if types.is_decimal(parse_type) else Shape.TEXT


def _plan_struct(field: AnyField, path: str, time_formats: Mapping[str, str]) -> ColumnPlan:
    struct_type = field.type
    assert isinstance(struct_type, pa.StructType)
    children = {
        child.name: _plan(child, f"{path}.{shown(child.name)}", time_formats)
        for child in struct_type
    }
    parse_type = pa.struct([child.parse_field for child in children.values()])

    def convert(array: AnyArray) -> AnyArray:
        assert isinstance(array, pa.StructArray)
        below = struct_fields(array)
        parts = [
            convert_field(child, below[child.field.name], array.null_count)
            for child in children.values()
        ]
        return pa.StructArray.from_arrays(parts, fields=list(struct_type), mask=null_mask(array))

    is_plain = parse_type == struct_type and not any(c.convert for c in children.values())
    return ColumnPlan(
        field, path, Shape.STRUCT, parse_type, None if is_plain else convert, children
    )


def _plan_list(field: AnyField, path: str, time_formats: Mapping[str, str]) -> ColumnPlan:
    list_type = field.type
    assert isinstance(list_type, pa.ListType)
    element = _plan(list_type.value_field, f"{path}[]", time_formats)
    parse_type = pa.list_(element.parse_field)

    def convert(array: AnyArray) -> AnyArray:
        assert isinstance(array, pa.ListArray)
        offsets, first, count = list_offsets(array)
        elements = convert_field(element, array.values.slice(first, count), absent_count=0)
        return list_array(offsets, elements, list_type, null_mask(array))

    is_plain = parse_type == list_type and element.convert is None
    return ColumnPlan(
        field, path, Shape.LIST, parse_type, None if is_plain else convert, {"element": element}
    )


def _plan_map(field: AnyField, path: str, time_formats: Mapping[str, str]) -> ColumnPlan:
    map_type = field.type
    assert isinstance(map_type, pa.MapType)
    value = _plan(map_type.item_field, f"{path}{{}}", time_formats)
    parse_type = pa.map_(pa.string(), value.parse_type)

    def convert(array: AnyArray) -> AnyArray:
        assert isinstance(array, pa.MapArray)
        offsets, first, count = list_offsets(array)
        items = convert_field(value, array.items.slice(first, count), absent_count=0)
        keys = array.keys.slice(first, count)
        return map_array(offsets, (keys, items), map_type, null_mask(array))

    is_plain = parse_type == map_type and value.convert is None
    return ColumnPlan(
        field, path, Shape.MAP, parse_type, None if is_plain else convert, {"value": value}
    )


def convert_field(plan: ColumnPlan, array: AnyArray, absent_count: int) -> AnyArray:
    """Convert one field, which is null where its parent is, `absent_count` times."""
    if not plan.field.nullable and array.null_count > absent_count:
        raise UnfitError
    if plan.convert is None:
        return array
    if len(array) == 0:
        return pa.nulls(0, plan.field.type)
    try:
        return plan.convert(array)
    except pa.ArrowInvalid as error:
        raise UnfitError from error
