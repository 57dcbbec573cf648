"""What comes from outside the file: `${…}` in its texts, variables `K2I__…`, the command line.

Only texts of the file are looked through for `${…}`; a value from a variable or from the command
line is taken as it is, because a password may hold anything.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from k2i_core.config.document import Document, read_value
from k2i_core.config.problems import KeyPath, Origin, Problem
from k2i_core.config.redaction import is_secret_key

PREFIX = "K2I__"

SECRET_FILE_BYTES_MAX = 65_536
"""Larger reads whatever somebody points at, smaller refuses a chain of certificates."""

_PLACE = re.compile(r"\$(\$)?\{([^}]*)(\})?")

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_FREE_MAPPINGS: Mapping[KeyPath, str] = MappingProxyType(
    {
        ("kafka", "properties"): ".",
        ("catalog",): "-",
        ("table", "properties"): "-",
        ("orchestration", "tags"): "_",
    }
)
"""Mapping whose keys are somebody else's → what `_` in a variable's name stands for there."""


def substitute(document: Document, environ: Mapping[str, str]) -> None:
    """Replace `${VAR}`, `${VAR:-default}` and `${file:path}` in every text; `$${` means `${`."""
    tree = _substituted(document, document.tree, (), environ)
    document.tree = cast("dict[str, Any]", tree)


def overlay_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Set what variables such as K2I__FLUSH__MAX_AGE say.

    Below a mapping of foreign keys, `__` is a dot and `_` the sign that its keys use: a dot for
    librdkafka, a dash for Iceberg. K2I__CATALOG__S3__SECRET_ACCESS_KEY is s3.secret-access-key.
    """
    for variable in sorted(environ):
        if variable.startswith(PREFIX):
            path = _variable_path(variable.removeprefix(PREFIX).lower().split("__"))
            _set(document, path, environ[variable], Origin(f"environment {variable}"))


def overlay_command_line(document: Document, overrides: Mapping[str, str]) -> None:
    """Set what `section.key=value` on the command line says."""
    for key, value in overrides.items():
        _set(document, _key_path(key.split(".")), value, Origin("command line"))


def collect_secrets(tree: object) -> Iterator[str]:
    """Yield every text whose key names a secret."""
    if isinstance(tree, Mapping):
        for key, value in cast("Mapping[str, object]", tree).items():
            if is_secret_key(str(key)):
                yield from _texts(value)
            else:
                yield from collect_secrets(value)
    elif isinstance(tree, list):
        for value in cast("list[object]", tree):
            yield from collect_secrets(value)


def _texts(tree: object) -> Iterator[str]:
    if isinstance(tree, Mapping):
        tree = list(cast("Mapping[str, object]", tree).values())
    if isinstance(tree, list):
        for value in cast("list[object]", tree):
            yield from _texts(value)
    elif isinstance(tree, str | int) and not isinstance(tree, bool) and tree != "":
        yield str(tree)


def _substituted(
    document: Document, value: object, path: KeyPath, environ: Mapping[str, str]
) -> object:
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        return {
            key: _substituted(document, element, (*path, key), environ)
            for key, element in mapping.items()
        }
    if isinstance(value, list):
        elements = enumerate(cast("list[object]", value))
        return [_substituted(document, e, (*path, index), environ) for index, e in elements]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        escape, inside, closed = match.groups()
        if escape:
            return match.group()[1:]
        if not closed:
            document.report(path, 'a "${" has no "}"; a plain one is written "$${"')
            return ""
        return _resolved(document, inside, path, environ)

    return _PLACE.sub(replaced, value)


def _resolved(document: Document, inside: str, path: KeyPath, environ: Mapping[str, str]) -> str:
    if inside.startswith("file:"):
        return _file_text(document, Path(inside.removeprefix("file:")), path)
    match = _VARIABLE.fullmatch(inside)
    if match is None:
        message = (
            f'"${{{inside}}}" is not a variable; allowed: ${{VAR}}, ${{VAR:-default}}, '
            "${file:/path}, and $${ for a plain ${"
        )
        document.report(path, message)
        return ""
    variable, default = match.groups()
    # As in a shell, the default also stands in for a variable that is empty.
    value = environ.get(variable) if default is None else environ.get(variable) or default
    if value is None:
        message = f"the variable {variable} is not set; set it, or write ${{{variable}:-default}}"
        document.report(path, message)
        return ""
    if is_secret_key(variable) and value:
        document.secrets.add(value)
    return value


def _file_text(document: Document, path: Path, key_path: KeyPath) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_FILE_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        document.report(key_path, f"file {path} cannot be read: {reason}")
        return ""
    except UnicodeDecodeError:
        document.report(key_path, f"file {path} is not UTF-8 text")
        return ""
    if len(content) > SECRET_FILE_BYTES_MAX:
        document.report(key_path, f"file {path} has more than {SECRET_FILE_BYTES_MAX} bytes")
        return ""
    value = text.rstrip("\r\n")
    if value:
        document.secrets.add(value)
    return value


def _variable_path(names: list[str]) -> KeyPath:
    for prefix, sign in _FREE_MAPPINGS.items():
        if tuple(names[: len(prefix)]) == prefix and len(names) > len(prefix):
            key = ".".join(name.replace("_", sign) for name in names[len(prefix) :])
            return (*prefix, key)
    return tuple(names)


def _key_path(names: list[str]) -> KeyPath:
    for prefix in _FREE_MAPPINGS:
        if tuple(names[: len(prefix)]) == prefix and len(names) > len(prefix):
            return (*prefix, ".".join(names[len(prefix) :]))
    return tuple(names)


def _set(document: Document, path: KeyPath, text: str, origin: Origin) -> None:
    def report(message: str) -> None:
        document.problems.append(Problem(origin, path, message))

    parent = document.tree
    for depth, name in enumerate(path[:-1]):
        if parent.get(cast("str", name)) is None:
            parent[cast("str", name)] = {}
            document.origins[path[: depth + 1]] = origin
        inner = parent[cast("str", name)]
        if not isinstance(inner, dict):
            shorter = ".".join(str(part) for part in path[: depth + 1])
            report(f"cannot be set alone; set {shorter} as a whole")
            return
        parent = cast("dict[str, Any]", inner)
    is_foreign = path[:-1] in _FREE_MAPPINGS
    value: object = text
    if not is_foreign and text.startswith(("[", "{")):
        try:
            value = read_value(text)
        except ValueError as error:
            report(str(error))
            return
    parent[cast("str", path[-1])] = value
    for known in [known for known in document.origins if known[: len(path)] == path]:
        del document.origins[known]
    document.origins[path] = origin
