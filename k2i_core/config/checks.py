"""What must hold between settings that are each valid on their own.

Every check takes the sections that could be read, and yields (path, message) for whatever is
wrong, so that one run shows all of it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from k2i_core.config.format import Format
from k2i_core.config.kafka import Kafka, StartOffsets
from k2i_core.config.layout import TIME_TRANSFORMS, PartitionField, column_type
from k2i_core.config.maintenance import Maintenance
from k2i_core.config.monitoring import Monitoring
from k2i_core.config.pipeline import (
    ENVELOPE_FIELDS,
    VALUE_COLUMN,
    VALUE_TYPES,
    declared_columns,
)
from k2i_core.config.privacy import TAGGED_FORMATS, Privacy
from k2i_core.config.problems import KeyPath, quoted
from k2i_core.config.routing import RoutedTable
from k2i_core.config.routing_checks import (
    check_matches,
    check_names,
    check_paths,
    check_undeclared,
)
from k2i_core.config.sections import DeadLetters, Flush
from k2i_core.config.serving import Serve
from k2i_core.config.table import CODEC_LEVEL_KEY, Column, Table, codec_level_refusal
from k2i_core.config.transforms import Transform
from k2i_core.config.units import duration_text, size_text
from k2i_core.config.user_checks import Check
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.iceberg_types import IcebergField, is_nested
from k2i_core.schema.type_texts import type_text

Finding = tuple[KeyPath, str]


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of one file that are valid on their own; None for the others."""

    kafka: Kafka | None
    format: Format | None
    table: Table | None
    tables: tuple[RoutedTable, ...]
    has_table: bool
    flush: Flush | None
    dead_letters: DeadLetters | None
    maintenance: Maintenance | None
    monitoring: Monitoring | None
    serve: Serve | None
    checks: tuple[Check, ...] = ()
    transforms: tuple[Transform, ...] = ()
    privacy: Privacy | None = None

    def columns_of(self, table: Table | None) -> Sequence[IcebergField] | None:
        """Return a table's columns as far as the file alone tells; None for none."""
        transforms = table.transforms if isinstance(table, RoutedTable) else self.transforms
        if table is None or transforms or self.privacy:
            return None
        return declared_columns(self.format, table)


def findings(sections: Sections) -> Iterator[Finding]:
    """Yield everything that is wrong between settings."""
    if sections.kafka:
        yield from _check_topics(sections.kafka)
        yield from _check_letter_topic(sections.kafka, sections.dead_letters)
    yield from _check_all_tables(sections)
    if sections.privacy and sections.format:
        yield from _check_tags(sections.privacy, sections.format)
    if sections.flush:
        yield from _check_flush_bytes(sections.flush)
    if sections.maintenance:
        yield from _check_expiration(sections.maintenance)
        yield from _check_z_order(sections.maintenance)
    if sections.monitoring:
        yield from _check_freshness(sections.monitoring)
        yield from _check_limits(sections.monitoring)
    yield from _check_names(("checks",), sections.checks)
    if sections.serve:
        yield from _check_certificate(sections.serve)


def _check_all_tables(sections: Sections) -> Iterator[Finding]:
    one = [] if sections.table is None else [(("table",), sections.table)]
    several = [(("tables", place), table) for place, table in enumerate(sections.tables)]
    for path, table in (*one, *several):
        for below, message in _check_table(sections, table):
            yield (*path, *below), message
        if sections.dead_letters:
            yield from _check_dead_letters(table, sections.dead_letters)
    if sections.format:
        yield from _check_key_name(sections.format)
        yield from _check_csv_names(sections.format, [table for _, table in (*one, *several)])
    if sections.table and sections.monitoring:
        columns, path = sections.columns_of(sections.table), ("monitoring", "unique_key")
        yield from _check_unique_key(path, sections.monitoring.unique_key, columns)
    if sections.tables:
        yield from _check_tables(sections)


def _check_table(sections: Sections, table: Table) -> Iterator[Finding]:
    """Yield what is wrong with one table, with paths that begin below it."""
    yield from _check_columns(table.columns or ())
    yield from _check_codec_level(table)
    columns = sections.columns_of(table)
    yield from _check_partition_fields(table, columns)
    yield from _check_sort_fields(table, columns)
    if sections.format:
        yield from _check_value_column(sections.format, table)
        yield from _check_csv_columns(sections.format, table)
        yield from _check_key_column(sections.format, table)
        yield from _check_envelope(sections.format, table)


