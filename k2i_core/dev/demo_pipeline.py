"""The demo's pipeline file: written once, for people to read and to change.

All paths in it are absolute, so that `k2i query FILE …` works from every directory.
"""

import json
import re
from pathlib import Path

from k2i_core.dev.orders import ORDERS
from k2i_core.dev.ports import LOOPBACK
from k2i_core.errors import ConfigError

TOPIC = "orders"
TABLE = "demo.orders"

_ADDRESS = re.compile(rf"\$\{{K2I_KAFKA:-{re.escape(LOOPBACK)}:(?P<port>\d+)\}}")

_TEXT = """\
# The pipeline of `k2i dev`: one Kafka topic becomes one Iceberg table.
# Written once and never overwritten, so change what you like and start the demo again.
# Columns and partition_by count only while the table does not exist yet.
# Every key that may stand here: `k2i schema`.
name: {topic}
kafka:
  # The demo's own broker, unless K2I_KAFKA names another one.
  bootstrap_servers: ${{K2I_KAFKA:-{loopback}:{port}}}
  topics: [{topic}]
  start: earliest # only for a table that is new: afterwards the table itself knows where to go on
format: {{value: json, key: string}}
catalog:
  type: sql # a SQLite file; REST, Glue and Hive catalogs take its place without other changes
  uri: {catalog}
  warehouse: {warehouse}
table:
  identifier: {table}
  columns: # a record that does not fit becomes a dead letter; the ones beside it become rows
{columns}
  # One file a flush: orders arrive in the order of their time, so a flush lies within one day.
  # bucket(16, customer_id) would make sixteen of every one.
  partition_by: ["day(created_at)"]
  sort_by: [created_at]
  # An unknown field or a number too large makes a dead letter. With add_columns the table would
  # get the column, or a wider one, and the record its row.
  schema_evolution: strict
flush:
  max_age: 2s # from read to committed; half of it makes twice as many files
monitoring: # when Dagster's checks of the table warn, and fail
  freshness: {{warn: 2m, fail: 10m}}
  dead_letter_share: {{warn: 0.05}}
orchestration: # in Dagster; the defaults suit a pipeline that runs for months, these a demo
  publish_every: 10s # each is a point on the table's plots
  audit_schedule: "* * * * *"
  full_audit_schedule: "*/2 * * * *"
  owners: ["team:demo"]
  tags: {{tier: demo}}
maintenance: # in Dagster, too: small files are put together while more come
  health: {{schedule: "* * * * *"}}
  compaction: {{schedule: "*/2 * * * *"}}
state_directory: {state}
"""


def write_pipeline_file(path: Path, *, port: int) -> None:
    """Write the file into its home directory, which holds catalog, warehouse and state as well.

    Args:
        path: Where; its directory exists.
        port: Of the demo's own broker.

    Raises:
        ConfigError: The path cannot be part of a setting.

    """
    home = path.parent.absolute()
    if re.search(r"[?#%]|\$\{|[^\x20-\U0010ffff]", str(home)):
        message = f"the demo cannot keep a catalog below a path with ? # % or ${{ home={home}"
        raise ConfigError(message)
    columns = [
        f"    - {{name: {c['name']}, type: {_quoted(c['type'])}"
        + (", required: true}" if c["required"] else "}")
        for c in ORDERS.columns
    ]
    text = _TEXT.format(
        topic=TOPIC,
        table=TABLE,
        loopback=LOOPBACK,
        port=port,
        columns="\n".join(columns),
        catalog=_quoted(f"sqlite:///{home / 'catalog.db'}"),
        warehouse=_quoted(str(home / "warehouse")),
        state=_quoted(str(home / "state")),
    )
    _write_whole(path, text)


def own_port(path: Path) -> int | None:
    """Return the port that the file gives the demo's own broker; None when somebody removed it."""
    match = _ADDRESS.search(path.read_text(encoding="utf-8"))
    return int(match["port"]) if match else None


def replace_own_port(path: Path, port: int) -> None:
    """Write another port into the file, because the one in it was taken by another program."""
    address = f"${{K2I_KAFKA:-{LOOPBACK}:{port}}}"
    _write_whole(path, _ADDRESS.sub(lambda _: address, path.read_text(encoding="utf-8")))


def _quoted(text: str) -> str:
    # JSON's quoted text is YAML's too.
    return json.dumps(text, ensure_ascii=False)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
