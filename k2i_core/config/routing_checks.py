"""What must hold between several tables of one file, and what each of them says for itself."""

from collections.abc import Iterator, Sequence

from k2i_core.config.format import Format
from k2i_core.config.privacy import Privacy
from k2i_core.config.problems import KeyPath, quoted
from k2i_core.config.routing import PLACEHOLDER, RoutedTable

MESSAGE_FORMATS = ("avro", "protobuf")
"""Formats whose records have the full name of what they are, in the schema that they name."""

FIELD_FORMATS = ("json", "avro", "protobuf", "json_schema", "csv", "msgpack", "arrow_ipc")
"""Formats of which one field can be read before the rest."""


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
    field = table.match.field
    names = format_.csv.columns if format_.csv else None
    if field and format_.value not in FIELD_FORMATS:
        message = f"is nothing that format {format_.value} has; match by topic or header"
        yield "field", message
    elif field and format_.value == "csv" and field not in (names or ()):
        yield "field", f"{quoted(field)} is none of format.csv.columns, which say where it stands"
    if table.match.message and format_.value not in MESSAGE_FORMATS:
        allowed = " and ".join(MESSAGE_FORMATS)
        yield "message", f"is not supported yet for format {format_.value}; it is for {allowed}"
    elif table.match.message and not format_.reads_registry:
        yield "message", "needs format.schema_registry"


def check_undeclared(place: int, table: RoutedTable) -> Iterator[tuple[KeyPath, str]]:
    """Yield what needs columns before the first record, where only that would tell them."""
    for key in ("partition_by", "sort_by", "transforms"):
        if getattr(table, key):
            yield ("tables", place, key), "needs columns beside it, where there are tables"
    if table.schema_evolution == "strict":
        message = "strict needs columns beside it, where there are tables"
        yield ("tables", place, "schema_evolution"), message


def check_names(
    tables: Sequence[RoutedTable], privacy: Privacy, format_: Format | None
) -> Iterator[tuple[KeyPath, str]]:
    """Yield where the name of a table, which anybody may read, would be something private."""
    for place, table in enumerate(tables):
        path, match = ("tables", place, "match"), table.match
        if not table.is_template or match is None:
            continue
        if match.header is not None and privacy.headers == "drop":
            message = f"would be written as {PLACEHOLDER}; privacy.headers says drop"
            yield (*path, "header"), message
        if match.field is not None and _may_be_private(match.field, privacy, format_):
            message = f"would be written as {PLACEHOLDER}, and privacy is about it or may be"
            yield (*path, "field"), message


def check_paths(paths: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """Yield paths inside of others: which of the two counts would depend on a table's columns."""
    for path in paths:
        if any(path.startswith((f"{other}.", f"{other}[")) for other in paths):
            yield ("privacy", "columns", path), "lies inside another path"


def _may_be_private(field: str, privacy: Privacy, format_: Format | None) -> bool:
    # What schemas tag is known later; and of an envelope, columns are called otherwise.
    if privacy.tags or (privacy.columns and format_ and format_.envelope):
        return True
    return any(field == path or field.startswith(f"{path}.") for path in privacy.columns)
