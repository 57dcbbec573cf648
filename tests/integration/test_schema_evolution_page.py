"""What docs/schema-evolution.md shows is what the program prints.

Goal: no example of the page becomes untrue unnoticed. Method: take settings, schema and commands
out of the page and run them on a real catalog.
"""

import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.clock import SystemClock
from k2i_core.config import load_pipeline
from k2i_core.iceberg.tables import TableSettings, create_or_adopt
from k2i_core.ledger import Epoch, Identity, Share
from k2i_core.offsets import TopicPartition
from k2i_core.pauses import Pause
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.wiring.current_state import committed_state
from k2i_core.wiring.inspection import operator_committer
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


def test_a_paused_table_is_resumed_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (yaml.safe_load(block) for block in blocks("yaml"))
    Path("orders.yaml").write_text(yaml.safe_dump({**first, **second}))
    Path("order.avsc").write_text(blocks("json")[0])
    pipeline = load_pipeline(Path("orders.yaml"))
    columns = pa.schema(list(COLUMNS.items()))
    catalog = catalog_opener(pipeline)()
    create_or_adopt(catalog, "sales.orders", columns, TableSettings(), SchemaEvolution.FULL)
    committer = operator_committer(pipeline, "sales.orders", SystemClock())
    identity = Identity("orders", "cluster", {"orders": "id"})
    starts = {TopicPartition("orders", 0): 0}
    owner, _ = committer.claim(Share(0, 1), identity, starts, Epoch(0))
    committer.pause(owner, Pause("file", "price: another type", "orders/0@0", "2026"))
    assert committed_state(pipeline).schema_problems[0].startswith("the table is paused: ")

    for line in blocks("console")[1].splitlines():
        done = CliRunner().invoke(app, [*line.removeprefix("$ k2i ").split(), "--yes"])
        assert done.exit_code == 0, done.output

    table = catalog.load_table("sales.orders")
    assert table.properties["k2i.accepted-schemas"] == '["file"]'
    assert committer.inspect().paused is None
