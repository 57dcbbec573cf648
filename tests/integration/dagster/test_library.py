"""k2i as a part of somebody's own Dagster project.

Goal: a person who has a project adds a pipeline by a `defs.yaml` or by one function call.
Method: scratch projects in the test's directory, loaded by Dagster itself in a fresh process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PYPROJECT = """\
[project]
name = "scratch"
version = "0.1.0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "scratch"
registry_modules = ["k2i_dagster"]
"""

DEFINITIONS = """\
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""

ATTRIBUTES = """\
type: k2i_dagster.KafkaToIceberg
attributes:
  name: orders
  kafka: {bootstrap_servers: "{{ env.SCRATCH_KAFKA }}", topics: [orders]}
  catalog: {type: sql, uri: "sqlite:///catalog.db", warehouse: lake}
  table: {identifier: sales.orders}
  orchestration: {owners: ["team:data"]}
"""

PIPELINE_FILE = """\
name: clicks
kafka: {bootstrap_servers: "${SCRATCH_KAFKA}", topics: [clicks]}
catalog: {type: sql, uri: "sqlite:///catalog.db", warehouse: lake}
table: {identifier: web.clicks}
"""

OWN_DEFINITIONS = """\
import dagster as dg
from k2i_core.config import load_pipeline
from k2i_dagster import build_pipeline_definitions
from pathlib import Path

@dg.asset(deps=[dg.AssetKey(["web", "clicks"])])
def report(): ...

defs = dg.Definitions.merge(
    dg.Definitions(assets=[report]),
    build_pipeline_definitions(load_pipeline(Path("clicks.yaml"))),
)
"""

LIST = """\
import importlib, sys
import dagster as dg
defs = importlib.import_module(sys.argv[1]).defs
defs = defs if isinstance(defs, dg.Definitions) else defs()
dg.Definitions.validate_loadable(defs)
repository = defs.get_repository_def()
print(*sorted(repository.job_names), *sorted(s.name for s in repository.sensor_defs))
print(*sorted(k.to_user_string() for k in repository.asset_graph.get_all_asset_keys()))
print("heavy:", *(m for m in ("pyarrow", "duckdb", "confluent_kafka") if m in sys.modules))
"""


def loaded(project: Path, module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIST, module],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project}:{ROOT}", "SCRATCH_KAFKA": "localhost:9092"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def project(tmp_path) -> Path:
    """A Dagster project with one component by attributes and one by file."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    orders, clicks = (tmp_path / "scratch" / "defs" / name for name in ("orders", "clicks"))
    for directory in (orders, clicks):
        directory.mkdir(parents=True)
    (tmp_path / "scratch" / "__init__.py").write_text("")
    (tmp_path / "scratch" / "definitions.py").write_text(DEFINITIONS)
    (orders / "defs.yaml").write_text(ATTRIBUTES)
    (clicks / "clicks.yaml").write_text(PIPELINE_FILE)
    (clicks / "defs.yaml").write_text(
        "type: k2i_dagster.KafkaToIceberg\nattributes: {pipeline_file: clicks.yaml}\n"
    )
    return tmp_path


def test_a_project_gets_its_pipelines_from_components(project):
    done = loaded(project, "scratch.definitions")

    assert done.returncode == 0, done.stderr[-3000:]
    shown = set(done.stdout.split())
    assert shown >= {"ingest_clicks", "ingest_orders", "keep_alive_clicks", "keep_alive_orders"}
    assert shown >= {
        "sales/orders",
        "sales/orders/audit",
        "sales/orders/full_audit",
        "sales/orders/health",
    }
    assert "heavy:\n" in done.stdout


def test_components_that_read_one_topic_show_it_once(project):
    file = project / "scratch" / "defs" / "clicks" / "clicks.yaml"
    file.write_text(PIPELINE_FILE.replace("topics: [clicks]", "topics: [orders]"))

    done = loaded(project, "scratch.definitions")

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("kafka/orders") == 1
    assert "ingest_clicks" in done.stdout
    assert "ingest_orders" in done.stdout


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("topics: [orders]", "topics: orders"), "defs.yaml: kafka.topics"),
        (("name: orders", "nmae: orders"), "defs.yaml: nmae"),
        (("name: orders", "pipeline_file: x.yaml"), "pipeline_file stands alone"),
    ],
)
def test_a_wrong_attribute_is_told_with_its_place(project, changed, told):
    (project / "scratch" / "defs" / "orders" / "defs.yaml").write_text(ATTRIBUTES.replace(*changed))

    done = loaded(project, "scratch.definitions")

    assert done.returncode != 0
    assert told in done.stderr


def test_a_persons_own_definitions_take_a_pipeline_in(tmp_path):
    (tmp_path / "clicks.yaml").write_text(PIPELINE_FILE)
    (tmp_path / "own.py").write_text(OWN_DEFINITIONS)

    done = loaded(tmp_path, "own")

    assert done.returncode == 0, done.stderr[-3000:]
    shown = set(done.stdout.split())
    assert shown >= {"ingest_clicks", "keep_alive_clicks", "kafka/clicks", "report", "web/clicks"}
