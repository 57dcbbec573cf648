"""What must hold between several tables of one file."""

from collections.abc import Iterator, Sequence

from k2i_core.config.format import Format
from k2i_core.config.problems import KeyPath, quoted
from k2i_core.config.routing import PLACEHOLDER, RoutedTable


def check_matches(
    tables: Sequence[RoutedTable], format_: Format | None
) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with who gets which records."""
    if all(table.is_template for table in tables):
        yield ("tables",), f"needs one table without {PLACEHOLDER}: it accounts for tombstones"
    for place, table in enumerate(tables):
        path, earlier = ("tables", place), tables[:place]
        if table.identifier in (other.identifier for other in earlier):
            yield (*path, "identifier"), f"{quoted(table.identifier)} is there twice"
        if table.match is None and any(other.match is None for other in earlier):
            yield (*path, "match"), "is required: another table gets the rest already"
        if table.match is None and table.is_template:
            yield (*path, "match"), f"is required: it says what {PLACEHOLDER} is"
        if table.match and format_:
            for key, message in _unmatchable(table, format_):
                yield (*path, "match", key), message


def _unmatchable(table: RoutedTable, format_: Format) -> Iterator[tuple[str, str]]:
    assert table.match is not None
    if table.match.field and format_.value != "json":
        yield "field", f"is not supported yet for format {format_.value}; match by message"
    if table.match.message and format_.value != "avro":
        yield "message", f"is not supported yet for format {format_.value}; it is for avro"
    elif table.match.message and format_.schema_registry is None:
        yield "message", "needs format.schema_registry"


def check_undeclared(place: int, table: RoutedTable) -> Iterator[tuple[KeyPath, str]]:
    """Yield what needs columns before the first record, where only that would tell them."""
    for key in ("partition_by", "sort_by"):
        if getattr(table, key):
            yield ("tables", place, key), "needs columns beside it, where there are tables"
    if table.schema_evolution == "strict":
        message = "strict needs columns beside it, where there are tables"
        yield ("tables", place, "schema_evolution"), message
