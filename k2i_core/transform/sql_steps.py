"""The steps that compute: `cast`, `sql` and `filter`, by DuckDB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.schema.arrow_types import SQL_TYPES, arrow_type_text
from k2i_core.schema.inferred import clean_inferred_type
from k2i_core.transform.sql_engine import Expression, SqlEngine, named
from k2i_core.transform.steps import Fault, Integers, Outcome, Step, check_column

CAST_FAILED = "cast_failed"
SQL_FAILED = "sql_failed"

Flags: TypeAlias = npt.NDArray[np.bool_]

_UUID_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Computed:
    """One column that is computed.

    Attributes:
        column: What the step makes, with a type that a table has.
        expression: How.
        fault: Of a record for which it fails.
    """

    column: "pa.Field[Any]"
    expression: Expression
    fault: Fault


class Computing:
    """A step that computes columns; those that have a name of before stand where it stood."""

    def __init__(self, engine: SqlEngine, schema: pa.Schema, computed: Sequence[_Computed]) -> None:
        self._engine = engine
        self._computed = computed
        self._read = _read(schema, [one.expression for one in computed])
        made = {one.column.name: one.column for one in computed}
        kept = [made.get(column.name, column) for column in schema]
        added = [column for name, column in made.items() if name not in schema.names]
        self._schema = pa.schema([*kept, *added])

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Compute the columns."""
        del origin
        expressions = [one.expression.sql for one in self._computed]
        good = compute_good(self._engine, expressions, self._read, rows)
        columns = dict(zip(rows.schema.names, good.rows.columns, strict=True))
        for one, made in zip(self._computed, good.columns, strict=True):
            columns[one.column.name] = _as_stored(made, one.column.type)
        arrays = [columns[name] for name in self._schema.names]
        faults = {index: self._computed[which].fault for index, which in good.failed.items()}
        made_rows = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return Outcome(made_rows, good.places, faults)


class Filter:
    """A step that keeps the records for which an expression is true."""

    def __init__(self, engine: SqlEngine, schema: pa.Schema, expression: Expression) -> None:
        self._engine = engine
        self._schema = schema
        self._read = expression.columns
        self._sql = f"({expression.sql}) IS TRUE"

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves: all."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Keep some rows."""
        del origin
        good = compute_good(self._engine, [self._sql], self._read, rows)
        is_kept = _flags(good.columns[0])
        fault = SQL_FAILED, "the expression fails for this record"
        faults = dict.fromkeys(good.failed, fault)
        if good.places is None and is_kept.all():
            return Outcome(rows)
        places = np.arange(rows.num_rows) if good.places is None else good.places
        return Outcome(good.rows.filter(pa.array(is_kept)), places[is_kept], faults)


def cast(engine: SqlEngine, schema: pa.Schema, types: Mapping[str, pa.DataType]) -> Step:
    """Give columns other types."""
    computed: list[_Computed] = []
    for name, type_ in types.items():
        column = schema.field(check_column(schema, name))
        if column.type.equals(type_):
            continue
        expression = Expression(_cast_sql(name, column.type, type_), (name,))
        _check_cast(engine, expression, column, type_)
        fault = CAST_FAILED, f"{name}: cannot be cast to {arrow_type_text(type_)}"
        computed.append(_Computed(column.with_type(type_), expression, fault))
    return Computing(engine, schema, computed)


def sql(engine: SqlEngine, schema: pa.Schema, expressions: Mapping[str, str]) -> Step:
    """Add or replace columns by what expressions give."""
    computed: list[_Computed] = []
    known = {name.casefold(): name for name in schema.names}
    for name, text in expressions.items():
        if known.setdefault(name.casefold(), name) != name:
            message = f'"{name}" differs only in letter case from "{known[name.casefold()]}"'
            raise ConfigError(message)
        try:
            expression = engine.compile(text, schema.names)
            type_ = clean_inferred_type(engine.type_of(expression, schema))
        except ConfigError as error:
            message = f"{name}: {error}"
            raise ConfigError(message) from error
        if type_ is None:
            message = f"{name}: is always null; cast it to a type"
            raise ConfigError(message)
        fault = SQL_FAILED, f"{name}: the expression fails for this record"
        computed.append(_Computed(pa.field(name, type_), expression, fault))
    return Computing(engine, schema, computed)


def keep_where(engine: SqlEngine, schema: pa.Schema, text: str) -> Step:
    """Keep the records for which an expression is true."""
    expression = engine.compile(text, schema.names)
    type_ = engine.type_of(expression, schema)
    if not pa.types.is_boolean(type_):
        message = f"gives {type_}, not true or false"
        raise ConfigError(message)
    return Filter(engine, schema, expression)


@dataclass(frozen=True, slots=True)
class Good:
    """What could be computed of n records.

    Attributes:
        rows: The records for which all expressions gave something.
        places: Which of the n they are; None for all.
        columns: What the expressions gave for them.
        failed: Which others, each with the first expression that failed.
    """

    rows: pa.RecordBatch
    places: Integers | None
    columns: "list[pa.Array[Any]]"
    failed: Mapping[int, int]


