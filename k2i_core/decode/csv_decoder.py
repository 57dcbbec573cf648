"""CSV records → rows of a row schema.

    values ─► fields ─► texts ─► values of the columns ─► rows
                 │         │              │ does not fit
                 └─────────┴───────┬──────┘
                                failures

What a field's text means is what the same text means in a JSON string (`json_values`), and for
numbers and booleans:

| column | text |
|---|---|
| int, long; timestamps by a time format | digits, perhaps behind a minus |
| float, double, decimal | the same with a fraction, an exponent, or both |
| boolean | `true`, `false` in any letter case, `1`, `0` |

A field without quotes that is the null text has no value. Names that the table lacks are columns
of text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray, flags, indices, replace
from k2i_core.decode.conform import Faults, conform, failures_of
from k2i_core.decode.csv_fields import CsvDialect, CsvFields, find_fields
from k2i_core.decode.cursors import Cursors, converted, nulls_where
from k2i_core.decode.framing import to_texts
from k2i_core.decode.growth import grown
from k2i_core.decode.isolation import UnfitError, no_rows
from k2i_core.decode.json_trees import ErrorClass
from k2i_core.decode.json_values import check_time_format, spell
from k2i_core.errors import ConfigError
from k2i_core.records import DecodedValues
from k2i_core.schema.arrow_types import arrow_type_text

_WHOLE = r"\A-?[0-9]+\z"
_NUMBER = r"\A-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?\z"
_BOOLEAN = r"\A(?i:true|false|1|0)\z"

_WIDER: dict[pa.DataType, pa.DataType] = {pa.int32(): pa.int64(), pa.float32(): pa.float64()}

_Step = Callable[[AnyArray], AnyArray]


@dataclass(frozen=True, slots=True)
class _ColumnPlan:
    """How one field becomes a column.

    Attributes:
        name: Of the column.
        type: Of the column.
        steps: One after the other, each with what is wrong with a text that does not fit.
    """

    name: str
    type: pa.DataType
    steps: tuple[tuple[_Step, ErrorClass], ...]


class CsvDecoder:
    """Decodes CSV records; see the package for what that guarantees."""

    def __init__(
        self,
        row_schema: pa.Schema,
        dialect: CsvDialect,
        *,
        may_add_columns: bool = False,
        time_formats: Mapping[str, str],
    ) -> None:
        """Plan how each field is read.

        Args:
            row_schema: Columns to make, without `_kafka`.
            dialect: How records are written.
            may_add_columns: Propose columns for fields that the table lacks.
            time_formats: Name of a timestamp column → `epoch_s`, `epoch_ms` or `epoch_us`.

        Raises:
            ConfigError: Text cannot fill a column.

        """
        self._row_schema = row_schema
        self._dialect = dialect
        self._may_add_columns = may_add_columns
        types = {field.name: field.type for field in row_schema}
        self._plans = tuple(
            _plan(name, types.get(name, pa.string()), time_formats.get(name))
            for name in dialect.columns
        )

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n non-null values."""
        cursors = Cursors.of(values)
        faults: Faults = {}
        fields = find_fields(cursors, self._dialect, faults)
        made, unfit, wider = self._columns(cursors, fields)
        wanted = self._wanted(fields, unfit, wider)
        if wanted is not self._row_schema:
            return DecodedValues(no_rows(self._row_schema), proposed_schema=wanted)
        rows, misfits = conform(made, self._row_schema, {})
        unfit = {**misfits, **unfit}
        faults.update({int(fields.places[row]): fault for row, fault in unfit.items()})
        if not faults:
            return DecodedValues(rows)
        is_fit = np.ones(len(fields.places), np.bool_)
        is_fit[list(unfit)] = False
        return DecodedValues(
            rows=rows.filter(flags(is_fit)),
            row_indices=indices(fields.places[is_fit]),
            failures=failures_of(faults),
        )

    def _columns(
        self, cursors: Cursors, fields: CsvFields
    ) -> tuple[pa.RecordBatch, Faults, dict[str, set[int]]]:
        """Return the columns of the fields, which rows do not fit, and what wider types hold.

        The last is column → rows that would fit its wider type and are not faulty otherwise.
        """
        faults: Faults = {}
        wide: dict[str, set[int]] = {}
        others: set[int] = set()
        columns: list[AnyArray] = []
        for number, plan in enumerate(self._plans):
            texts, own_faults = self._texts(cursors, fields, number, plan)
            column, misfits = _converted(texts, plan)
            own_faults.update(misfits)
            if own_faults and self._may_add_columns and plan.type in _WIDER:
                wide[plan.name] = _fitting_wider(texts, plan, own_faults)
            others.update(own_faults.keys() - wide.get(plan.name, set()))
            faults = {**own_faults, **faults}
            columns.append(column)
        schema = pa.schema([pa.field(plan.name, plan.type) for plan in self._plans])
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        return rows, faults, {name: found - others for name, found in wide.items()}

    def _texts(
        self, cursors: Cursors, fields: CsvFields, number: int, plan: _ColumnPlan
    ) -> tuple[AnyArray, Faults]:
        starts, lengths = fields.starts[:, number].copy(), fields.lengths[:, number].copy()
        binaries: AnyArray = cursors.binaries(starts, lengths)
        null = self._dialect.null.encode()
        if null:
            is_null = pc.equal(binaries, pa.scalar(null, pa.binary())).to_numpy(
                zero_copy_only=False
            )
        else:
            is_null = lengths == 0
        is_null &= ~fields.is_quoted[:, number]
        if is_null.any():
            binaries = nulls_where(binaries, is_null)
        texts, faults = _step(binaries, to_texts, (ErrorClass.INVALID_UTF8, "not utf-8"), plan)
        quote = self._dialect.quote
        if quote is not None and fields.has_doubled[number]:
            texts = replace(texts, quote * 2, quote)
        return texts, faults

    def _wanted(
        self, fields: CsvFields, faults: Faults, wider: Mapping[str, set[int]]
    ) -> pa.Schema:
        """Return the columns that the rows need, which may be those that there are."""
        if not self._may_add_columns:
            return self._row_schema
        needs_wider = {name for name, rows in wider.items() if rows}
        if len(faults) == len(fields.places) and not needs_wider:
            return self._row_schema
        offered = [
            pa.field(plan.name, _WIDER[plan.type] if plan.name in needs_wider else plan.type)
            for plan in self._plans
        ]
        known = {field.name: field for field in self._row_schema}
        return grown(
            self._row_schema,
            pa.schema(
                [
                    field.with_nullable(known[field.name].nullable)
                    if field.name in known
                    else field
                    for field in offered
                ]
                + [field for field in self._row_schema if field.name not in self._dialect.columns]
            ),
        )


