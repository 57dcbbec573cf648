"""Rules by which records find their tables: topic, header, a field of the value or its message.

The first rule that fits decides, by the record alone. The texts of a rule are looked up once for
each that is different, so that a record costs a number.
"""

import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.records import STAGE_ROUTE, DecodeFailure, Routes

NO_MATCH = "no_match"
TOO_MANY_TABLES = "too_many_tables"

TEXTS_KEPT_MAX = 10_000
"""Texts of a rule of which it is remembered what they mean. Larger costs memory for a field that is
different in every record; smaller looks the same ones up again."""

ONE_TOO_MANY = ""
"""Stands instead of a table's identifier where there would be one table more than there may be.

That is not as if the rule did not fit: once more may be, or others are gone, the record would be
one of that table, and in the meantime it would have become a row of another."""

_NO_TABLE, _ONE_TOO_MANY = -1, -2  # where there is no place in a list of tables

Texts = Callable[[pa.RecordBatch], pa.StringArray]
"""n records → n texts; null where a record has none."""

Undecided = Callable[[pa.RecordBatch], tuple[DecodeFailure, ...]]
"""n records → those of which it cannot be told today which texts they have."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which records go into a table.

    Attributes:
        texts: What is matched of each record; read once for all rules that share it.
        pattern: What the whole text has to be.
        name_of: Text that fits → table, or `ONE_TOO_MANY`; None where that would be no table that
            may be, whatever others there are.
    """

    texts: Texts
    pattern: re.Pattern[str]
    name_of: Callable[[str], str | None]


class SeenNames:
    """Names that records may give to tables, up to a number of them; thread-safe."""

    def __init__(
        self,
        place: Callable[[str], str],
        known: Iterable[str],
        *,
        taken: Collection[str],
        count_max: int,
        refused: Callable[[str], None] = lambda _name: None,
    ) -> None:
        """Bind what there may be.

        Args:
            place: Text → identifier of its table.
            known: Tables that are there.
            taken: Identifiers that are no table of this rule.
            count_max: Tables that there may be.
            refused: Told once about each that is one too many.

        """
        self._place = place
        self._known = set(known)
        self._taken = frozenset(taken)
        self._count_max = count_max
        self._refused = refused
        self._lock = threading.Lock()

    def __call__(self, text: str) -> str | None:
        """Return the table of a text, which counts from now on; see `Rule.name_of`."""
        if not re.fullmatch(r"[\w-]+", text):
            return None
        name = self._place(text)
        with self._lock:
            if name in self._taken:
                return None
            if name not in self._known:
                if len(self._known) >= self._count_max:
                    self._refused(name)
                    return ONE_TOO_MANY
                self._known.add(name)
        return name


