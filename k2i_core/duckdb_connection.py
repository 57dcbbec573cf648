"""A DuckDB connection that needs no network and reaches nothing but one table.

The extensions come as wheels, signed for exactly the DuckDB release that is installed, and are
loaded from there: nothing is downloaded, nothing is written to the home directory. Once the table
can be seen, the connection is locked: no other file, no other host, no setting can be reached by
the SQL that a user types.
"""

import threading
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import duckdb

from k2i_core.errors import ConfigError, ErrorKind

_EXTENSIONS = ("avro", "httpfs", "iceberg")
"""In this order, because iceberg would otherwise download avro."""

_S3_SETTINGS = {
    "s3.access-key-id": "KEY_ID",
    "s3.secret-access-key": "SECRET",
    "s3.session-token": "SESSION_TOKEN",
    "s3.region": "REGION",
}


CATALOG = "k2i"
"""What the database is called in which the table is: a full name is k2i.sales.orders."""

IDLE_ENGINES_MAX = 4
"""Engines kept for the next query. More holds memory for nothing; fewer lets more queries of a busy
reader wait for the extensions."""


def open_connection(memory_bytes_max: int, thread_count: int) -> duckdb.DuckDBPyConnection:
    """Open an empty in-memory database; quick.

    Args:
        memory_bytes_max: Larger queries fail instead of taking the machine's memory.
        thread_count: Cores that a query may use.

    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "memory_limit": f"{memory_bytes_max}B",
            "temp_directory": "",
            "threads": thread_count,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"ATTACH ':memory:' AS {CATALOG}")
    connection.execute(f"USE {CATALOG}")
    return connection


class Engine:
    """A connection, and what has been done to it.

    Attributes:
        is_locked: To one table's directories.
        shown_sql: Which rows the table's views show.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Bind a connection that sees nothing yet."""
        self.connection = connection
        self.is_locked = False
        self.shown_sql: str | None = None


class Engines:
    """Engines that wait for the next query on the same table; thread-safe.

    Loading the extensions takes longer than most queries.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._idle: list[tuple[tuple[int, int], Engine]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def take(self, memory_bytes_max: int, thread_count: int) -> Engine:
        """Return an idle engine of these limits, or a new one."""
        limits = memory_bytes_max, thread_count
        with self._lock:
            for index, (idle_limits, engine) in enumerate(self._idle):
                if idle_limits == limits:
                    del self._idle[index]
                    return engine
        return Engine(open_connection(memory_bytes_max, thread_count))

    def give_back(self, engine: Engine, memory_bytes_max: int, thread_count: int) -> None:
        """Keep an engine whose query has ended well, or end it."""
        with self._lock:
            if not self._is_closed and len(self._idle) < IDLE_ENGINES_MAX:
                self._idle.append(((memory_bytes_max, thread_count), engine))
                return
        engine.connection.close()

    def close(self) -> None:
        """End the idle engines; harmless to repeat."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for _, engine in idle:
            engine.connection.close()


def load_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    """Load everything needed to read Iceberg tables; takes about a third of a second.

    Raises:
        ConfigError: This platform has no wheel of an extension, or not for this DuckDB release.

    """
    try:
        for name in _EXTENSIONS:
            connection.execute(f"LOAD {quote(str(_extension_path(name)))}")
    except (duckdb.Error, OSError) as error:
        message = (
            f"DuckDB extensions cannot be loaded for duckdb={duckdb.__version__}; install the "
            f"locked requirements: {type(error).__name__}"
        )
        raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET) from error


def _extension_path(name: str) -> Path:
    """Return where the wheel of an extension keeps it.

    Raises:
        OSError: The wheel is not installed, or not for this release of DuckDB.

    """
    try:
        package = files(f"duckdb_extension_{name}")
    except ModuleNotFoundError as error:
        message = f"wheel of DuckDB extension {name} is not installed"
        raise OSError(message) from error
    return Path(str(package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"))


def allow_store(
    connection: duckdb.DuckDBPyConnection,
    location: str,
    properties: Mapping[str, str],
) -> None:
    """Give the connection the store's credentials, as the table's catalog handed them out.

    Args:
        connection: Not locked yet.
        location: The table's location; decides which store.
        properties: The table's file access properties, in PyIceberg's names.

    Raises:
        ConfigError: The store is neither the file system nor S3.

    """
    scheme, separator, _ = location.partition("://")
    if not separator or scheme == "file":
        return
    if scheme not in {"s3", "s3a"}:
        message = f"queries read tables on the file system and on S3; this one is on {scheme}://"
        raise ConfigError(message, kind=ErrorKind.NOT_SUPPORTED_YET)
    options = {
        option: properties[name] for name, option in _S3_SETTINGS.items() if properties.get(name)
    }
    endpoint = properties.get("s3.endpoint")
    if endpoint:
        endpoint_scheme, _, host = endpoint.rpartition("://")
        options["ENDPOINT"] = host.rstrip("/")
        options["USE_SSL"] = "false" if endpoint_scheme == "http" else "true"
        # Virtual-hosted names need DNS of the store; PyIceberg, too, uses paths with an endpoint.
        virtual = properties.get("s3.force-virtual-addressing", "false").lower() == "true"
        options["URL_STYLE"] = "vhost" if virtual else "path"
    listed = "".join(f", {option} {quote(value)}" for option, value in options.items())
    connection.execute(f"CREATE SECRET store (TYPE s3, SCOPE {quote(f'{scheme}://')}{listed})")


def lock(connection: duckdb.DuckDBPyConnection, directories: Iterable[str]) -> None:
    """Close every way out but reading below `directories`; cannot be undone."""
    allowed = sorted({variant for d in directories for variant in _variants(d)})
    connection.execute(f"SET allowed_directories = [{', '.join(quote(d) for d in allowed)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _variants(directory: str) -> tuple[str, ...]:
    """Name a directory in the ways that Iceberg metadata may name it."""
    directory = directory.rstrip("/")
    if directory.startswith("file://"):
        return directory, directory.removeprefix("file://")
    if "://" in directory:
        return (directory,)
    return directory, f"file://{directory}"


def quote(text: str) -> str:
    """Write text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Write text as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
