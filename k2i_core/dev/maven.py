"""Files of a Maven repository, which need not be trusted: each one's SHA-256 is known before."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from k2i_core.errors import ConfigError, UnavailableError

_DOWNLOAD_SECONDS_MAX = 60
"""Without a byte. Larger: a repository that hangs is noticed later; smaller: a slow one is given
up."""

INSTALL_HINT = "pip install 'k2i[dev]', or name a running broker with K2I_KAFKA=host:port"


@dataclass(frozen=True, slots=True)
class MavenFile:
    """One file, and what it has to be."""

    group: str
    artifact: str
    version: str
    sha256: str
    classifier: str = ""
    packaging: str = "jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        """The name in a cache of artifacts that are unique without their group."""
        return f"{self.artifact}-{self.version}.{self.packaging}"

    def is_at(self, path: Path) -> bool:
        """Tell whether it lies there, whole."""
        if not path.exists():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def download(wanted: MavenFile, directory: Path, mirror: str | None) -> Path:
    """Download a file somewhere below a directory.

    Args:
        wanted: Which.
        directory: Nobody else's.
        mirror: URL of a Maven repository; None for Maven Central.

    Raises:
        ConfigError: An optional package is missing, or the download is not what it should be.
        UnavailableError: The download failed. Try again, or name a mirror.

    """
    try:
        import requests  # noqa: PLC0415 - comes with jgo
        from jgo.maven import MavenContext  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        message = f"downloads from Maven need the package jgo: {INSTALL_HINT}"
        raise ConfigError(message) from error
    context = MavenContext(
        repo_cache=directory,
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=_DOWNLOAD_SECONDS_MAX,
    )
    try:
        component = context.project(wanted.group, wanted.artifact).at_version(wanted.version)
        path = component.artifact(wanted.classifier, wanted.packaging).resolve()
    except (requests.RequestException, OSError, RuntimeError, ValueError) as error:
        message = (
            f"cannot download {wanted.packaging}={wanted}: check the network, "
            "or name a Maven repository with K2I_MAVEN_MIRROR"
        )
        raise UnavailableError(message) from error
    if not wanted.is_at(path):
        message = (
            f"the downloaded {wanted.packaging}={wanted} is not the locked one: "
            "use another Maven repository"
        )
        raise ConfigError(message)
    return path
