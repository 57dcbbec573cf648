"""What docs/schema-evolution.md shows is what the program prints.

Goal: no example of the page becomes untrue unnoticed. Method: take settings, schema and commands
out of the page and run them on a real catalog.
"""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.config import load_pipeline
from k2i_core.iceberg.tables import TableSettings, create_or_adopt
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.wiring.settings import catalog_opener

PAGE = (Path(__file__).parents[2] / "docs" / "schema-evolution.md").read_text(encoding="utf-8")
COLUMNS = {"id": pa.int64(), "quantity": pa.int32(), "price": pa.float64()}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_plan_is_printed_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("orders.yaml").write_text(blocks("yaml")[0])
    Path("order.avsc").write_text(blocks("json")[0])
    create_or_adopt(
        catalog_opener(load_pipeline(Path("orders.yaml")))(),
        "sales.orders",
        pa.schema(list(COLUMNS.items())),
        TableSettings(),
        SchemaEvolution.STRICT,
    )

    command, *shown = blocks("console")[0].splitlines()
    done = CliRunner().invoke(app, command.removeprefix("$ k2i ").split())

    assert done.output.splitlines() == shown
    assert done.exit_code == 1