def _check_tables(sections: Sections) -> Iterator[Finding]:
    """Yield what is wrong between several tables, and with what goes with one only."""
    if sections.has_table:
        yield ("tables",), "stands beside table; write one of them"
    if sections.dead_letters and sections.dead_letters.table is None:
        yield ("dead_letters", "table"), 'is required with tables, for example "sales.dead_letters"'
    yield from check_matches(sections.tables, sections.format)
    for place, table in enumerate(sections.tables):
        if declared_columns(sections.format, table) is None:
            yield from check_undeclared(place, table)
        yield from _check_own(place, table, sections)
    if sections.privacy:
        yield from check_names(sections.tables, sections.privacy, sections.format)
        yield from check_paths(tuple(sections.privacy.columns))
    yield from _check_of_one_table(sections)


def _check_tags(privacy: Privacy, format_: Format) -> Iterator[Finding]:
    if privacy.tags and format_.value not in TAGGED_FORMATS:
        message = (
            f"are of schemas of {', '.join(TAGGED_FORMATS)}; with format {format_.value} name "
            "the columns under privacy.columns"
        )
        yield ("privacy", "tags"), message


def _check_of_one_table(sections: Sections) -> Iterator[Finding]:
    """Yield what stands for the whole pipeline, where it is of one table."""
    message = "is of one table; write it at those of tables that it is meant for"
    for key in ("checks", "transforms"):
        if getattr(sections, key):
            yield (key,), message
    if sections.monitoring and sections.monitoring.unique_key:
        yield ("monitoring", "unique_key"), message
    if sections.maintenance and sections.maintenance.compaction.order == "z_order":
        message = (
            "z_order is of one table; write z_order_by at those of tables that it is meant for"
        )
        yield ("maintenance", "compaction", "order"), message


def _check_own(place: int, table: RoutedTable, sections: Sections) -> Iterator[Finding]:
    """Yield what is wrong with what one of several tables says of itself beside its layout."""
    path, columns = ("tables", place), sections.columns_of(table)
    yield from _check_unique_key((*path, "unique_key"), table.unique_key, columns)
    yield from _check_names((*path, "checks"), table.checks)
    if len(table.z_order_by) == 1:
        message = "needs two columns or more; for one, sort the table by it"
        yield (*path, "z_order_by"), message
    for index, name in enumerate(table.z_order_by):
        if columns is not None and column_type(columns, name) is None:
            yield (*path, "z_order_by", index), _no_column(name, columns)


def _check_topics(kafka: Kafka) -> Iterator[Finding]:
    if bool(kafka.topics) == (kafka.topic_pattern is not None):
        given = "both are" if kafka.topics else "none is"
        yield ("kafka",), f"exactly one of topics and topic_pattern must be written, {given}"
    for index, topic in enumerate(kafka.topics):
        if topic in kafka.topics[:index]:
            yield ("kafka", "topics", index), f"{quoted(topic)} is there twice"
    if isinstance(kafka.start, StartOffsets) and kafka.topics:
        for topic in kafka.start.next_offsets:
            if topic not in kafka.topics:
                allowed = ", ".join(kafka.topics)
                message = f"{quoted(topic)} is not one of topics: {allowed}"
                yield ("kafka", "start", "offsets", topic), message


