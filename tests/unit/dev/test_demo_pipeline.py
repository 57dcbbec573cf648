"""The demo's pipeline file.

Goal: what `k2i dev` writes is valid wherever the home is, and a taken port can be replaced without
touching anything else. Method: write it below awkward paths and load it as every command does.
"""

from pathlib import Path

import pytest

from k2i_core.config import load_pipeline
from k2i_core.dev.demo_pipeline import own_port, replace_own_port, write_pipeline_file
from k2i_core.dev.orders import ORDERS
from k2i_core.errors import ConfigError


@pytest.mark.parametrize("name", ["plain", "with a space", "with 'quotes' and ü", "a: b"])
def test_the_file_is_valid_wherever_the_home_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "orders.yaml"
    path.parent.mkdir()

    write_pipeline_file(path, port=20_123)

    pipeline = load_pipeline(path, environ={})
    assert pipeline.kafka.bootstrap_servers == "127.0.0.1:20123"
    assert pipeline.flush.max_age == 2.0
    assert pipeline.catalog.properties.reveal()["warehouse"] == str(path.parent / "warehouse")
    columns = pipeline.declared_columns()
    assert columns is not None
    assert [column.name for column in columns] == [column["name"] for column in ORDERS.columns]


def test_k2i_kafka_wins_over_the_port_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    write_pipeline_file(path, port=20_123)

    pipeline = load_pipeline(path, environ={"K2I_KAFKA": "kafka.example:9092"})

    assert pipeline.kafka.bootstrap_servers == "kafka.example:9092"


def test_another_port_changes_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    write_pipeline_file(path, port=20_123)
    before = path.read_text()

    replace_own_port(path, 21_000)

    assert own_port(path) == 21_000
    assert path.read_text().replace("21000", "20123") == before


def test_a_broker_written_by_hand_is_no_port_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text("kafka: {bootstrap_servers: kafka.example:9092}\n")

    assert own_port(path) is None


@pytest.mark.parametrize("name", ["what?", "a#b", "100%", "${HOME}"])
def test_a_home_that_cannot_be_written_into_settings_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "orders.yaml"
    path.parent.mkdir()

    with pytest.raises(ConfigError, match="home="):
        write_pipeline_file(path, port=20_123)

    assert not path.exists()
