"""YAML text → a tree of plain values that remembers the line of every key.

Stricter than YAML: a key that is there twice is an error, only `true`, `false` and whole numbers
are other than text (`off`, `1.10` and `2026-01-01` stay what was written), and there are no tags.
An error never quotes the line, which may hold a secret.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from k2i_core.config.problems import KeyPath, Origin, Problem
from k2i_core.errors import ConfigError

NODE_COUNT_MAX = 100_000
"""Larger lets nested aliases of a small file fill the memory, smaller refuses wide tables."""

DEPTH_MAX = 32
"""Larger lets an alias to its own parent exhaust the stack, smaller refuses nested properties."""


@dataclass(slots=True)
class Document:
    """The settings as plain values while they are put together.

    Attributes:
        tree: Mappings, lists, texts, numbers and booleans; None where nothing is written.
        origins: Path → where its key is written.
        secrets: Values that must not be seen in any message.
        problems: What was wrong so far.
    """

    tree: dict[str, Any]
    origins: dict[KeyPath, Origin]
    secrets: set[str] = field(default_factory=set[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    def origin(self, path: KeyPath) -> Origin:
        """Return where the value at `path`, or the nearest thing around it, is written."""
        while path not in self.origins:
            path = path[:-1]
        return self.origins[path]

    def report(self, path: KeyPath, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(self.origin(path), path, message))


class _CoreLoader(yaml.SafeLoader):
    """Tells only null, true, false and whole numbers from text."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # A number with a leading zero is a name or a code more often than a number.
    ("int", r"-?(?:0|[1-9][0-9]{0,18})", list("-0123456789")),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def read_document(text: str, source: str) -> Document:
    """Read a pipeline file.

    Args:
        text: The file's content.
        source: The file's name, for messages.

    Raises:
        ConfigError: It is not YAML, or no mapping; nothing else can be said about it.

    """
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        # Without its cause and its own text, because both quote the line.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        message = f"{Origin(source, line)}: is not YAML: {error.problem or error.context}"
        raise ConfigError(message) from None
    except yaml.YAMLError:
        message = f"{source}: is not YAML: it holds a character that no text has"
        raise ConfigError(message) from None
    if not isinstance(root, yaml.MappingNode):
        message = f"{Origin(source, 1)}: must hold the keys of a pipeline, name, kafka and so on"
        raise ConfigError(message)
    document = Document(tree={}, origins={(): Origin(source, 1)})
    document.tree = _Reader(document, source).mapping(root, ())
    return document


def read_value(text: str) -> object:
    """Read one value in YAML's flow style, as in `[a, b]`.

    Raises:
        ValueError: It is not YAML.

    """
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError:
        message = "is not a list or mapping in YAML"
        raise ValueError(message) from None
    document = Document(tree={}, origins={(): Origin("")})
    value = _Reader(document, "").value(cast("yaml.Node", root), ())
    if document.problems:
        raise ValueError(document.problems[0].message)
    return value


class _Reader:
    """Walks the nodes of one file."""

    def __init__(self, document: Document, source: str) -> None:
        self.document = document
        self.source = source
        self.node_count = 0

    def value(self, node: yaml.Node, path: KeyPath) -> object:
        self.node_count += 1
        if self.node_count > NODE_COUNT_MAX or len(path) > DEPTH_MAX:
            message = f"{self.origin(node)}: is too large or refers to itself by an alias"
            raise ConfigError(message)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            values: list[object] = []
            for index, element in enumerate(cast("list[yaml.Node]", node.value)):
                self.document.origins[(*path, index)] = self.origin(element)
                values.append(self.value(element, (*path, index)))
            return values
        return self.scalar(cast("yaml.ScalarNode", node), path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            is_scalar = isinstance(key_node, yaml.ScalarNode)
            key = self.scalar(key_node, path) if is_scalar else None
            key_path = (*path, key) if isinstance(key, str | int) else path
            if not isinstance(key, str | int) or isinstance(key, bool):
                self.report(key_node, path, "a key must be text; put it in quotes")
            elif key in mapping:
                first = self.document.origin(key_path).line
                self.report(key_node, key_path, f"is there twice, first in line {first}")
            else:
                self.document.origins[key_path] = self.origin(key_node)
                mapping[key] = self.value(value_node, key_path)
        return mapping

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), str(node.value)
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case _:
                self.report(node, path, "a YAML tag is not allowed; write the value without it")
                return None

    def report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.document.problems.append(Problem(self.origin(node), path, message))

    def origin(self, node: yaml.Node) -> Origin:
        return Origin(self.source, node.start_mark.line + 1 if self.source else None)


def plain_tree(mapping: Mapping[str, object]) -> dict[str, Any]:
    """Copy mappings and lists, so that the caller's stay as they are."""
    return {key: _plain(value) for key, value in mapping.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return plain_tree(cast("Mapping[str, object]", value))
    if isinstance(value, list | tuple):
        return [_plain(element) for element in cast("list[object]", value)]
    return value
