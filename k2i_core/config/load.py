"""From a pipeline file to a `Pipeline`, or to one error with everything that is wrong with it."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from k2i_core.config.checks import Sections, findings
from k2i_core.config.document import Document, plain_tree, read_document
from k2i_core.config.explain import model_of, problems_of
from k2i_core.config.format import Format
from k2i_core.config.kafka import Kafka
from k2i_core.config.maintenance import Maintenance
from k2i_core.config.monitoring import Monitoring
from k2i_core.config.overlay import (
    collect_secrets,
    overlay_command_line,
    overlay_environment,
    substitute,
)
from k2i_core.config.pipeline import Pipeline
from k2i_core.config.privacy import Privacy
from k2i_core.config.problems import KeyPath, Origin, Problem, fail
from k2i_core.config.routing import PLACEHOLDER, RoutedTable
from k2i_core.config.sections import DeadLetters, Flush
from k2i_core.config.serving import Serve
from k2i_core.config.settings import Section
from k2i_core.config.table import Table
from k2i_core.config.transforms import Transform
from k2i_core.config.user_checks import Check
from k2i_core.errors import ConfigError, ErrorKind

FILE_BYTES_MAX = 1024 * 1024
"""Larger lets a wrong path fill the memory, smaller refuses a table of thousands of columns."""

_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

_SectionT = TypeVar("_SectionT", bound=Section)


def load_pipeline(
    path: Path,
    *,
    overrides: Mapping[str, str] = _NO_OVERRIDES,
    environ: Mapping[str, str] | None = None,
) -> Pipeline:
    """Read and check a pipeline file.

    Args:
        path: The file; messages name it as it is given.
        overrides: `section.key` → value, from the command line; stronger than all else.
        environ: Variables for `${VAR}` and `K2I__SECTION__KEY`; None takes the process's own.

    Returns:
        The settings, complete with defaults.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong; the message has one line
            for each problem, with file, line and key. Fix the file.

    """
    variables = os.environ if environ is None else environ
    return read_pipeline(_file_text(path), str(path), overrides=overrides, environ=variables)


def read_pipeline(
    text: str,
    source: str,
    *,
    overrides: Mapping[str, str] = _NO_OVERRIDES,
    environ: Mapping[str, str] = _NO_OVERRIDES,
) -> Pipeline:
    """Check the text of a pipeline file, as `load_pipeline` does once it has read it.

    Args:
        text: YAML.
        source: The file's name, for messages.
        overrides: `section.key` → value.
        environ: All variables there are.

    Raises:
        ConfigError: As `load_pipeline`.

    """
    document = read_document(text, source)
    substitute(document, environ)
    overlay_environment(document, environ)
    overlay_command_line(document, overrides)
    return _checked(document)


def parse_pipeline(settings: Mapping[str, object], *, source: str = "pipeline") -> Pipeline:
    """Check settings that are in memory already, as a pipeline file would hold them.

    Args:
        settings: Taken as they are, without `${…}` and without variables.
        source: What messages name instead of a file.

    Raises:
        ConfigError: As `load_pipeline`, without lines.

    """
    return _checked(Document(tree=plain_tree(settings), origins={(): Origin(source)}))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the pipeline file, for editors."""
    schema = Pipeline.model_json_schema()
    schema["required"].remove("table")
    schema["oneOf"] = [{"required": ["table"]}, {"required": ["tables"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _file_text(path: Path) -> str:
    kind = ErrorKind.CONFIG_UNREADABLE
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            message = f"{path}: has more than {FILE_BYTES_MAX} bytes, so it is no pipeline file"
            raise ConfigError(message, kind=kind)
        return content.decode()
    except OSError as error:
        message = f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}"
        raise ConfigError(message, kind=kind) from error
    except UnicodeDecodeError as error:
        message = f"{path}: is not UTF-8 text, first at byte={error.start}"
        # Without its cause, which holds the whole file.
        raise ConfigError(message, kind=kind) from None


def _checked(document: Document) -> Pipeline:
    document.tree = _without_blanks(document.tree, Pipeline)
    secrets = frozenset({*document.secrets, *collect_secrets(document.tree)})
    pipeline, problems = None, list(document.problems)
    tree, own = _with_table(document.tree)
    try:
        pipeline = Pipeline.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][0] in own:
                problems.extend(problems_of(document, detail))
    broken = {problem.path[0] for problem in problems if problem.path}
    for path, message in findings(_sections(document.tree, broken)):
        problems.append(Problem(document.origin(path), path, message))
    if problems or pipeline is None:
        fail(_first_of_each_path(problems), secrets)
    return pipeline.with_secrets(frozenset(document.secrets))


def _without_blanks(tree: Mapping[str, Any], model: type[Section]) -> dict[str, Any]:
    """Leave out keys of the file with nothing behind them, so that their defaults hold.

    Foreign keys and unknown ones stay, because there it is a mistake.
    """
    kept = {k: v for k, v in tree.items() if v is not None or k not in model.model_fields}
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        value = kept.get(name)
        if inner is not None and isinstance(value, dict):
            kept[name] = _without_blanks(cast("dict[str, Any]", value), inner)
    return kept


def _with_table(tree: Mapping[str, Any]) -> tuple[Mapping[str, Any], Collection[str | int]]:
    """Let `table` be the first of `tables` that has a name of its own.

    Returns:
        The tree, and the keys of which problems are told: not of what is there twice.

    """
    keys = {*tree, *Pipeline.model_fields}
    tables = tree.get("tables")
    if not tables or not isinstance(tables, list) or "table" in tree:
        return tree, keys
    fixed = [
        table
        for table in cast("list[object]", tables)
        if isinstance(table, dict) and PLACEHOLDER not in str(cast("Any", table).get("identifier"))
    ]
    lead = cast("dict[str, Any]", fixed[0] if fixed else {"identifier": "none.none"})
    written = {key: value for key, value in lead.items() if key in Table.model_fields}
    return {**tree, "table": written}, keys - {"table"}


def _sections(tree: Mapping[str, Any], broken: set[str | int]) -> Sections:
    def section(name: str, kind: type[_SectionT]) -> _SectionT | None:
        return None if name in broken else kind.model_validate(tree.get(name, {}))

    def sections_of(name: str, kind: type[_SectionT]) -> tuple[_SectionT, ...]:
        listed = () if name in broken else tree.get(name, ())
        return tuple(kind.model_validate(one) for one in listed)

    return Sections(
        kafka=section("kafka", Kafka),
        format=section("format", Format),
        table=section("table", Table) if "tables" not in tree else None,
        tables=sections_of("tables", RoutedTable),
        has_table="table" in tree,
        flush=section("flush", Flush),
        dead_letters=section("dead_letters", DeadLetters),
        maintenance=section("maintenance", Maintenance),
        monitoring=section("monitoring", Monitoring),
        serve=section("serve", Serve),
        checks=sections_of("checks", Check),
        transforms=sections_of("transforms", Transform),
        privacy=section("privacy", Privacy) if "privacy" in tree else None,
    )


def _first_of_each_path(problems: list[Problem]) -> Iterator[Problem]:
    """Drop what only follows from an earlier problem with the same value."""
    seen: set[tuple[Origin, KeyPath]] = set()
    for problem in problems:
        if (problem.origin, problem.path) not in seen:
            seen.add((problem.origin, problem.path))
            yield problem
