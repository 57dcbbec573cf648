"""Catalogs open with limits, and those that cannot hold the protocol are refused.

Goal: nothing waits for ever, a commit survives a power failure as far as a test can see, and a
wrong setting is told at once.
Method: real SQLite files; a socket that accepts and never answers stands for a dead REST catalog.
"""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from sqlalchemy import text

from k2i_core.errors import ConfigError, K2iError, UnavailableError
from k2i_core.iceberg import catalog as catalogs
from k2i_core.iceberg.catalog import BoundedRestCatalog, open_catalog
from k2i_core.iceberg.durable_files import DurableFile, DurableFileIO
from k2i_core.iceberg.sql_catalog import FlatSqlCatalog
from k2i_core.iceberg.tables import TableSettings, create_or_adopt
from k2i_core.schema.evolution import SchemaEvolution

ROWS = pa.schema([pa.field("id", pa.int64())])


def sqlite_properties(folder: Path) -> dict[str, object]:
    return {
        "type": "sql",
        "uri": f"sqlite:///{folder}/deep/catalog.db",
        "warehouse": str(folder / "some" / "warehouse"),
    }


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_new_sqlite_catalog_is_made_with_its_folders(tmp_path: Path) -> None:
    catalog = open_catalog("k2i", sqlite_properties(tmp_path))

    assert isinstance(catalog, FlatSqlCatalog)
    assert (tmp_path / "deep" / "catalog.db").exists()
    assert (tmp_path / "some" / "warehouse").is_dir()
    with catalog.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 60_000


def test_the_users_own_timeout_stands(tmp_path: Path) -> None:
    properties = {**sqlite_properties(tmp_path), "uri": f"sqlite:///{tmp_path}/c.db?timeout=7"}

    catalog = open_catalog("k2i", properties)

    assert isinstance(catalog, FlatSqlCatalog)
    with catalog.engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 7_000


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    catalog = open_catalog("k2i", sqlite_properties(tmp_path))
    with closing(
        sqlite3.connect(tmp_path / "deep" / "catalog.db", check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()

        create_or_adopt(catalog, "a.t", ROWS, TableSettings(), SchemaEvolution.STRICT)

        release.join()


def test_a_lock_that_stays_is_an_outage(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/c.db?timeout=0.2"
    catalog = open_catalog("k2i", {**sqlite_properties(tmp_path), "uri": uri})
    with closing(sqlite3.connect(tmp_path / "c.db")) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(UnavailableError, match="database is locked"):
            create_or_adopt(catalog, "a.t", ROWS, TableSettings(), SchemaEvolution.STRICT)


def test_a_local_warehouse_is_absolute_and_its_files_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = open_catalog(
        "k2i", {"type": "sql", "uri": "sqlite:///.k2i/c.db", "warehouse": ".k2i/warehouse"}
    )

    table = create_or_adopt(catalog, "a.t", ROWS, TableSettings(), SchemaEvolution.STRICT).table

    assert table.location() == f"file://{tmp_path}/.k2i/warehouse/a/t"
    assert isinstance(table.io, DurableFileIO)


def test_a_durable_file_is_synced_with_its_folder_before_close_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
    path = tmp_path / "new" / "file"

    with DurableFile(path, overwrite=False) as file:
        file.write(b"content")
        assert synced == []

    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]
    assert path.read_bytes() == b"content"
    with pytest.raises(FileExistsError):
        DurableFile(path, overwrite=False)
    DurableFile(path, overwrite=True).close()
    assert path.read_bytes() == b""


def test_workers_that_open_a_new_catalog_together_all_get_it(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    opened: list[Catalog] = []
    failed: list[K2iError] = []

    def start() -> None:
        barrier.wait()
        try:
            opened.append(open_catalog("k2i", sqlite_properties(tmp_path)))
        except K2iError as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    assert len(opened) == 4


def test_a_commit_of_another_process_is_seen_although_metadata_is_remembered(
    tmp_path: Path,
) -> None:
    one, other = (open_catalog("k2i", sqlite_properties(tmp_path)) for _ in range(2))
    create_or_adopt(one, "a.t", ROWS, TableSettings(), SchemaEvolution.STRICT)
    assert "x" not in one.load_table("a.t").properties

    with other.load_table("a.t").transaction() as transaction:
        transaction.set_properties({"x": "1"})

    assert one.load_table("a.t").properties["x"] == "1"


@pytest.mark.parametrize("kind", ["dynamodb", "bigquery"])
def test_catalogs_that_cannot_commit_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="cannot commit"):
        open_catalog("k2i", {"type": kind})


def test_an_unknown_type_is_told_with_what_is_known() -> None:
    with pytest.raises(ConfigError, match="glue, hive, in-memory, rest, sql"):
        open_catalog("k2i", {"type": "iceberg"})


@pytest.mark.parametrize("kind", ["rest", "sql", "hive"])
def test_a_missing_uri_is_told(kind: str) -> None:
    with pytest.raises(ConfigError, match="needs a uri"):
        open_catalog("k2i", {"type": kind})


def test_a_catalog_that_hides_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="snapshot-loading-mode"):
        open_catalog("k2i", {**sqlite_properties(tmp_path), "snapshot-loading-mode": "refs"})


def test_a_driver_that_is_not_there_is_a_setting(tmp_path: Path) -> None:
    properties = {**sqlite_properties(tmp_path), "uri": "nosuchdb://host/db"}

    with pytest.raises(ConfigError, match="nosuchdb"):
        open_catalog("k2i", properties)


def test_an_unreachable_rest_catalog_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(UnavailableError):
        open_catalog("k2i", {"type": "rest", "uri": f"http://127.0.0.1:{port}"})


@pytest.mark.parametrize("credential", [{}, {"credential": "id:hunter2"}])
def test_a_rest_catalog_that_never_answers_is_given_up_on(
    silent_server: str, credential: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "HTTP_REQUEST_SECONDS", 0.2)
    started = time.monotonic()

    with pytest.raises(UnavailableError) as caught:
        open_catalog(
            "k2i",
            {
                "type": "rest",
                "uri": silent_server,
                "oauth2-server-uri": f"{silent_server}/tokens",
                **credential,
            },
        )

    assert time.monotonic() - started < 30
    assert "hunter2" not in str(caught.value)


def test_every_request_of_an_open_rest_catalog_has_a_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BoundedRestCatalog, "_fetch_config", lambda _self: None)
    catalog = BoundedRestCatalog("k2i", uri="http://127.0.0.1:1", token="x")
    timeouts: list[object] = []
    monkeypatch.setattr(
        "requests.Session.send",
        lambda _self, _request, **kwargs: timeouts.append(kwargs["timeout"]),
    )

    for method in (catalog._session.get, catalog._session.post, catalog._session.delete):
        method("http://127.0.0.1:1/v1/x")

    assert timeouts == [(10, 60)] * 3


@pytest.mark.parametrize("kind", [{"type": "REST"}, {}])
def test_the_warehouse_of_a_rest_catalog_may_be_a_name(
    tmp_path: Path, kind: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(BoundedRestCatalog, "_fetch_config", lambda _self: None)
    properties = {"uri": "http://127.0.0.1:1", "token": "x", "warehouse": "main", **kind}

    catalog = open_catalog("k2i", properties)

    assert catalog.properties["warehouse"] == "main"
    assert list(tmp_path.iterdir()) == []
