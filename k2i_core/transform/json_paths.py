"""The step `jmespath`: values out of JSON text columns, as text.

The one step that runs Python for each record: JSON text has no columns to compute with.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jmespath
import jmespath.exceptions
import numpy as np
import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.transform.steps import Fault, Outcome, Step, check_column, check_distinct

JMESPATH_FAILED = "jmespath_failed"

_jmespath: Any = jmespath

_Found = str | None


class _UnreadableError(Exception):
    """The text is no JSON, or an expression cannot be computed of it."""


class JsonPaths:
    """A step that adds one column an expression."""

    def __init__(self, schema: pa.Schema, paths: Mapping[str, Mapping[str, str]]) -> None:
        """Compile; the paths are checked."""
        self._schema = schema
        self._sources = [
            (schema.names.index(source), source, [_compiled(path) for path in columns.values()])
            for source, columns in paths.items()
        ]
        for columns in paths.values():
            for name in columns:
                self._schema = self._schema.append(pa.field(name, pa.string()))

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Search n rows, one by one."""
        del origin
        faults: dict[int, Fault] = {}
        columns: list[list[_Found]] = []
        for place, source, searches in self._sources:
            found: list[list[_Found]] = [[] for _ in searches]
            texts: list[Any] = rows.column(place).to_pylist()
            for index, text in enumerate(texts):
                try:
                    values = [None] * len(searches) if text is None else _search(text, searches)
                except _UnreadableError:
                    reason = f"{source}: is no JSON, or an expression fails for this record"
                    faults.setdefault(index, (JMESPATH_FAILED, reason))
                    values = [None] * len(searches)
                for column, value in zip(found, values, strict=True):
                    column.append(value)
            columns += found
        made = [pa.array(column, pa.string()) for column in columns]
        whole = pa.RecordBatch.from_arrays([*rows.columns, *made], schema=self._schema)
        if not faults:
            return Outcome(whole)
        is_good = np.ones(rows.num_rows, np.bool_)
        is_good[list(faults)] = False
        return Outcome(whole.filter(pa.array(is_good)), np.flatnonzero(is_good), faults)


def json_paths(schema: pa.Schema, paths: Mapping[str, Mapping[str, str]]) -> Step:
    """Add columns: text column → name → JMESPath expression."""
    for source, columns in paths.items():
        if not pa.types.is_string(schema.field(check_column(schema, source)).type):
            message = f'"{source}" is no text column, so it holds no JSON'
            raise ConfigError(message)
        for name, path in columns.items():
            try:
                _compiled(path)
            except ConfigError as error:
                message = f"{source}.{name}: {error}"
                raise ConfigError(message) from error
    check_distinct(schema.names, [name for columns in paths.values() for name in columns])
    return JsonPaths(schema, paths)


def _compiled(path: str) -> Callable[[object], object]:
    try:
        return _jmespath.compile(path).search
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0]
        message = f"is no JMESPath expression: {reason}"
        raise ConfigError(message) from error


def _search(text: str, searches: list[Callable[[object], object]]) -> list[_Found]:
    try:
        value = json.loads(text, parse_constant=_refuse)
        return [_as_text(search(value)) for search in searches]
    except (ValueError, RecursionError, TypeError, jmespath.exceptions.JMESPathError):
        # Without its cause, which may quote the text.
        raise _UnreadableError from None


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _as_text(value: object) -> _Found:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
