"""House rules that no linter knows.

Goal: what STYLE asks of every file holds for every file, also for those that are written next year.
Method: read the sources as text and as syntax trees; no code is imported. Each rule names the file
and the line that breaks it.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / name for name in ("k2i_core", "k2i_dagster") if (ROOT / name).is_dir()]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))

EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "shared"}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

FOLDERS_OF_TEXT = ("k2i_core", "k2i_dagster", "tests", "benchmarks", "docs", ".ci")
TEXT_SUFFIXES = {
    "",
    ".cfg",
    ".ini",
    ".json",
    ".lock",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".yaml",
    ".yml",
}

NOT_OURS = {Path(__file__), ROOT / ".git"}
"""This file holds what it forbids; the other is a file with a path in a worktree of Git."""

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
PACKAGE_SOURCE = re.compile(
    r"pypi\.org|pythonhosted\.org|repo1?\.maven\.|maven\.apache\.org|registry\.npmjs\.org"
    r"|proxy\.golang\.org|static\.crates\.io|index\.crates\.io"
    # The Makefile tells uv to write none of these: that is the rule, not a breach of it.
    r"|(?<!--no-emit-)\b(?:extra-)?index-url\b|(?<!--no-emit-)\bfind-links\b"
)
BUILD_MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:home|root|Users|work|farm|workspace|builds)/\w")

MAY_PRINT = ("k2i_core/cli/", "k2i_core/dev/")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(_text(path)) for path in MODULES}


def _text_files() -> list[Path]:
    top = [path for path in ROOT.iterdir() if path.is_file()]
    below = [path for name in FOLDERS_OF_TEXT for path in (ROOT / name).rglob("*")]
    return sorted(
        path
        for path in (*top, *below)
        if path.is_file() and path.suffix in TEXT_SUFFIXES and path not in NOT_OURS
    )


def _breaches(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(_text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_a_module_says_what_it_is_for() -> None:
    assert not [_name(path) for path, tree in _trees().items() if not ast.get_docstring(tree)]


def test_a_module_has_a_name_that_means_something() -> None:
    def words(path: Path) -> set[str]:
        return set(re.split(r"[_/]", path.relative_to(ROOT).with_suffix("").as_posix()))

    assert not [_name(path) for path in MODULES if words(path) & EMPTY_NAMES]


def test_a_module_is_short_enough_to_be_read() -> None:
    line_counts = {_name(path): len(_text(path).splitlines()) for path in MODULES}
    assert not {name: count for name, count in line_counts.items() if count > FILE_LINES_MAX}


def test_a_function_fits_on_a_screen() -> None:
    line_counts = {
        f"{_name(path)}:{function.lineno}: {function.name}": (
            (function.end_lineno or function.lineno) - function.lineno + 1
        )
        for path, tree in _trees().items()
        for function in _functions(tree)
    }
    assert not {name: count for name, count in line_counts.items() if count > FUNCTION_LINES_MAX}


def test_only_the_command_line_prints() -> None:
    calls = [
        f"{_name(path)}:{node.lineno}"
        for path, tree in _trees().items()
        if not _name(path).startswith(MAY_PRINT)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls


def test_nothing_is_left_to_do() -> None:
    assert not _breaches(_text_files(), UNFINISHED)


def test_no_file_names_a_place_to_get_packages_from() -> None:
    assert not _breaches(_text_files(), PACKAGE_SOURCE)


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert not _breaches(_text_files(), BUILD_MACHINE_PATH)


def _declared() -> list[Requirement]:
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))
    extras: dict[str, list[str]] = project["project"].get("optional-dependencies", {})
    groups: dict[str, list[str]] = project.get("dependency-groups", {})
    lists = [project["project"]["dependencies"], *extras.values(), *groups.values()]
    return [Requirement(text) for one in lists for text in one]


def _locked() -> dict[str, tuple[Version, int]]:
    """Canonical name → version and how many hashes it may have."""
    locked: dict[str, tuple[Version, int]] = {}
    text = _text(ROOT / "requirements.lock").replace("\\\n", " ")
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", line):
            locked[canonicalize_name(match[1])] = Version(match[2]), line.count("--hash=sha256:")
    return locked


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_the_lock_covers_what_is_declared(requirement: Requirement) -> None:
    locked = _locked()
    name = canonicalize_name(requirement.name)
    assert name in locked, f"run make lock: {requirement}"
    assert requirement.specifier.contains(locked[name][0], prereleases=True), requirement


def test_every_locked_package_has_its_hashes() -> None:
    locked = _locked()
    assert locked
    assert not [name for name, (_, hash_count) in locked.items() if hash_count == 0]


def test_duckdb_and_its_extensions_are_of_one_release() -> None:
    # An extension is signed for exactly one release of DuckDB and is refused by any other.
    versions = {
        name: version for name, (version, _) in _locked().items() if name.startswith("duckdb")
    }
    assert len(versions) > 1
    assert len(set(versions.values())) == 1, versions
    pins = {str(one.specifier) for one in _declared() if one.name.startswith("duckdb")}
    assert pins == {f"=={versions['duckdb']}"}


@pytest.mark.parametrize(
    ("pattern", "breach", "no_breach"),
    [
        (UNFINISHED, "x = 1  # TODO: later", "the todo list"),
        # Written in parts: a search for such words is to find none here.
        (PACKAGE_SOURCE, f"pip install --{'index'}-url x", f"uv --no-emit-{'index'}-url"),
        (PACKAGE_SOURCE, f"https://files.{'python'}hosted.org/x", "maven_mirror"),
        (BUILD_MACHINE_PATH, 'open("/home/ann/x")', "$HOME/home/x or frame/work/x"),
    ],
)
def test_the_patterns_find_what_they_are_for(
    pattern: re.Pattern[str], breach: str, no_breach: str
) -> None:
    assert pattern.search(breach)
    assert not pattern.search(no_breach)
