"""What the README shows can be used as it stands.

Goal: no example that a stranger copies is refused. Method: take every YAML block, link and command
out of the file and try it against the program.
"""

import re
from pathlib import Path

import pytest
import typer.main

from k2i_core.cli.main import app
from k2i_core.config.load import read_pipeline

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
YAML_BLOCKS = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
COMPONENT = "# defs/"
"""How an example begins that is for a Dagster project, and no pipeline file."""
COMMANDS = re.findall(r"^\| `k2i ([a-z-]+(?: [a-z-]+(?:\\\|[a-z-]+)*)?)", README, re.MULTILINE)


@pytest.mark.parametrize("block", [b for b in YAML_BLOCKS if not b.startswith(COMPONENT)])
def test_every_pipeline_file_is_valid(block: str) -> None:
    assert read_pipeline(block, "README.md").name


def test_there_are_examples_to_try() -> None:
    assert len(YAML_BLOCKS) >= 2
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_command_is_named_and_every_named_one_exists() -> None:
    group = typer.main.get_command(app)
    exists = set()
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = getattr(command, "commands", None)
        exists |= {f"{name} {sub}" for sub in inner} if inner else {name}
    named = set()
    for shown in COMMANDS:
        name, _, rest = shown.partition(" ")
        named |= {f"{name} {sub}" for sub in rest.split("\\|")} if rest else {name}

    assert named == exists