def _plan(name: str, type_: pa.DataType, time_format: str | None) -> _ColumnPlan:
    if time_format is not None:
        check_time_format(name, type_, time_format)
    spelling = spell(type_, time_format)
    if spelling is None:
        message = f"csv cannot fill this column, column={name} type={arrow_type_text(type_)}"
        raise ConfigError(message)
    steps: list[tuple[_Step, ErrorClass]] = []
    parse_type = spelling.parse_type
    is_text = pa.types.is_string(parse_type)
    if not is_text:
        pattern = _NUMBER
        if pa.types.is_boolean(parse_type) or pa.types.is_integer(parse_type):
            pattern = _BOOLEAN if pa.types.is_boolean(parse_type) else _WHOLE
        steps.append((_matching(pattern), ErrorClass.INVALID_VALUE))
        steps.append((lambda texts: texts.cast(parse_type), ErrorClass.NUMBER_OUT_OF_RANGE))
    if spelling.convert is not None:
        refusal = ErrorClass.INVALID_VALUE if is_text else ErrorClass.NUMBER_OUT_OF_RANGE
        steps.append((spelling.convert, refusal))
    return _ColumnPlan(name, type_, tuple(steps))


def _matching(pattern: str) -> _Step:
    def check(texts: AnyArray) -> AnyArray:
        if pc.all(pc.match_substring_regex(texts, pattern=pattern)).as_py() is False:
            raise UnfitError
        return texts

    return check


def _converted(texts: AnyArray, plan: _ColumnPlan) -> tuple[AnyArray, Faults]:
    """Return the column of the texts, null where one does not fit, and which those are."""
    faults: Faults = {}
    array = texts
    for step, error_class in plan.steps:
        message = f"expected {arrow_type_text(plan.type)}, got text that is not one"
        if error_class is ErrorClass.NUMBER_OUT_OF_RANGE:
            message = f"expected {arrow_type_text(plan.type)}, got a number that does not fit"
        array, misfits = _step(array, step, (error_class, message), plan)
        faults.update(misfits)
    return array, faults


def _step(
    array: AnyArray, convert: _Step, fault: tuple[ErrorClass, str], plan: _ColumnPlan
) -> tuple[AnyArray, Faults]:
    error_class, message = fault
    made, unfit = converted(array, convert)
    return made, dict.fromkeys(unfit, (error_class, f"{plan.name}: {message}"))


def _fitting_wider(texts: AnyArray, plan: _ColumnPlan, faults: Faults) -> set[int]:
    """Return those rows of `faults` whose number the wider type holds."""
    rows = [row for row, (kind, _) in faults.items() if kind is ErrorClass.NUMBER_OUT_OF_RANGE]
    if not rows:
        return set()
    wider = _plan(plan.name, _WIDER[plan.type], None)
    _, misfits = _converted(texts.take(indices(np.array(rows, np.int64))), wider)
    return {row for place, row in enumerate(rows) if place not in misfits}