def _check_columns(columns: tuple[Column, ...]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for index, column in enumerate(columns):
        first = seen.setdefault(column.name.casefold(), column.name)
        if first == column.name and column.name in (c.name for c in columns[:index]):
            message = f"{quoted(column.name)} is there twice"
            yield ("columns", index, "name"), message
        elif first != column.name:
            message = f"{quoted(column.name)} differs only in letter case from {quoted(first)}"
            yield ("columns", index, "name"), message


def _check_codec_level(table: Table) -> Iterator[Finding]:
    if refusal := codec_level_refusal(table.properties.reveal()):
        yield ("properties", CODEC_LEVEL_KEY), refusal


def _check_value_column(format_: Format, table: Table) -> Iterator[Finding]:
    if format_.value not in VALUE_TYPES or table.columns is None:
        return
    expected = VALUE_TYPES[format_.value]
    columns = [c for c in table.columns if c.name != format_.key_column_name]
    if [(column.name, column.type) for column in columns] != [(VALUE_COLUMN, expected)]:
        message = (
            f"format {format_.value} has exactly one column, {VALUE_COLUMN} of type "
            f"{type_text(expected)}; leave columns out, or write that one"
        )
        yield ("columns",), message


def _check_csv_names(format_: Format, tables: Sequence[Table]) -> Iterator[Finding]:
    is_named = format_.csv is not None and format_.csv.columns is not None
    if format_.value == "csv" and not is_named and any(t.columns is None for t in tables):
        message = "needs table.columns, or the names of the fields in format.csv.columns"
        yield ("format", "value"), message


def _check_csv_columns(format_: Format, table: Table) -> Iterator[Finding]:
    if format_.value != "csv":
        return
    names = format_.csv.columns if format_.csv else None
    for index, column in enumerate(table.columns or ()):
        path = ("columns", index)
        is_filled = names is None or column.name in names
        if is_filled and is_nested(column.type):
            message = f"{quoted(column.name)} is {type_text(column.type)}, which no csv field is"
            yield (*path, "type"), message
        elif column.required and not is_filled:
            message = f"{quoted(column.name)} is none of format.csv.columns, so it is always null"
            yield (*path, "required"), message


def _check_envelope(format_: Format, table: Table) -> Iterator[Finding]:
    if format_.envelope is None:
        return
    for index, column in enumerate(table.columns or ()):
        for field in ENVELOPE_FIELDS:
            if column.name == field.name and column.type != field.type:
                message = f"{quoted(column.name)} is {type_text(field.type)} in every envelope"
                yield ("columns", index, "type"), message


def _check_key_column(format_: Format, table: Table) -> Iterator[Finding]:
    name = format_.key_column_name
    if name is None:
        return
    for index, column in enumerate(table.columns or ()):
        if column.name != name and column.name.casefold() == name.casefold():
            message = f"{quoted(column.name)} differs only in letter case from key_column"
            yield ("columns", index, "name"), message
    columns = declared_columns(format_, table) or ()
    is_strict = table.schema_evolution is SchemaEvolution.STRICT
    if is_strict and columns and name not in _names(columns):
        message = f"has no column {name} for keys, which strict cannot add; declare it"
        yield ("columns",), message


def _check_key_name(format_: Format) -> Iterator[Finding]:
    name = format_.key_column_name
    if format_.value in VALUE_TYPES and name == VALUE_COLUMN:
        yield ("format", "key_column"), f"{quoted(name)} is the column of values"


def _check_partition_fields(
    table: Table, columns: Sequence[IcebergField] | None
) -> Iterator[Finding]:
    purposes: Counter[tuple[str, str, int | None]] = Counter()
    names: Counter[str] = Counter()
    for index, field in enumerate(table.partition_by):
        path = ("partition_by", index)
        is_time = field.transform in TIME_TRANSFORMS
        purpose = ("time" if is_time else field.transform, field.column, field.argument)
        if purposes[purpose]:
            what = "partitioned by time" if is_time else "there"
            yield path, f"{quoted(str(field))}: {field.column} is {what} already"
        elif names[field.name]:
            yield path, f"{quoted(str(field))} makes a second partition field {field.name}"
        purposes[purpose] += 1
        names[field.name] += 1
        if columns is not None:
            yield from _check_partition_source(path, field, columns)


def _check_partition_source(
    path: KeyPath, field: PartitionField, columns: Sequence[IcebergField]
) -> Iterator[Finding]:
    type_ = column_type(columns, field.column)
    if type_ is None:
        yield path, _no_column(field.column, columns)
    elif refusal := field.refusal(type_):
        yield path, f"{quoted(str(field))}: {refusal}"
    elif field.transform != "identity" and field.name in _names(columns):
        message = f"{quoted(str(field))} makes a partition field {field.name}, a column's name"
        yield path, message


def _check_sort_fields(table: Table, columns: Sequence[IcebergField] | None) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, field in enumerate(table.sort_by):
        path = ("sort_by", index)
        if field.column in seen:
            yield path, f"{quoted(field.column)} is there already"
        seen.add(field.column)
        type_ = column_type(columns, field.column) if columns is not None else None
        if columns is not None and type_ is None:
            yield path, _no_column(field.column, columns)
        elif type_ is not None and is_nested(type_):
            message = f"{quoted(field.column)} is {type_text(type_)}, which has no order"
            yield path, message


def _no_column(column: str, columns: Sequence[IcebergField]) -> str:
    return f"{quoted(column)} is not a column; columns: {', '.join(_names(columns))}"


def _names(columns: Sequence[IcebergField]) -> list[str]:
    return [column.name for column in columns]


def _check_dead_letters(table: Table, dead_letters: DeadLetters) -> Iterator[Finding]:
    if dead_letters.table == table.identifier:
        message = f"{quoted(table.identifier)} is the table of the rows; name another"
        yield ("dead_letters", "table"), message


def _check_letter_topic(kafka: Kafka, dead_letters: DeadLetters | None) -> Iterator[Finding]:
    if dead_letters is None or dead_letters.topic is None:
        return
    topic, pattern = dead_letters.topic, kafka.topic_pattern
    if topic in kafka.topics or (pattern is not None and re.search(pattern, topic)):
        message = f"{quoted(topic)} is read by this pipeline, so it would read its own dead letters"
        yield ("dead_letters", "topic"), message


def _check_flush_bytes(flush: Flush) -> Iterator[Finding]:
    if flush.max_bytes > flush.max_buffered_bytes:
        message = (
            f"{size_text(flush.max_bytes)} is more than flush.max_buffered_bytes, "
            f"{size_text(flush.max_buffered_bytes)}, so it would never be reached"
        )
        yield ("flush", "max_bytes"), message


def _check_expiration(maintenance: Maintenance) -> Iterator[Finding]:
    expiration = maintenance.expiration
    if expiration.retain_last > expiration.max_snapshots:
        message = f"{expiration.retain_last} is more than max_snapshots, {expiration.max_snapshots}"
        yield ("maintenance", "expiration", "retain_last"), message


def _check_z_order(maintenance: Maintenance) -> Iterator[Finding]:
    compaction = maintenance.compaction
    if compaction.order == "z_order" and len(compaction.z_order_by) < 2:  # noqa: PLR2004 - of one is a sort
        message = "needs two columns or more when order is z_order; for one, sort the table by it"
        yield ("maintenance", "compaction", "z_order_by"), message
    elif compaction.order != "z_order" and compaction.z_order_by:
        message = "is for order: z_order only"
        yield ("maintenance", "compaction", "z_order_by"), message


def _check_freshness(monitoring: Monitoring) -> Iterator[Finding]:
    warn, fail = monitoring.freshness.warn, monitoring.freshness.fail
    # Both as Dagster's freshness policies have it.
    if warn is not None and fail is None:
        yield ("monitoring", "freshness", "fail"), "is required when warn is written"
    elif warn is not None and fail is not None and warn >= fail:
        message = f"{duration_text(warn)} is not less than fail, {duration_text(fail)}"
        yield ("monitoring", "freshness", "warn"), message


def _check_limits(monitoring: Monitoring) -> Iterator[Finding]:
    lag, share = monitoring.lag_messages, monitoring.dead_letter_share
    for name, warn, fail in (
        ("lag_messages", lag.warn, lag.fail),
        ("dead_letter_share", share.warn, share.fail),
    ):
        if warn is not None and fail is not None and warn > fail:
            yield ("monitoring", name, "warn"), f"{warn} is more than fail, {fail}"


def _check_unique_key(
    key_path: KeyPath, unique_key: Sequence[str], columns: Sequence[IcebergField] | None
) -> Iterator[Finding]:
    for index, name in enumerate(unique_key):
        path = (*key_path, index)
        type_ = column_type(columns, name) if columns is not None else None
        if columns is not None and type_ is None:
            yield path, _no_column(name, columns)
        elif type_ is not None and is_nested(type_):
            yield path, f"{quoted(name)} is {type_text(type_)}, which is no key"


def _check_names(path: KeyPath, checks: Sequence[Check]) -> Iterator[Finding]:
    for index, check in enumerate(checks):
        if check.name in (earlier.name for earlier in checks[:index]):
            yield (*path, index, "name"), f"{quoted(check.name)} is there twice"


def _check_certificate(serve: Serve) -> Iterator[Finding]:
    if (serve.certificate is None) != (serve.certificate_key is None):
        missing = "certificate" if serve.certificate is None else "certificate_key"
        yield ("serve", missing), "is missing: a certificate and its key are written together"
