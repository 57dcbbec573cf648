"""Opening a catalog: any that PyIceberg knows and that can be committed to, with limits on waiting.

What is added to PyIceberg's own behaviour:
- every HTTP request has a timeout, the one for a token included; S3 waits longer than its defaults
  of 1 and 3 seconds, which a busy store does not keep
- SQLite waits for a lock instead of failing, readers do not block the writer (WAL), and a commit is
  on disk when it returns; local folders are made; local files are synced (`durable_files`)
- a SQL catalog's commits do not slow down with the table's history (`sql_catalog`)
- PostgreSQL connections are tried before use, so that a restarted server costs no commit
- what cannot hold the protocol is refused: catalogs without commits, and loads without history
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import requests
from pyiceberg.catalog import Catalog, CatalogType, infer_catalog_type, load_catalog
from pyiceberg.catalog.rest import RestCatalog
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from k2i_core.errors import ConfigError
from k2i_core.iceberg.durable_files import DURABLE_FILE_IO
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.sql_catalog import FlatSqlCatalog

HTTP_CONNECT_SECONDS = 10
HTTP_REQUEST_SECONDS = 60
"""Larger hides a dead catalog for longer; smaller turns a slow commit into an unknown outcome,
which costs a load to settle."""

S3_TIMEOUTS = {"s3.connect-timeout": "10", "s3.request-timeout": "60"}

SQLITE_LOCK_SECONDS = 60
"""How long SQLite waits for another writer; longer than any commit, shorter than a person waits."""

OPEN_ATTEMPT_COUNT_MAX = 3
"""Two workers that open a new SQL catalog at once both create its tables; the loser looks again."""

_WITHOUT_COMMITS = {CatalogType.DYNAMODB, CatalogType.BIGQUERY}


class BoundedRestCatalog(RestCatalog):
    """PyIceberg's REST catalog with a timeout on every request."""

    def _config_headers(self, session: requests.Session) -> None:
        # This is the first thing done to a new session, before a token is asked for through it.
        timeout = (HTTP_CONNECT_SECONDS, HTTP_REQUEST_SECONDS)
        # Safe because PyIceberg passes everything but method and URL by name, and never a timeout.
        session.request = cast("Any", partial(session.request, timeout=timeout))
        super()._config_headers(session)


def open_catalog(name: str, properties: Mapping[str, object]) -> Catalog:
    """Open the catalog that `properties` describe, in PyIceberg's own property names.

    Args:
        name: Part of the key of every table in a SQL catalog: the same in all processes.
        properties: As in a pipeline file. For REST and SQL catalogs they are all there is; others
            are merged with PyIceberg's own configuration of that name.

    Returns:
        The catalog; to be used by one thread.

    Raises:
        ConfigError: The type is unknown, cannot be committed to, or hides history; access is
            refused; a property is wrong.
        UnavailableError: The service did not answer; call again later.

    """
    kind = _kind(name, properties)
    if kind in _WITHOUT_COMMITS:
        message = f"catalog type={kind.value!r} cannot commit; use rest, sql, glue or hive"
        raise ConfigError(message)
    settings = {**S3_TIMEOUTS, **_local_settings(kind, properties)}
    with translated(f"open catalog {name!r}"):
        if kind is CatalogType.REST:
            # Safe because PyIceberg itself takes nested properties (`auth`, `ssl`) as they are.
            catalog = BoundedRestCatalog(name, **cast("dict[str, str]", settings))
        elif kind is CatalogType.SQL:
            catalog = _open_sql(name, cast("dict[str, str]", settings))
        else:
            catalog = load_catalog(name, **cast("dict[str, str]", settings))
    # After opening, because a REST server may have set it.
    if catalog.properties.get("snapshot-loading-mode", "all") != "all":
        message = (
            "catalog property snapshot-loading-mode must be 'all': without its history a table "
            "cannot tell which offsets it holds"
        )
        raise ConfigError(message)
    return catalog


def _kind(name: str, properties: Mapping[str, object]) -> CatalogType | None:
    """Tell the catalog's type; None for a class of the user's own."""
    if "py-catalog-impl" in properties:
        return None
    given = properties.get("type")
    if given is None:
        with translated(f"tell the type of catalog {name!r}"):
            return infer_catalog_type(name, cast("dict[str, Any]", dict(properties)))
    try:
        kind = CatalogType(str(given).lower())
    except ValueError as error:
        known = ", ".join(sorted(k.value for k in CatalogType if k not in _WITHOUT_COMMITS))
        message = f"catalog type={given!r} is unknown; one of {known}"
        raise ConfigError(message) from error
    if kind in {CatalogType.REST, CatalogType.SQL, CatalogType.HIVE} and "uri" not in properties:
        message = f"catalog type={kind.value!r} needs a uri"
        raise ConfigError(message)
    return kind


def _local_settings(
    kind: CatalogType | None, properties: Mapping[str, object]
) -> dict[str, object]:
    """Make a local warehouse absolute, because its path goes into every file of the table."""
    settings = dict(properties)
    warehouse = settings.get("warehouse")
    if not isinstance(warehouse, str):
        return settings
    scheme, separator, path = warehouse.partition("://")
    if separator and scheme != "file":
        return settings
    if not separator and kind is CatalogType.REST:
        return settings  # a REST catalog's warehouse may be a name
    folder = Path(path if separator else warehouse).expanduser().absolute()
    with translated(f"make the warehouse {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    settings["warehouse"] = f"file://{folder}"
    settings.setdefault("py-io-impl", DURABLE_FILE_IO)
    return settings


def _open_sql(name: str, settings: dict[str, str]) -> FlatSqlCatalog:
    url = make_url(settings["uri"])
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        _prepare_sqlite(Path(url.database))
        url = url.update_query_dict({"timeout": url.query.get("timeout", str(SQLITE_LOCK_SECONDS))})
        settings["uri"] = url.render_as_string(hide_password=False)
    else:
        settings.setdefault("pool_pre_ping", "true")
    for attempt in range(OPEN_ATTEMPT_COUNT_MAX):
        try:
            catalog = FlatSqlCatalog(name, **settings)
            break
        except DBAPIError:
            if attempt + 1 == OPEN_ATTEMPT_COUNT_MAX:
                raise
    else:
        raise AssertionError
    if backend == "sqlite":
        event.listen(catalog.engine, "connect", _sync_every_commit)
        catalog.engine.dispose()  # connections made before the listener
    return catalog


def _prepare_sqlite(path: Path) -> None:
    """Make the folder and switch the database to WAL, once for its whole life."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=SQLITE_LOCK_SECONDS)) as connection:
        # A network file system may refuse: then SQLite stays as it is, only slower.
        connection.execute("PRAGMA journal_mode=WAL")


def _sync_every_commit(connection: sqlite3.Connection, _record: object) -> None:
    # NORMAL would be 1 ms faster, but a power failure could take back the newest commits after
    # files that only the taken-back state needs were deleted.
    connection.execute("PRAGMA synchronous=FULL")
