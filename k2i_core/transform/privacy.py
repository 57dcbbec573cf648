"""What must not be written plainly: columns of records, keys and headers, before all else.

| action | what is left of a value |
|---|---|
| mask | text of as many stars; of nine or more letters the last four stay |
| hash | HMAC-SHA256 under the secret, 64 hexadecimal digits: equal values have equal hashes |
| tokenise | a pseudonym under the secret and the column: `tok_` and 32 hexadecimal digits |
| redact | text: `[redacted]`; anything else: null |
| drop | nothing: the column, or the field, is not there |

A hash or a token cannot be turned back without trying values, and nobody can try them without the
secret. Columnar: computed by DuckDB over the values of one column.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.records import KAFKA_TYPE
from k2i_core.schema.arrow_types import arrow_type_text
from k2i_core.schema.tags import ELEMENT, Steps
from k2i_core.transform.sql_engine import SqlEngine, named
from k2i_core.transform.steps import Outcome, Step

REDACTED = "[redacted]"

BEFORE = "__before"
"""Column of a change event: the row as it was, with the values of the same columns."""

_VALUE = "v"
_BLOCK_BYTES = 64


class Action(StrEnum):
    """What is done to a value."""

    MASK = "mask"
    HASH = "hash"
    TOKENISE = "tokenise"
    REDACT = "redact"
    DROP = "drop"


def nothing_tagged() -> "Mapping[Steps, Action]":
    """Return no tags: what schemas say is not asked for."""
    return {}


TellFound: TypeAlias = Callable[[Collection[str]], None]


@dataclass(frozen=True, slots=True)
class PrivacyRules:
    """What a pipeline file declares.

    Attributes:
        columns: Path → what is done to it, at every record.
        secret: For hashes and tokens; empty where there are none.
        key: What is done to `_kafka.key`; None keeps it.
        keeps_headers: Whether `_kafka.headers` are written.
        keeps_bytes: Whether dead letters keep value, key and headers as they came.
        tagged: Returns what the schemas seen so far tag, the same object until there is more.
        is_shared: Whether they are of several tables, so that a path may lead nowhere in one.
            Columns come with its records then, which must not stop a worker: a value that an
            action is not for is redacted.
        tell_found: Told which paths lead somewhere, instead of refusing the others.
    """

    columns: Mapping[str, Action]
    secret: bytes = field(repr=False)
    key: Action | None
    keeps_headers: bool
    keeps_bytes: bool
    tagged: Callable[[], Mapping[Steps, Action]] = nothing_tagged
    is_shared: bool = False
    tell_found: TellFound | None = None


_Array: TypeAlias = Any
_Made: TypeAlias = "tuple[pa.Field[Any], Callable[[_Array], _Array]] | None"
"""A column as it is written and how it is made; None where it is dropped."""


class Privacy:
    """The rules of a pipeline, for records of any schema; thread-safe."""

    def __init__(self, engine: SqlEngine, rules: PrivacyRules) -> None:
        """Bind an engine to compute with."""
        self._engine = engine
        self._rules = rules

    @property
    def keeps_bytes(self) -> bool:
        """Whether dead letters keep value, key and headers as they came."""
        return self._rules.keeps_bytes

    def tagged(self) -> Mapping[Steps, Action]:
        """Return what the schemas seen so far tag, the same object until there is more."""
        return self._rules.tagged()

    def paths_in(self, schema: pa.Schema) -> frozenset[str]:
        """Return which of the paths lead to something in these columns."""
        paths = set(self._rules.columns)
        if BEFORE not in paths:
            # What is private after a change was so before it.
            paths |= {f"{BEFORE}.{path}" for path in paths}
        return frozenset(path for path in paths if self._place(schema, path) is not None)

    def _place(self, schema: pa.Schema, path: str) -> Steps | None:
        """Return where a path leads; where there are several tables, to what hides its end."""
        if path in schema.names:
            return (path,)
        steps = _steps(path)
        if _leads(schema, path):
            return steps
        return _covering(schema, steps) if self._rules.is_shared else None

    def check(self, found: Collection[str], columns: Collection[str]) -> None:
        """Check that every path leads somewhere, if it has to.

        Raises:
            ConfigError: One does not: what it is meant for would be written plainly.

        """
        if self._rules.tell_found is not None:
            self._rules.tell_found(found)
            return
        for path in () if self._rules.is_shared else self._rules.columns:
            if path not in found:
                message = (
                    f'privacy.columns: "{path}" is no column, neither of the records nor of the '
                    f"table; columns: {', '.join(columns)}"
                )
                raise ConfigError(message)

    def protect(
        self, schema: pa.Schema, paths: Collection[str], tagged: Mapping[Steps, Action]
    ) -> Step:
        """Return the step that protects these paths, and what is tagged.

        Raises:
            ConfigError: An action cannot be done to the type of its path.

        """
        chosen: dict[Steps, Action] = {}
        for path in sorted(paths):
            place = self._place(schema, path)
            assert place is not None
            is_whole = place in ((path,), _steps(path))
            chosen[place] = self._action(path) if is_whole else Action.REDACT
        for steps in chosen:
            if any(steps[:end] in chosen for end in range(1, len(steps))):
                message = f'privacy.columns: "{_path(steps)}" lies inside another path'
                raise ConfigError(message)
        for steps, action in sorted(tagged.items()):
            covering = _covering(schema, steps)
            if covering is not None and not _touches(chosen, covering):
                chosen[covering] = action
        tree: dict[str, Any] = {}
        for steps, action in chosen.items():
            node = tree
            for step in steps[:-1]:
                node = node.setdefault(step, {})
            node[steps[-1]] = action
        made = [self._made(column, tree.get(column.name), column.name) for column in schema]
        if not self._rules.is_shared and all(one is None for one in made):
            message = f"privacy.columns: no column is left of {', '.join(schema.names)}"
            raise ConfigError(message)
        return _Protect(made)

    def hide(self, origin: pa.StructArray) -> pa.StructArray:
        """Return where records come from, without what must not be written."""
        parts: dict[str, _Array] = {column.name: origin.field(column.name) for column in KAFKA_TYPE}
        action = self._rules.key
        if action is Action.DROP:
            parts["key"] = pa.nulls(len(origin), KAFKA_TYPE.field("key").type)
        elif action is not None:
            text = self._leaf(pa.binary(), action, "_kafka.key")(parts["key"])
            parts["key"] = text.cast(pa.binary())
        if not self._rules.keeps_headers:
            parts["headers"] = pa.nulls(len(origin), KAFKA_TYPE.field("headers").type)
        return pa.StructArray.from_arrays(list(parts.values()), fields=list(KAFKA_TYPE))

    def _action(self, path: str) -> Action:
        return self._rules.columns.get(path) or self._rules.columns[_after(path)]

    def _made(self, column: "pa.Field[Any]", node: object, path: str) -> _Made:
        if node is None:
            return column, _same
        if isinstance(node, Action):
            return self._acted(column, node, path)
        inside = cast("dict[str, Any]", node)
        if isinstance(column.type, pa.StructType):
            made = [
                self._made(child, inside.get(child.name), f"{path}.{child.name}")
                for child in column.type
            ]
            kept = [one and one[0] for one in made]
            fields = [child for child in kept if child is not None]
            if not fields and self._rules.is_shared:
                return None
            if not fields:
                message = f'privacy.columns: nothing is left of "{path}"; drop it as a whole'
                raise ConfigError(message)
            return column.with_type(pa.struct(fields)), _struct_maker(made)
        assert isinstance(column.type, pa.ListType)
        element = self._made(column.type.value_field, inside[ELEMENT], f"{path}{ELEMENT}")
        if element is None and self._rules.is_shared:
            return None
        if element is None:
            message = f'privacy.columns: "{path}{ELEMENT}" cannot be dropped; drop "{path}"'
            raise ConfigError(message)
        return column.with_type(pa.list_(element[0])), _list_maker(element)

    def _acted(self, column: "pa.Field[Any]", action: Action, path: str) -> _Made:
        if action is Action.DROP:
            return None
        if self._rules.is_shared and not _is_for(action, column.type):
            action = Action.REDACT
        is_text = pa.types.is_string(column.type)
        if action is Action.REDACT and not is_text:
            return column.with_nullable(True), _nulls  # noqa: FBT003 - Arrow's own
        if action is Action.MASK and not is_text:
            message = _not_for(path, action, "text", column.type)
            raise ConfigError(message)
        return column.with_type(pa.string()), self._leaf(column.type, action, path)

    def _leaf(self, type_: pa.DataType, action: Action, path: str) -> Callable[[_Array], _Array]:
        sql = self._sql(type_, action, path)

        def act(array: _Array) -> _Array:
            try:
                made = self._engine.compute([sql], [_VALUE], pa.table({_VALUE: array}))
            except duckdb.Error:
                # Without its cause, which may hold a value.
                message = f"{path}: {action} could not be computed; start again"
                raise UnavailableError(message) from None
            text: _Array = made.column(0)
            whole = text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()
            return whole.cast(pa.string())

        return act

    def _sql(self, type_: pa.DataType, action: Action, path: str) -> str:
        value = named(_VALUE)
        if action is Action.REDACT:
            return f"CASE WHEN {value} IS NOT NULL THEN '{REDACTED}' END"
        if action is Action.MASK:
            return (
                f"CASE WHEN length({value}) > 8 THEN repeat('*', length({value}) - 4) || "
                f"right({value}, 4) ELSE repeat('*', length({value})) END"
            )
        content = _content(value, type_)
        if content is None:
            message = _not_for(path, action, "text, binary, whole numbers and uuid", type_)
            raise ConfigError(message)
        if action is Action.HASH:
            return _hmac_sql(self._rules.secret, content)
        # A key of its own for each column, so that tokens of two columns cannot be joined.
        name = b"token\0" + _after(path).encode()
        key = hmac.digest(self._rules.secret, name, hashlib.sha256)
        return f"'tok_' || left({_hmac_sql(key, content)}, 32)"


class _Protect:
    """A step that protects some columns, and cannot fail."""

    def __init__(self, made: list[_Made]) -> None:
        self._made = made
        self._schema = pa.schema([one[0] for one in made if one is not None])

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Protect n rows."""
        del origin
        if not self._schema.names:
            # Without columns there is no array to tell how many rows there are.
            return Outcome(rows.select([]))
        arrays = [
            one[1](column)
            for one, column in zip(self._made, rows.columns, strict=True)
            if one is not None
        ]
        return Outcome(pa.RecordBatch.from_arrays(arrays, schema=self._schema))


