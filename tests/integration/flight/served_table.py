"""A table with committed and hot rows, made without Kafka, and servers over it."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
from adbc_driver_flightsql import DatabaseOptions

from benchmarks.made_table import MadeTable
from k2i_core.clock import SystemClock
from k2i_core.dev.orders import FLAT
from k2i_core.hot.writer import HotWriter
from tests.e2e.pipelines import K2I, PipelineOnDisk, write_pipeline
from tests.services.warm_python import Program, warm_python

COLD, HOT = 1_000, 500
TOKEN = "a-token-of-the-tests-7d1f"


@dataclass
class ServedTable:
    """Its first `COLD` rows are committed, the next `HOT` are not."""

    pipeline: PipelineOnDisk
    made: MadeTable
    hot: HotWriter
    row_count: int = COLD + HOT

    @classmethod
    def create(cls, directory: Path, changes: Mapping[str, Any] | None = None) -> "ServedTable":
        pipeline = write_pipeline(
            directory, "127.0.0.1:1", "unused", event_set=FLAT, changes=changes
        )
        made = MadeTable(pipeline.path, SystemClock())
        made.commit([FLAT.make(0, COLD).values])
        hot = made.open_hot_rows(pipeline.settings, print)
        hot.append(1, made.decoded(FLAT.make(COLD, HOT).values))
        return cls(pipeline, made, hot)

    def append(self, count: int) -> None:
        self.hot.append(1, self.made.decoded(FLAT.make(self.row_count, count).values))
        self.row_count += count

    def close(self) -> None:
        self.hot.close()
        self.made.close()


@dataclass
class ServerProcess:
    """`k2i serve` as users start it."""

    process: Program
    log: Path
    port: int

    @property
    def uri(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def served(
    pipeline: PipelineOnDisk, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    # Of their own, because several servers may read one table.
    number = len(list(pipeline.directory.glob("serve-*.log")))
    log = pipeline.directory / f"serve-{number}.log"
    port_file = log.with_suffix(".port")
    with log.open("ab") as output:
        process = warm_python().start(
            *(K2I, "serve", str(pipeline.path), "--port=0", "--port-file", str(port_file)),
            *options,
            output=output,
            environment=environ,
        )
    try:
        deadline = time.monotonic() + 60
        while not port_file.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield ServerProcess(process, log, int(port_file.read_text()))
    finally:
        process.kill()
        process.wait()
        port_file.unlink(missing_ok=True)


def connected(uri: str, token: str | None = None, **options: str) -> flight_sql.Connection:
    if token is not None:
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {token}"
    return flight_sql.connect(uri, db_kwargs=options, autocommit=True)


def asked(connection: flight_sql.Connection, sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()
