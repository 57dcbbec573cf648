"""What a benchmark reports: figures with units, targets beside them, tables, one JSON file.

`latest.json` keeps one entry a benchmark, each with the machine, the load and the commit it was
measured at, so that a run of one benchmark replaces that entry and leaves the others as they are.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import Circumstances

JSON_NAME = "latest.json"
MARKDOWN_NAME = "latest.md"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to reach."""

    limit: float
    is_most: bool

    def is_reached(self, value: float) -> bool:
        """Tell whether the value is on the right side of the limit."""
        return value <= self.limit if self.is_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {number(self.limit)}"


def at_most(limit: float) -> Target:
    """Return a target that smaller values reach."""
    return Target(limit, is_most=True)


def at_least(limit: float) -> Target:
    """Return a target that larger values reach."""
    return Target(limit, is_most=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value: the median of its runs.

    Attributes:
        values: One a run; empty when it could not be measured.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None

    @property
    def value(self) -> float | None:
        """The median."""
        return median(self.values) if self.values else None

    @property
    def verdict(self) -> str:
        """Tell whether the target is reached; nothing without one."""
        if self.target is None or self.value is None:
            return ""
        return "reached" if self.target.is_reached(self.value) else "NOT REACHED"

    def to_json(self) -> Mapping[str, Any]:
        """Return it for programs."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.value,
            "min": min(self.values, default=None),
            "max": max(self.values, default=None),
            "runs": list(self.values),
            "target": str(self.target) if self.target else None,
            "verdict": self.verdict or None,
        }


def figure(name: str, unit: str, *values: float | None, target: Target | None = None) -> Figure:
    """Make a figure of those values that were measured."""
    return Figure(name, unit, tuple(value for value in values if value is not None), target)


def merged(runs: Sequence[Sequence[Figure]]) -> tuple[Figure, ...]:
    """Join the figures of repeated runs, which all report the same names in the same order."""
    return tuple(
        Figure(one[0].name, one[0].unit, tuple(v for f in one for v in f.values), one[0].target)
        for one in zip(*runs, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that belong under one heading, such as one data set at one worker count."""

    heading: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's answer.

    Attributes:
        settings: What it was run with.
        notes: How to read it.
    """

    benchmark: str
    settings: Mapping[str, Any]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    circumstances: Circumstances | None = field(default=None)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Every verdict in it."""
        return tuple(f.verdict for group in self.groups for f in group.figures if f.verdict)

    def to_json(self) -> Mapping[str, Any]:
        """Return it for programs."""
        return {
            "benchmark": self.benchmark,
            "circumstances": asdict(self.circumstances) if self.circumstances else None,
            "settings": dict(self.settings),
            "groups": [
                {"heading": g.heading, "figures": [f.to_json() for f in g.figures]}
                for g in self.groups
            ],
            "notes": list(self.notes),
        }


def number(value: float | None) -> str:
    """Write a value with as many digits as mean something."""
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]


def table_lines(saved: Mapping[str, Any]) -> list[str]:
    """Return one benchmark's entry as a Markdown table, which also reads well on a terminal."""
    lines: list[str] = []
    for group in saved["groups"]:
        rows = [("figure", "median", "min – max", "unit", "target", "")]
        for one in group["figures"]:
            spread = ""
            if len(one["runs"]) > 1:
                spread = f"{number(one['min'])} – {number(one['max'])}"
            rows.append(
                (
                    one["name"],
                    number(one["median"]),
                    spread,
                    one["unit"],
                    one["target"] or "",
                    one["verdict"] or "",
                )
            )
        lines += [f"### {saved['benchmark']}: {group['heading']}", "", *_markdown(rows), ""]
    lines += [*(f"- {note}" for note in saved["notes"]), ""]
    return lines


def save(directory: Path, results: Iterable[Result]) -> Mapping[str, Any]:
    """Replace these benchmarks' entries in `latest.json` and write `latest.md` anew."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / JSON_NAME
    entries: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    entries.update({result.benchmark: result.to_json() for result in results})
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["# Benchmark results", "", "Written by `make bench`; see `benchmarks/`.", ""]
    for name, entry in entries.items():
        lines += [f"## {name}", "", _circumstances_line(entry), "", *table_lines(entry)]
    text = "\n".join(lines).rstrip("\n") + "\n"
    (directory / MARKDOWN_NAME).write_text(text, encoding="utf-8")
    return entries


def _circumstances_line(entry: Mapping[str, Any]) -> str:
    here = entry["circumstances"]
    settings = ", ".join(f"{key} = {value}" for key, value in entry["settings"].items())
    if here is None:
        return settings
    dirty = " with changes" if here["has_changes"] else ""
    load = number(here["load_average"])
    # Entries that are kept from before it was measured have none.
    copied = here.get("copied_bytes_per_second")
    copying = f", memory copied at {copied / 1e9:.1f} GB/s" if copied else ""
    return (
        f"{here['measured_at']}, commit {here['commit']}{dirty}, {here['processor_count']} × "
        f"{here['processor']}, load {load}{copying} at the start; {settings}"
    )


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    right_aligned = {1, 2}

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if n in right_aligned else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * (w - 1)}:" if n in right_aligned else "-" * w for n, w in enumerate(widths)]
    return [line(rows[0]), line(rule), *(line(row) for row in rows[1:])]