class RuleRouter:
    """Routes records by rules in their order; see `ingest.ports.Router`."""

    def __init__(
        self,
        rules: Iterable[Rule],
        rest: str,
        *,
        refuses_rest: bool,
        undecided: Undecided = lambda _records: (),
    ) -> None:
        """Bind the rules.

        Args:
            rules: The first that fits decides.
            rest: The table of what fits none.
            refuses_rest: Whether that becomes dead letters of it; its tombstones are tombstones.
            undecided: Finds records that are dead letters wherever they go, because a later answer
                could lead them elsewhere.

        """
        self._rules = tuple(rules)
        self._rest = rest
        self._refuses_rest = refuses_rest
        self._undecided = undecided
        self._remembered = tuple(dict[str, str | None]() for _ in self._rules)

    def __call__(self, records: pa.RecordBatch) -> Routes:
        """Route n rows × POLLED_SCHEMA."""
        # Before any text is read, because what is known then stays known.
        undecided = self._undecided(records)
        tables = [self._rest]
        refused: list[DecodeFailure] = []
        codes = np.zeros(records.num_rows, np.int32)
        is_open = np.ones(records.num_rows, np.bool_)
        read: dict[Texts, pa.StringArray] = {}
        for rule, remembered in zip(self._rules, self._remembered, strict=True):
            if not is_open.any():
                break
            places = np.flatnonzero(is_open)
            if rule.texts not in read:
                read[rule.texts] = _read(rule.texts, records, places)
            texts = read[rule.texts].take(pa.array(places, pa.int64()))
            found = self._codes(rule, remembered, texts, tables)
            fits = found >= 0
            codes[places[fits]] = found[fits]
            is_open[places[found != _NO_TABLE]] = False
            refused += self._refusals(places[found == _ONE_TOO_MANY])
        if self._refuses_rest and is_open.any():
            is_open &= records.column("value").is_valid().to_numpy(zero_copy_only=False)
            refused += [no_match(int(place)) for place in np.flatnonzero(is_open)]
        return Routes(tuple(tables), codes, (*refused, *undecided))

    def _refusals(self, places: npt.NDArray[np.int64]) -> list[DecodeFailure]:
        """Refuse records that would make one table too many."""
        if self._refuses_rest:
            return [no_match(int(place)) for place in places]
        reason = "its table would be one more than max_tables allows"
        return [
            DecodeFailure(int(place), TOO_MANY_TABLES, reason, stage=STAGE_ROUTE)
            for place in places
        ]

    def _codes(
        self,
        rule: Rule,
        remembered: dict[str, str | None],
        texts: pa.StringArray,
        tables: list[str],
    ) -> npt.NDArray[np.int32]:
        encoded = texts.dictionary_encode()
        distinct = cast("list[str]", encoded.dictionary.to_pylist())
        # The last is for records without a text.
        places = np.full(len(distinct) + 1, _NO_TABLE, np.int32)
        for number, text in enumerate(distinct):
            name = self._name(rule, remembered, text)
            if name == ONE_TOO_MANY:
                places[number] = _ONE_TOO_MANY
            elif name is not None:
                if name not in tables:
                    tables.append(name)
                places[number] = tables.index(name)
        indices = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
        return places[indices]

    def _name(self, rule: Rule, remembered: dict[str, str | None], text: str) -> str | None:
        # Any thread may write: what a text means is decided once, by `name_of`.
        if text in remembered:
            return remembered[text]
        name = rule.name_of(text) if rule.pattern.fullmatch(text) else None
        if len(remembered) >= TEXTS_KEPT_MAX:
            remembered.clear()
        remembered[text] = name
        return name


def no_match(place: int) -> DecodeFailure:
    """Return why a record goes into no table."""
    reason = "no table's match fits the record"
    return DecodeFailure(place, NO_MATCH, reason, stage=STAGE_ROUTE)


def _read(texts: Texts, records: pa.RecordBatch, places: npt.NDArray[np.int64]) -> pa.StringArray:
    """Return the texts of the records at `places`, ascending, and null for the others."""
    if len(places) == records.num_rows:
        return texts(records)
    part = texts(records.take(pa.array(places, pa.int64())))
    rows = np.zeros(records.num_rows, np.int64)
    rows[places] = np.arange(len(places))
    is_open = np.zeros(records.num_rows, np.bool_)
    is_open[places] = True
    return part.take(pa.array(rows, pa.int64(), mask=~is_open))


def topic_texts(records: pa.RecordBatch) -> pa.StringArray:
    """Return the topics of n records."""
    return cast("pa.StringArray", records.column("topic"))


def header_texts(name: str) -> Texts:
    """Return what reads the last header of a name, where it is text."""

    def texts(records: pa.RecordBatch) -> pa.StringArray:
        headers = cast("pa.ListArray", records.column("headers"))
        flat = cast("pa.StructArray", pc.list_flatten(headers))
        keys = cast("pa.StringArray", flat.field("key"))
        is_named = pc.is_in(keys, pa.array([name], pa.string()))
        parents = pc.list_parent_indices(headers).filter(is_named).to_numpy()
        values = cast("pa.BinaryArray", flat.field("value")).filter(is_named)
        last = np.zeros(records.num_rows, np.int64)
        is_there = np.zeros(records.num_rows, np.bool_)
        last[parents] = np.arange(len(parents))  # of several in one record the last one stays
        is_there[parents] = True
        return _as_texts(values.take(pa.array(last, pa.int64(), mask=~is_there)))

    return texts


def _as_texts(values: pa.BinaryArray) -> pa.StringArray:
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array([_as_text(value) for value in values.to_pylist()], pa.string())
    return cast("pa.StringArray", texts)


def _as_text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
