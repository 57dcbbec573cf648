"""JSON objects → rows of a row schema.

    values ─► framing ─► reader ─► conversion ─► rows
                 │unframed       │unreadable                               │unfit
                 └───────────────┴──────────────────┬──────────────────────┘
                                          study, record by record
                            a reason · what the schema lacks · only empty unknown fields

Only the records on the lower line cost Python time. A decoder that may add columns proposes the
schema that all good records of the array fit; unknown fields that hold nothing (null, `{}`, `[]`
and what contains only those) are dropped from their records instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from k2i_core.decode.arrow import concat_batches
from k2i_core.decode.conform import Fault, Faults, failures_of
from k2i_core.decode.framing import WHITESPACE, FramedTexts, frame, to_text
from k2i_core.decode.isolation import Reader, UnreadableError, no_rows, read_good
from k2i_core.decode.json_columns import ColumnReader
from k2i_core.decode.json_growth import FIELDS_MAX, Growth, is_needed
from k2i_core.decode.json_maps import MapReader, has_map
from k2i_core.decode.json_plan import (
    convert_rows,
    parse_schema,
    plan_row,
)
from k2i_core.decode.json_rows import Findings, inspect, prune, study, unknown_path
from k2i_core.decode.json_trees import ErrorClass, RecordError, parse, write
from k2i_core.records import DecodedValues

SAMPLE_RECORDS_MAX = 64
"""Records looked at before a refused array is taken apart, to learn which unknown fields it has.
Larger: a cost for every array with one bad record; smaller: a field that one record in twenty has
is missed, and found only by taking the array apart."""

UNDECODABLE: Fault = (
    ErrorClass.UNDECODABLE,
    "the parser refuses this record for no known reason; report it as a bug",
)

NO_FORMATS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a closer look found at the texts that are no rows as they are.

    Attributes:
        faults: Of bad texts.
        pruned: Texts without their empty unknown fields.
        growth: What the others need that the schema lacks.
    """

    growth: Growth
    faults: Faults = field(default_factory=dict[int, Fault])
    pruned: dict[int, str] = field(default_factory=dict[int, str])


