"""Steps in order, planned once for each schema that records have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from k2i_core.errors import ConfigError
from k2i_core.records import ITEM_COLUMN, ITEM_TYPE, DecodeFailure, TransformedRows
from k2i_core.schema.tags import Steps
from k2i_core.transform.exploding import Explode, with_items
from k2i_core.transform.privacy import Action, Privacy
from k2i_core.transform.steps import (
    Fault,
    Integers,
    NameTakenError,
    Outcome,
    Step,
    check_distinct,
)

NAME_TAKEN = "name_taken"


@dataclass(frozen=True, slots=True)
class Declared:
    """One step as it is written in the pipeline file.

    Attributes:
        key: Where, for messages.
        make: Makes it for the columns before it; raises ConfigError with the reason alone.
    """

    key: str
    make: Callable[[pa.Schema], Step]


class Chain:
    """All steps for records of one schema."""

    def __init__(self, schema: pa.Schema, steps: Sequence[tuple[str, Step]]) -> None:
        """Bind steps, of which each was made for the columns that the one before leaves."""
        self.steps = steps
        self.schema = steps[-1][1].schema if steps else schema
        self._makes_several = any(isinstance(step, Explode) for _, step in steps)
        if self._makes_several:
            self.schema = self.schema.append(pa.field(ITEM_COLUMN, ITEM_TYPE))

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> TransformedRows:
        """Make n rows of records into rows of the table."""
        places: Integers | None = None
        failures: dict[int, DecodeFailure] = {}
        for key, step in self.steps:
            if places is not None and isinstance(step, Explode):
                outcome = step.explode(rows, places)
            else:
                outcome = step.apply(rows, origin)
            for index, (error_class, reason) in sorted(outcome.faults.items()):
                place = index if places is None else int(places[index])
                # The first row of a record that fails says why the record does.
                failure = DecodeFailure(place, error_class, f"{key}: {reason}")
                failures.setdefault(place, failure)
            rows = outcome.rows
            if outcome.places is not None:
                places = outcome.places if places is None else places[outcome.places]
                origin = origin.take(pa.array(outcome.places, pa.int64()))
        if self._makes_several:
            assert places is not None
            if failures:
                is_whole = ~np.isin(places, list(failures))
                mask = pa.array(is_whole)
                rows, origin, places = rows.filter(mask), origin.filter(mask), places[is_whole]
            rows = with_items(rows, places)
        return TransformedRows(
            rows=rows,
            origin=origin,
            row_indices=None if places is None else pa.array(places, pa.int64()),
            failures=tuple(failures[place] for place in sorted(failures)),
        )


class Transforms:
    """The chain of a pipeline, for records of any schema; thread-safe."""

    def __init__(self, declared: Sequence[Declared], privacy: Privacy | None = None) -> None:
        """Plan nothing yet.

        Args:
            declared: In their order.
            privacy: Done to the records' columns before them, and to what they make after them.

        """
        self._declared = declared
        self._privacy = privacy
        # Written by any thread: whichever is last, the chains of one schema are alike.
        self._chains: dict[pa.Schema, tuple[Chain, object]] = {}

    def check(self, record_schema: pa.Schema) -> pa.Schema:
        """Return the table's columns for records whose columns a user chose.

        Raises:
            ConfigError: A step cannot be done with them; the message names its key.

        """
        return _plan(record_schema, self._declared, self._privacy).schema

    def derive(self, record_schema: pa.Schema) -> pa.Schema:
        """Return the table's columns for records that may have come with any others.

        A column of theirs that has the name of one that a step makes has no place in the table: a
        record with something in it becomes a dead letter.

        Raises:
            ConfigError: A step cannot be done; declare the columns that steps name.

        """
        try:
            return self._chain(record_schema).schema
        except ConfigError as error:
            message = f"{error}; declare the columns that transforms name in table.columns"
            raise ConfigError(message) from error

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> TransformedRows:
        """Make n rows of records into rows of the table."""
        return self._chain(rows.schema).apply(rows, origin)

    def _chain(self, schema: pa.Schema) -> Chain:
        tagged = None if self._privacy is None else self._privacy.tagged()
        known = self._chains.get(schema)
        if known is None or known[1] is not tagged:
            planned = _plan_around(schema, self._declared, self._privacy)
            known = self._chains[schema] = planned, tagged
        return known[0]

    def hide(self, origin: pa.StructArray) -> pa.StructArray:
        """Return where n records come from, without what must not be written."""
        return origin if self._privacy is None else self._privacy.hide(origin)

    @property
    def keeps_bytes(self) -> bool:
        """Whether dead letters keep their value, key and headers as they came."""
        return self._privacy is None or self._privacy.keeps_bytes


def _plan(schema: pa.Schema, declared: Sequence[Declared], privacy: Privacy | None) -> Chain:
    steps: list[tuple[str, Step]] = []
    current = schema
    of_records = frozenset[str]() if privacy is None else privacy.paths_in(schema)
    tagged: Mapping[Steps, Action] = {} if privacy is None else privacy.tagged()
    if privacy is not None and (of_records or tagged):
        # First, so that no step can carry a plain value elsewhere.
        steps.append(("privacy", privacy.protect(current, of_records, tagged)))
        current = steps[-1][1].schema
    for one in declared:
        try:
            step = one.make(current)
        except NameTakenError as error:
            raise NameTakenError(error.column, one.key) from error
        except ConfigError as error:
            message = f"{one.key}: {error}"
            raise ConfigError(message) from error
        steps.append((one.key, step))
        current = step.schema
    if privacy is not None:
        made = privacy.paths_in(current) - of_records
        privacy.check(of_records | made, [*schema.names, *current.names])
        if made:
            steps.append(("privacy", privacy.protect(current, made, {})))
    for key, step in steps:
        if isinstance(step, Explode):
            _check_item_column(current, key)
    return Chain(schema, steps)


def _check_item_column(schema: pa.Schema, key: str) -> None:
    try:
        check_distinct(schema.names, [ITEM_COLUMN])
    except NameTakenError as error:
        raise NameTakenError(error.column, key) from error


def _plan_around(schema: pa.Schema, declared: Sequence[Declared], privacy: Privacy | None) -> Chain:
    """Plan without the columns whose names steps need."""
    taken: list[str] = []
    while True:
        guard = _Guard(schema, taken)
        try:
            planned = _plan(guard.schema, declared, privacy)
        except NameTakenError as error:
            if error.column not in guard.schema.names:
                raise
            taken.append(error.column)
            continue
        return Chain(schema, [("transforms", guard), *planned.steps]) if taken else planned


class _Guard:
    """Leaves out columns that have no place, and fails the records that have something there."""

    def __init__(self, schema: pa.Schema, taken: Sequence[str]) -> None:
        self._taken = taken
        self._schema = pa.schema([column for column in schema if column.name not in taken])

    @property
    def schema(self) -> pa.Schema:
        """The columns that it leaves."""
        return self._schema

    def apply(self, rows: pa.RecordBatch, origin: pa.StructArray) -> Outcome:
        """Leave out the columns."""
        del origin
        kept = rows.select(self._schema.names)
        faults: dict[int, Fault] = {}
        for name in self._taken:
            column: Any = rows.column(name)
            reason = f"{name}: a step makes a column of this name, so the record's has no place"
            for index in np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)):
                faults.setdefault(int(index), (NAME_TAKEN, reason))
        if not faults:
            return Outcome(kept)
        is_kept = np.ones(rows.num_rows, np.bool_)
        is_kept[list(faults)] = False
        return Outcome(kept.filter(pa.array(is_kept)), np.flatnonzero(is_kept), faults)