def _same(array: _Array) -> _Array:
    return array


def _nulls(array: _Array) -> _Array:
    return pa.nulls(len(array), array.type)


def _struct_maker(made: list[_Made]) -> Callable[[_Array], _Array]:
    def make(array: _Array) -> _Array:
        # Below a null struct may lie anything, so it is taken away.
        children = array.flatten()
        pairs = [(one, child) for one, child in zip(made, children, strict=True) if one is not None]
        return pa.StructArray.from_arrays(
            [one[1](child) for one, child in pairs],
            fields=[one[0] for one, _ in pairs],
            mask=array.is_null(),
        )

    return make


def _list_maker(element: "tuple[pa.Field[Any], Callable[[_Array], _Array]]") -> Any:  # noqa: ANN401 - a maker
    compute: Any = pc
    lists: Any = pa.ListArray

    def make(array: _Array) -> _Array:
        lengths = compute.fill_null(compute.list_value_length(array), 0)
        ends = compute.cumulative_sum(lengths).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        values = element[1](array.flatten())
        return lists.from_arrays(offsets, values, type=pa.list_(element[0]), mask=array.is_null())

    return make


def _after(path: str) -> str:
    """Return the path of the same value after a change."""
    return path.removeprefix(f"{BEFORE}.")


def _covering(schema: pa.Schema, steps: Steps) -> Steps | None:
    """Return what has to be protected for a tagged field: itself, or the column that hides it.

    None where the table has no such field. A map, or JSON text, is protected as a whole.
    """
    if steps[0] not in schema.names:
        return None
    type_: Any = schema.field(steps[0]).type
    for place, step in enumerate(steps[1:], 1):
        if pa.types.is_struct(type_) and step != ELEMENT:
            if type_.get_field_index(step) < 0:
                return None
            type_ = type_.field(step).type
        elif pa.types.is_list(type_) and step == ELEMENT:
            type_ = type_.value_type
        else:
            return steps[:place]
    return steps


