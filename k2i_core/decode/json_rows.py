"""One record after the other, in Python: why a record is bad.

The rules are those of the columnar reader, field by field along the same plan, so this module can
name the field that a whole-batch error only implies. It also notes what a record has beyond the
schema, for a decoder that may add columns.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from k2i_core.decode.isolation import UnfitError
from k2i_core.decode.json_plan import ColumnPlan, Shape, convert_field
from k2i_core.decode.json_trees import (
    ErrorClass,
    Members,
    Number,
    RecordError,
    Tree,
    name_type,
    parse,
    shown,
)
from k2i_core.schema.arrow_types import arrow_type_text

WHOLE_NUMBER = re.compile(r"-?\d+")
DECIMAL_TEXT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?", re.ASCII)
INT64_DIGITS_MAX = 20
FLOAT32_LIMIT = (2 - 2**-24) * 2**127
"""The smallest number that rounds to an infinite float."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one otherwise good record has that the schema cannot hold.

    Attributes:
        unknown: The object it is in, the field's name, and the value.
        wider: A number's column and the type that holds it.
    """

    unknown: list[tuple[ColumnPlan, str, Tree]] = field(
        default_factory=list[tuple[ColumnPlan, str, Tree]]
    )
    wider: list[tuple[ColumnPlan, pa.DataType]] = field(
        default_factory=list[tuple[ColumnPlan, pa.DataType]]
    )


def inspect(row: ColumnPlan, text: str, *, may_add: bool) -> Findings:
    """Check a record but for the text of its timestamps and the like, which costs most.

    Raises:
        RecordError: It is bad.

    """
    findings = Findings()
    _struct(row, parse(text), findings if may_add else None)
    return findings


def study(row: ColumnPlan, text: str, *, may_add: bool) -> tuple[Members, Findings]:
    """Check a record fully.

    Args:
        row: Plan of the schema to check against.
        text: The record.
        may_add: Note what the schema lacks, instead of refusing it.

    Returns:
        The record's members, and what it has beyond the schema.

    Raises:
        RecordError: It is bad, and this is the first reason.

    """
    members = parse(text)
    findings = Findings()
    values = _struct(row, members, findings if may_add else None)
    # Last, because it costs most and few records fail only here.
    _check_conversions(row, values)
    return members, findings


def prune(row: ColumnPlan, members: Members) -> Members:
    """Return a studied record without the fields that the schema lacks."""
    pruned = _prune(row, members)
    assert isinstance(pruned, tuple)
    return pruned


def _prune(plan: ColumnPlan, tree: Tree) -> Tree:
    if isinstance(tree, tuple):
        if plan.shape is Shape.MAP:
            (value,) = plan.children.values()
            return tuple((name, _prune(value, below)) for name, below in tree)
        children = plan.children
        return tuple(
            (name, _prune(children[name], below)) for name, below in tree if name in children
        )
    if isinstance(tree, list):
        (element,) = plan.children.values()
        return [_prune(element, below) for below in tree]
    return tree


def unknown_path(parent: ColumnPlan, name: str) -> str:
    """Return the path of a field that `parent` lacks."""
    return f"{parent.path}.{shown(name)}" if parent.path else shown(name)


def _check_conversions(plan: ColumnPlan, value: Any) -> None:  # noqa: ANN401 - of the plan's shape
    """Convert the values that only whole-column conversions can judge, one by one."""
    if value is None:
        return
    if plan.shape is Shape.STRUCT:
        for name, child in plan.children.items():
            _check_conversions(child, value[name])
    elif plan.shape in {Shape.LIST, Shape.MAP}:
        (child,) = plan.children.values()
        for element in value:
            _check_conversions(child, element[1] if plan.shape is Shape.MAP else element)
    elif plan.convert is not None and plan.shape in {Shape.TEXT, Shape.INTEGER}:
        try:
            convert_field(plan, pa.array([value], plan.parse_type), absent_count=0)
        except UnfitError as error:
            raise (_not_one(plan) if plan.shape is Shape.TEXT else _out_of_range(plan)) from error


def _value(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    """Return the value of the parse type that `tree` is."""
    if tree is None:
        if not plan.field.nullable:
            message = f"{plan.path}: required, got null"
            raise RecordError(ErrorClass.REQUIRED_FIELD_MISSING, message)
        return None
    return _READERS[plan.shape](plan, tree, findings)


def _struct(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    if not isinstance(tree, tuple):
        raise _wrong_type(plan, tree)
    values: dict[str, Any] = dict.fromkeys(plan.children)
    for name, below in tree:
        child = plan.children.get(name)
        if child is not None:
            values[name] = _value(child, below, findings)
        elif findings is not None:
            findings.unknown.append((plan, name, below))
        else:
            message = f"{unknown_path(plan, name)}: the schema has no such field"
            raise RecordError(ErrorClass.UNKNOWN_FIELD, message)
    for child in plan.children.values():
        if not child.field.nullable and values[child.field.name] is None:
            message = f"{child.path}: required, and absent"
            raise RecordError(ErrorClass.REQUIRED_FIELD_MISSING, message)
    return values


def _list(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    if not isinstance(tree, list):
        raise _wrong_type(plan, tree)
    (element,) = plan.children.values()
    return [_value(element, below, findings) for below in tree]


def _map(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    if not isinstance(tree, tuple):
        raise _wrong_type(plan, tree)
    (value,) = plan.children.values()
    return [(name, _value(value, below, findings)) for name, below in tree]


def _boolean(plan: ColumnPlan, tree: Tree, _: Findings | None) -> object:
    if not isinstance(tree, bool):
        raise _wrong_type(plan, tree)
    return tree


def _text(plan: ColumnPlan, tree: Tree, _: Findings | None) -> object:
    if not isinstance(tree, str) or isinstance(tree, Number):
        raise _wrong_type(plan, tree)
    return tree


def _integer(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    if not isinstance(tree, Number):
        raise _wrong_type(plan, tree)
    if not WHOLE_NUMBER.fullmatch(tree):
        expected = arrow_type_text(plan.field.type)
        message = f"{plan.path}: expected {expected}, got a number with a fraction or exponent"
        raise RecordError(ErrorClass.WRONG_TYPE, message)
    number = int(tree) if len(tree) <= INT64_DIGITS_MAX else 2**64
    bits = plan.parse_type.bit_width
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        return number
    is_long = -(2**63) <= number < 2**63
    if is_long and findings is not None:
        findings.wider.append((plan, pa.int64()))
        return 0
    raise _out_of_range(plan)


def _float(plan: ColumnPlan, tree: Tree, findings: Findings | None) -> object:
    if not isinstance(tree, Number):
        raise _wrong_type(plan, tree)
    number = float(tree)
    if pa.types.is_float64(plan.parse_type) or abs(number) < FLOAT32_LIMIT:
        if abs(number) == math.inf:
            raise _out_of_range(plan)
        return number
    if findings is None or abs(number) == math.inf:
        raise _out_of_range(plan)
    findings.wider.append((plan, pa.float64()))
    return 0.0


def _decimal(plan: ColumnPlan, tree: Tree, _: Findings | None) -> object:
    if not isinstance(tree, str):
        raise _wrong_type(plan, tree)
    if not DECIMAL_TEXT.fullmatch(tree):
        raise _not_one(plan)
    decimal_type = plan.field.type
    assert isinstance(decimal_type, pa.Decimal128Type)
    unscaled = _unscaled(Decimal(tree), decimal_type)
    if unscaled is None:
        raise _out_of_range(plan)
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -decimal_type.scale))


def _unscaled(number: Decimal, decimal_type: pa.Decimal128Type) -> int | None:
    """Return number × 10^scale when it is whole and has no more digits than the type."""
    if number == 0:
        return 0
    if number.adjusted() >= decimal_type.precision - decimal_type.scale:
        return None
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    shift = exponent + decimal_type.scale
    kept = digits if shift >= 0 else digits[:shift]
    if any(digits[len(kept) :]):
        return None
    unscaled = int("".join(map(str, kept)) or "0") * 10 ** max(shift, 0)
    return -unscaled if sign else unscaled


def _wrong_type(plan: ColumnPlan, tree: Tree) -> RecordError:
    expected = arrow_type_text(plan.field.type)
    return RecordError(
        ErrorClass.WRONG_TYPE, f"{plan.path}: expected {expected}, got {name_type(tree)}"
    )


def _not_one(plan: ColumnPlan) -> RecordError:
    message = f"{plan.path}: expected {arrow_type_text(plan.field.type)}, got text that is not one"
    return RecordError(ErrorClass.INVALID_VALUE, message)


def _out_of_range(plan: ColumnPlan) -> RecordError:
    message = (
        f"{plan.path}: expected {arrow_type_text(plan.field.type)}, got a number that does not fit"
    )
    return RecordError(ErrorClass.NUMBER_OUT_OF_RANGE, message)


_READERS: Mapping[Shape, Callable[[ColumnPlan, Tree, Findings | None], object]] = MappingProxyType(
    {
        Shape.BOOLEAN: _boolean,
        Shape.INTEGER: _integer,
        Shape.FLOAT: _float,
        Shape.DECIMAL: _decimal,
        Shape.TEXT: _text,
        Shape.LIST: _list,
        Shape.STRUCT: _struct,
        Shape.MAP: _map,
    }
)