class JsonDecoder:
    """Decodes JSON objects; see the package for what that guarantees."""

    def __init__(
        self,
        row_schema: pa.Schema,
        *,
        time_formats: Mapping[str, str] = NO_FORMATS,
        may_add_columns: bool = False,
    ) -> None:
        """Plan how each column is read.

        Args:
            row_schema: Columns to make, without `_kafka`; not nullable means required.
            time_formats: Path of a timestamp (`created_at`, `items[].at`) → `epoch_s`, `epoch_ms`
                or `epoch_us`, when it is not ISO 8601 text.
            may_add_columns: Propose columns for unknown fields, instead of refusing the record.

        Raises:
            ConfigError: JSON cannot fill a column, or a time format does not apply.

        """
        self._row_schema = row_schema
        self._may_add_columns = may_add_columns
        self._row = plan_row(row_schema, time_formats)
        self._reader = _reader_of(parse_schema(self._row))

    @property
    def row_schema(self) -> pa.Schema:
        """The columns it makes."""
        return self._row_schema

    def decode(self, values: pa.BinaryArray) -> DecodedValues:
        """Decode n values.

        Args:
            values: Non-null; any bytes.

        """
        framed = frame(values)
        texts = framed.texts
        parsed, unreadable = self._read(texts)
        rows, unfit = convert_rows(self._row, parsed, self._row_schema)
        bad = _bad(len(texts), unreadable, unfit)
        if not bad:
            return self._report(values, framed, rows, {})
        judged = self._judge(texts, bad)
        if judged.growth.is_needed:
            proposed = judged.growth.row_schema(self._row_schema)
            return DecodedValues(no_rows(self._row_schema), proposed_schema=proposed)
        if judged.pruned:
            rows = self._add_pruned(rows, bad, judged)
        return self._report(values, framed, rows, judged.faults)

    def _read(self, texts: pa.StringArray) -> tuple[pa.RecordBatch, list[int]]:
        """Return parsed rows of the readable texts, and the others."""
        reader = self._reader
        if not self._may_add_columns:
            return self._read_good(texts, reader)
        try:
            return reader.read(texts), []
        except UnreadableError:
            growth = self._survey(texts)
        if growth.is_needed:
            # Every text must be looked at anyway to infer the types, so none is read.
            return no_rows(reader.parse_schema), list(range(len(texts)))
        # A producer may write an empty field that no column has into each of its records.
        tolerant = _reader_of(growth.parse_schema())
        parsed, unreadable = self._read_good(texts, tolerant)
        # A cast keeps the fields that the target names and drops the others, nested ones too.
        columns = [parsed.column(field.name).cast(field.type) for field in reader.parse_schema]
        if not columns:
            return parsed.select([]), unreadable
        return pa.RecordBatch.from_arrays(columns, schema=reader.parse_schema), unreadable

    def _read_good(self, texts: pa.StringArray, reader: Reader) -> tuple[pa.RecordBatch, list[int]]:
        return read_good(texts, reader, self._is_suspect)

    def _is_suspect(self, text: str) -> bool:
        try:
            return is_needed(inspect(self._row, text, may_add=self._may_add_columns))
        except RecordError:
            return True

    def _survey(self, texts: pa.StringArray) -> Growth:
        """Learn from some of the texts what they have beyond the schema."""
        growth = Growth(self._row)
        step = -(-len(texts) // SAMPLE_RECORDS_MAX)
        for index in range(0, len(texts), step):
            try:
                _, findings = study(self._row, texts[index].as_py(), may_add=True)
            except RecordError:
                continue  # Bad in another way; only the records that are read decide on it.
            growth.add(findings)
        return growth

    def _judge(self, texts: pa.StringArray, bad: list[int]) -> _Judged:
        judged = _Judged(Growth(self._row))
        for index in bad:
            text: str = texts[index].as_py()
            try:
                members, findings = study(self._row, text, may_add=self._may_add_columns)
            except RecordError as error:
                judged.faults[index] = error.fault
                continue
            if is_needed(findings):
                if not judged.growth.add(findings):
                    judged.faults[index] = cannot_add(findings)
            elif findings.unknown:
                judged.pruned[index] = write(prune(self._row, members))
            else:
                judged.faults[index] = UNDECODABLE
        return judged

    def _add_pruned(self, rows: pa.RecordBatch, bad: list[int], judged: _Judged) -> pa.RecordBatch:
        """Return the rows with those of the pruned texts among them, in order."""
        indices = list(judged.pruned)
        texts = pa.array(judged.pruned.values(), pa.string())
        parsed, unreadable = self._read_good(texts, self._reader)
        more_rows, unfit = convert_rows(self._row, parsed, self._row_schema)
        still_bad = set(_bad(len(texts), unreadable, unfit))
        judged.faults.update({indices[position]: UNDECODABLE for position in still_bad})

        without_row = set(bad)
        sources = [index for index in range(rows.num_rows + len(bad)) if index not in without_row]
        sources += [index for n, index in enumerate(indices) if n not in still_bad]
        order = sorted(range(len(sources)), key=sources.__getitem__)
        return concat_batches([rows, more_rows]).take(pa.array(order, pa.int64()))

    def _report(
        self,
        values: pa.BinaryArray,
        framed: FramedTexts,
        rows: pa.RecordBatch,
        text_faults: Faults,
    ) -> DecodedValues:
        if not framed.unframed and not text_faults:
            return DecodedValues(rows)
        indices = range(len(values)) if framed.indices is None else framed.indices
        faults = {index: _unframed_fault(values[index].as_py()) for index in framed.unframed}
        faults.update({indices[index]: fault for index, fault in text_faults.items()})
        kept = [index for index in range(len(values)) if index not in faults]
        assert len(kept) == rows.num_rows
        return DecodedValues(
            rows=rows,
            row_indices=pa.array(kept, pa.int64()),
            failures=failures_of(faults),
        )


def infer_row_schema(values: Iterable[bytes]) -> pa.Schema:
    """Return columns for the good records among the first ones of a topic; all optional.

    Args:
        values: Records, bad ones too; a few hundred tell enough.

    Returns:
        The columns in the order they were first seen; none when no record has a value.

    """
    row_schema = pa.schema([])
    row = plan_row(row_schema, NO_FORMATS)
    growth = Growth(row)
    for value in values:
        try:
            growth.add(study(row, to_text(value).strip(WHITESPACE), may_add=True)[1])
        except RecordError:
            continue  # It becomes a dead letter when it is decoded.
    return growth.row_schema(row_schema)


def _reader_of(schema: pa.Schema) -> Reader:
    is_simple = not any(has_map(field.type) for field in schema)
    return ColumnReader(schema) if is_simple else MapReader(schema)


def _unframed_fault(value: bytes) -> Fault:
    try:
        text = to_text(value).strip(WHITESPACE)
        if not text:
            return ErrorClass.INVALID_JSON, "empty"
        parse(text)
    except RecordError as error:
        return error.fault
    return UNDECODABLE


def cannot_add(findings: Findings) -> Fault:
    """Return why a record's fields cannot become columns."""
    path = next((unknown_path(parent, name) for parent, name, _ in findings.unknown), "")
    message = (
        f"{path}: the schema has no such field and cannot get it, because a name is empty, differs "
        f"from another only in letter case or dots, or fields={FIELDS_MAX} are reached"
    )
    return ErrorClass.UNKNOWN_FIELD, message


def _bad(count: int, unreadable: list[int], unfit: list[int]) -> list[int]:
    """Return the bad ones of `count` texts; `unfit` counts the readable ones only."""
    if not unfit:
        return unreadable
    gone = set(unreadable)
    readable = [index for index in range(count) if index not in gone]
    return sorted([*unreadable, *(readable[position] for position in unfit)])