def _touches(chosen: Collection[Steps], steps: Steps) -> bool:
    """Tell whether a path is chosen, lies in one that is, or around one."""
    return any(one[: len(steps)] == steps[: len(one)] for one in chosen)


def _path(steps: Steps) -> str:
    return ".".join(steps).replace(f".{ELEMENT}", ELEMENT)


def _steps(path: str) -> Steps:
    return tuple(step for part in path.split(".") for step in _list_steps(part))


def _list_steps(part: str) -> list[str]:
    name = part.removesuffix(ELEMENT)
    return [part] if name == part else [*_list_steps(name), ELEMENT]


def _leads(schema: pa.Schema, path: str) -> bool:
    if path in schema.names:
        return True
    first, *rest = _steps(path)
    if first not in schema.names:
        return False
    type_: Any = schema.field(first).type
    for step in rest:
        if step == ELEMENT and pa.types.is_list(type_):
            type_ = type_.value_type
        elif pa.types.is_struct(type_) and type_.get_field_index(step) >= 0:
            type_ = type_.field(step).type
        else:
            return False
    return True


def _is_for(action: Action, type_: pa.DataType) -> bool:
    """Tell whether an action can be done to a type."""
    if action is Action.MASK:
        return pa.types.is_string(type_)
    return action not in (Action.HASH, Action.TOKENISE) or _content("", type_) is not None


def _content(value: str, type_: pa.DataType) -> str | None:
    """Return the bytes of a value that are hashed."""
    if pa.types.is_string(type_):
        return f"encode({value})"
    if pa.types.is_binary(type_):
        return value
    if pa.types.is_integer(type_) or type_.equals(pa.uuid()):
        return f"encode(CAST({value} AS VARCHAR))"
    return None


def _hmac_sql(key: bytes, content: str) -> str:
    """Write HMAC-SHA256 with what DuckDB has. Source: RFC 2104."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(
        _BLOCK_BYTES, b"\0"
    )
    inner, outer = (bytes(byte ^ pad for byte in block).hex() for pad in (0x36, 0x5C))
    inside = f"sha256(unhex('{inner}') || {content})"
    return f"sha256(unhex('{outer}') || unhex({inside}))"


def _not_for(path: str, action: Action, allowed: str, type_: pa.DataType) -> str:
    return (
        f'privacy.columns: "{path}" is {arrow_type_text(type_)}: {action} is for {allowed}; redact '
        f"or drop it"
    )
