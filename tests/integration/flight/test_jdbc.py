"""Goal: a program on Java reads hot and committed rows through the Arrow Flight SQL JDBC driver.

Method: the released driver, in a Java machine of its own, asks `k2i serve` with a token, as the
page about fresh rows says.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from k2i_core.dev.environment import read_environment
from k2i_core.dev.kafka_jars import install_kafka
from k2i_core.dev.orders import FLAT
from tests.integration.flight.served_table import TOKEN, ServedTable, ServerProcess, served
from tests.services.warm_python import ROOT

LOCK = ROOT / "tests" / "services" / "jdbc.lock"


@pytest.fixture(scope="module")
def driver() -> Path:
    environment = read_environment()
    (jar,) = install_kafka(
        environment.jar_directory, mirror=environment.maven_mirror, lock_path=LOCK
    ).jars
    return jar


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ServedTable]:
    made = ServedTable.create(tmp_path / "made")
    yield made
    made.close()


def ask(
    driver: Path, server: ServerProcess, sql: str, password: str
) -> subprocess.CompletedProcess:
    url = f"jdbc:arrow-flight-sql://127.0.0.1:{server.port}?useEncryption=false"
    reader = [sys.executable, "-m", "tests.integration.flight.jdbc_reader"]
    return subprocess.run(
        [*reader, str(driver), url, sql, "anybody", password],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_java_reads_hot_and_committed_rows(table: ServedTable, driver: Path) -> None:
    columns = "event_id, event_type, price, quantity, created_at, is_mobile, _kafka.offset, [1, 2]"
    sql = f"SELECT {columns} FROM made WHERE event_id IN (0, {table.row_count - 1}) ORDER BY 1"
    with served(table.pipeline, environ={"K2I__SERVE__TOKEN": TOKEN}) as server:
        asked = ask(driver, server, sql, TOKEN)
        refused = ask(driver, server, sql, "wrong")

    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert len(answer["tables"]) == 1
    assert answer["names"][0] == "event_id"
    assert answer["types"][:3] == ["BIGINT", "VARCHAR", "DOUBLE"]
    for row, number in zip(answer["rows"], (0, table.row_count - 1), strict=True):
        (value,) = FLAT.make(number, 1).values
        made = json.loads(value)
        created = datetime.fromisoformat(made["created_at"])
        assert row[:4] == [
            str(number),
            made["event_type"],
            str(float(made["price"])),
            str(made["quantity"]),
        ]
        assert datetime.fromisoformat(row[4]) == created
        assert row[5] == str(made["is_mobile"])
        assert row[7] == "[1,2]"
    assert refused.returncode != 0
    assert TOKEN not in refused.stderr