def compute_good(
    engine: SqlEngine, expressions: Sequence[str], columns: Sequence[str], rows: pa.RecordBatch
) -> Good:
    """Compute expressions, without the records for which one of them fails."""
    table = pa.Table.from_batches([rows])
    if not expressions:
        return Good(rows, None, [], {})
    try:
        return Good(rows, None, _arrays(engine.compute(expressions, columns, table)), {})
    except duckdb.Error:
        failed = _find_failed(engine, expressions, columns, table)
    is_good = np.ones(rows.num_rows, np.bool_)
    is_good[list(failed)] = False
    kept = rows.filter(pa.array(is_good))
    computed = engine.compute(expressions, columns, pa.Table.from_batches([kept]))
    return Good(kept, np.flatnonzero(is_good), _arrays(computed), failed)


def _find_failed(
    engine: SqlEngine, expressions: Sequence[str], columns: Sequence[str], table: pa.Table
) -> dict[int, int]:
    """Return the records that fail, each with the first expression that does."""
    failed: dict[int, int] = {}
    for which, expression in enumerate(expressions):
        # Only a failure makes the struct null: whatever the expression gives is inside it.
        attempt = f"TRY(struct_pack(v := {expression})) IS NULL"
        for index in _failing(engine, attempt, expression, columns, table):
            failed.setdefault(index, which)
    return failed


def _failing(
    engine: SqlEngine, attempt: str, expression: str, columns: Sequence[str], table: pa.Table
) -> list[int]:
    found: list[int] = []
    parts = [(0, table.num_rows)]
    while parts:
        start, stop = parts.pop()
        part = table.slice(start, stop - start)
        try:
            is_failed = _flags(_arrays(engine.compute([attempt], columns, part))[0])
            good = part.filter(pa.array(~is_failed))
            # The attempt is only believed where the expression then holds.
            engine.compute([expression], columns, good)
        except duckdb.Error:
            if stop - start == 1:
                found.append(start)
                continue
            middle = (start + stop) // 2
            parts += [(middle, stop), (start, middle)]
            continue
        found += [start + int(index) for index in np.flatnonzero(is_failed)]
    return found


def _check_cast(
    engine: SqlEngine, expression: Expression, column: "pa.Field[Any]", type_: pa.DataType
) -> None:
    """Refuse a cast that no value has.

    DuckDB says so only when it casts a value, and then as if the value were wrong.
    """
    source = arrow_type_text(column.type)
    try:
        sample = pa.table({column.name: _sample(column.type)})
        engine.compute([expression.sql], expression.columns, sample)
    except (pa.ArrowException, duckdb.Error) as error:
        if isinstance(error, duckdb.ConversionException) and _NO_CAST not in str(error):
            return
        message = (
            f"{column.name}: {source} has no cast to {arrow_type_text(type_)}; write an expression "
            f"under sql"
        )
        raise ConfigError(message) from error


_NO_CAST = "Unimplemented type for cast"


def _sample(type_: pa.DataType) -> "pa.Array[Any]":
    """Return one value; raises ArrowException for types with parts."""
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        return pa.array(["0"]).cast(type_)
    if type_.equals(pa.uuid()):
        storage = pa.array([bytes(_UUID_BYTES)], pa.binary(_UUID_BYTES))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    if pa.types.is_decimal(type_):
        return pa.array([Decimal(0)], type_)
    return pa.array([0], pa.int32() if pa.types.is_date(type_) else pa.int64()).cast(type_)


def _cast_sql(name: str, source: pa.DataType, target: pa.DataType) -> str:
    column = named(name)
    if pa.types.is_binary(source) and pa.types.is_string(target):
        return f"decode({column})"  # text is its UTF-8 bytes, not their hexadecimal digits
    if pa.types.is_string(source) and pa.types.is_binary(target):
        return f"encode({column})"
    if target.equals(pa.uuid()):
        return f"unhex(replace(CAST(CAST({column} AS UUID) AS VARCHAR), '-', ''))"
    if isinstance(target, pa.Decimal128Type):
        return f"CAST({column} AS DECIMAL({target.precision},{target.scale}))"
    return f"CAST({column} AS {SQL_TYPES[target]})"


def _as_stored(made: "pa.Array[Any]", type_: pa.DataType) -> "pa.Array[Any]":
    if made.type.equals(type_):
        return made
    if type_.equals(pa.uuid()):
        return pa.ExtensionArray.from_storage(pa.uuid(), made.cast(pa.binary(_UUID_BYTES)))
    # Not safe, because digits beyond the microsecond are cut off as decoders do; all else is wider.
    return made.cast(type_, safe=False)


def _arrays(table: pa.Table) -> "list[pa.Array[Any]]":
    columns: list[Any] = table.columns
    # Not combined where it is one chunk, because that would copy it.
    return [c.chunk(0) if c.num_chunks == 1 else c.combine_chunks() for c in columns]


def _flags(array: "pa.Array[Any]") -> Flags:
    return array.to_numpy(zero_copy_only=False).astype(np.bool_)


def _read(schema: pa.Schema, expressions: Sequence[Expression]) -> tuple[str, ...]:
    used = {name for expression in expressions for name in expression.columns}
    return tuple(name for name in schema.names if name in used)
