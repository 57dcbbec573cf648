"""What the demo and the tests take from the environment; read here and nowhere else in `dev`.

| Variable | Meaning |
|---|---|
| `K2I_KAFKA` | `host:port` of a broker to use instead of starting one |
| `K2I_MAVEN_MIRROR` | URL of a Maven repository that replaces Maven Central |
| `XDG_CACHE_HOME` | where caches live; without it `~/.cache` |
"""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from k2i_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DevEnvironment:
    """Settings of this machine, not of a pipeline.

    Attributes:
        jar_directory: Where Kafka's jars are kept between runs.
        maven_mirror: Maven repository to download from; None for Maven Central.
        kafka: `host:port` of a running broker; None to start one.
    """

    jar_directory: Path
    maven_mirror: str | None = None
    kafka: str | None = None

    @property
    def registry_directory(self) -> Path:
        """Where the schema registry is kept between runs."""
        return self.jar_directory.parent / "registry"


def read_environment(variables: Mapping[str, str] | None = None) -> DevEnvironment:
    """Read the table above.

    Args:
        variables: The environment; None for that of this process.

    Raises:
        ConfigError: There is no home directory for the cache. Set `XDG_CACHE_HOME`.
    """
    variables = os.environ if variables is None else variables
    return DevEnvironment(
        jar_directory=_cache_directory(variables) / "k2i" / "jars",
        maven_mirror=variables.get("K2I_MAVEN_MIRROR") or None,
        kafka=variables.get("K2I_KAFKA") or None,
    )


def _cache_directory(variables: Mapping[str, str]) -> Path:
    # The XDG rules say that a relative path is to be ignored.
    configured = variables.get("XDG_CACHE_HOME", "")
    if configured.startswith("/"):
        return Path(configured)
    if home := variables.get("HOME"):
        return Path(home) / ".cache"
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache"
    except KeyError as error:
        message = "no home directory to keep downloads in: set XDG_CACHE_HOME to an absolute path"
        raise ConfigError(message) from error
