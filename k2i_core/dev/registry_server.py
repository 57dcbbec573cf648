"""A real schema registry (Apicurio) as a child process, on the Java runtime that Kafka uses.

It speaks Confluent's interface below `/apis/ccompat/v7`, listens on 127.0.0.1 only, and keeps its
schemas below its home, so that a later start finds them. The program is downloaded once, checked
against its SHA-256 and unpacked next to its final place.
"""

import fcntl
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from k2i_core.clock import Clock, SystemClock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.dev.kafka_jars import find_java
from k2i_core.dev.maven import MavenFile, download
from k2i_core.dev.ports import LOOPBACK, reserve_port

_PROGRAM = MavenFile(
    "io.apicurio",
    "apicurio-registry-app",
    "3.3.3",
    "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    classifier="all",
    packaging="tar.gz",
)

_START_SECONDS_MAX = 120.0
"""Larger: a registry that will never answer is noticed later. Smaller: a start on a busy machine,
which can take ten times the usual five seconds, fails for no reason."""
_PROBE_SECONDS = 2.0


def install_registry(directory: Path, *, mirror: str | None = None) -> Path:
    """Download and unpack the registry, unless it is there.

    Args:
        directory: Cache, shared by any number of processes; created when missing.
        mirror: URL of a Maven repository; None for Maven Central.

    Returns:
        Where it is unpacked.

    Raises:
        ConfigError: An optional package is missing, or the download is not what it should be.
        UnavailableError: The download failed. Try again, or name a mirror.

    """
    home = directory / f"{_PROGRAM.artifact}-{_PROGRAM.version}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if home.exists():
            return home
        with tempfile.TemporaryDirectory(dir=directory, prefix="partial-") as partial:
            archive = download(_PROGRAM, Path(partial), mirror)
            with tarfile.open(archive) as packed:
                packed.extractall(Path(partial) / "unpacked", filter="data")
            (Path(partial) / "unpacked").replace(home)
    return home


class RegistryServer:
    """Starts, stops and kills one registry; a context manager stops it at the end."""

    def __init__(
        self,
        home: Path,
        *,
        program: Path,
        settings: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Describe a registry; nothing is started or written yet.

        Args:
            home: Directory of its own; created when missing, kept afterwards.
            program: See `install_registry`.
            settings: Of the program, such as `quarkus.http.ssl-port`; they add to or replace ours.
            clock: For the waits.

        """
        self._home = home.absolute()
        self._program = program
        self._settings = dict(settings or {})
        self._clock = clock or SystemClock()
        self._port = reserve_port()
        self._management_port = reserve_port()
        self._database = f"-Dapicurio.datasource.url=jdbc:h2:file:{self._home / 'schemas'}"
        self._process = ChildProcess("registry", self._home, self._database, self._clock)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{LOOPBACK}:{self._port.number}/apis/ccompat/v7"

    @property
    def log_path(self) -> Path:
        """Where the registry writes what goes wrong."""
        return self._process.log_path

    def start(self) -> Self:
        """Start the registry and wait until it answers.

        Raises:
            ConfigError: The home is in use.
            UnavailableError: It ended or did not answer in time; its log has the reason.

        """
        self._process.claim()
        try:
            self._process.launch(self._command(), {"PATH": os.environ.get("PATH", os.defpath)})
            self._process.wait_until(self._answers, self._clock.boot_seconds() + _START_SECONDS_MAX)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop cleanly; safe when it does not run."""
        self._process.stop()
        self._port.release()
        self._management_port.release()

    def suspend(self) -> None:
        """Freeze the registry: connections stay open, nothing answers."""
        self._process.suspend()

    def resume(self) -> None:
        """Let a frozen registry go on."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        settings = {
            "quarkus.http.host": LOOPBACK,
            "quarkus.http.port": self._port.number,
            # Otherwise it listens on every address, on a port of its own.
            "quarkus.management.host": LOOPBACK,
            "quarkus.management.port": self._management_port.number,
            "quarkus.banner.enabled": "false",
            "quarkus.log.level": "WARN",
            # What everybody else's registry does by default.
            "apicurio.rules.global.compatibility": "BACKWARD",
            **self._settings,
        }
        return [
            str(find_java()),
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xmx256m",
            *(f"-D{key}={value}" for key, value in settings.items()),
            self._database,
            "-jar",
            str(self._program / "quarkus-run.jar"),
        ]

    def _answers(self) -> bool:
        health = f"http://{LOOPBACK}:{self._management_port.number}/health/ready"
        try:
            # Where no certificate and no password is wanted, whatever the settings are.
            with urllib.request.urlopen(health, timeout=_PROBE_SECONDS):
                return True
        except (urllib.error.URLError, OSError):
            return False
