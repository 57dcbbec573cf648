"""One thing that is wrong with a pipeline file, and how all of them become one error."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, TypeAlias

from k2i_core.config.redaction import masked, redacted_text
from k2i_core.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file down."""

QUOTED_LENGTH_MAX = 80
"""Larger makes a message unreadable, smaller hides where a value is wrong."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: a file with a line, the command line, or a variable."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the value at `path`, and what would be right."""

    origin: Origin
    path: KeyPath
    message: str

    def __str__(self) -> str:
        parts = (str(self.origin), key_text(self.path), self.message)
        # One problem is one line, whatever a key or a value holds.
        return ": ".join(part for part in parts if part).replace("\n", "\\n")


def key_text(path: Sequence[str | int]) -> str:
    """Write a path as in `table.columns[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def quoted(value: object) -> str:
    """Show a value that is no secret: text in quotes, anything long cut off."""
    text = f'"{value}"' if isinstance(value, str) else _yaml_text(value)
    return text if len(text) <= QUOTED_LENGTH_MAX else f"{text[: QUOTED_LENGTH_MAX - 1]}…"


def _yaml_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else str(value)


def fail(problems: Iterable[Problem], secrets: frozenset[str]) -> NoReturn:
    """Raise one error with a line for each problem, in the order of the file.

    Raises:
        ConfigError: Always.

    """
    ordered = sorted(dict.fromkeys(problems), key=_position)
    lines = (
        replace(problem, message=masked(redacted_text(problem.message), secrets))
        for problem in ordered
    )
    raise ConfigError("\n".join(map(str, lines)))


def _position(problem: Problem) -> float:
    # What overrides the file comes last, because the file is what people look at first.
    return math.inf if problem.origin.line is None else problem.origin.line
