"""One broker and one schema registry for all processes of a test run, however many there are.

A JVM costs a start, and then runs every method slowly until it has compiled it: three of them for
three test processes do everything three times. So the first process that needs a service starts a
keeper, and the keeper starts the service, and stops it once nobody needs it any more.

Who needs it holds a shared lock on a file, and the keeper waits for an exclusive one: the kernel
gives that when the last has let go, however it ended.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k2i_core.dev.environment import read_environment
from k2i_core.dev.kafka_jars import install_kafka
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.registry_server import RegistryServer, install_registry

ROOT = Path(__file__).parents[2]
HEAP = "512m"
START_SECONDS_MAX = 300.0
"""Longer than a download and a service's own limit, so that it says itself what is wrong."""


@contextmanager
def running_kafka(home: Path) -> Iterator[str]:
    environment = read_environment()
    runtime = install_kafka(environment.jar_directory, mirror=environment.maven_mirror)
    # A compacted topic is compacted within a second instead of within fifteen.
    properties = {"log.cleaner.backoff.ms": "200"}
    with KafkaServer(home, runtime=runtime, properties=properties, heap=HEAP) as server:
        yield server.bootstrap_servers


@contextmanager
def running_registry(home: Path) -> Iterator[str]:
    environment = read_environment()
    program = install_registry(environment.registry_directory, mirror=environment.maven_mirror)
    with RegistryServer(home, program=program) as server:
        yield server.url


SERVICES = {"kafka": running_kafka, "registry": running_registry}


@contextmanager
def shared(name: str, run_directory: Path) -> Iterator[str]:
    """Give the address of the run's service; the directory is the same for all that share it."""
    directory = run_directory / name
    directory.mkdir(exist_ok=True)
    with (directory / "users").open("w") as users:
        # One after the other, so that only the first finds no service. Whoever holds the other lock
        # exclusively is a keeper on its way out.
        with (directory / "starting").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            address = directory / "address"
            if not address.exists():
                _start_keeper(name, directory, address)
        yield address.read_text()


def _start_keeper(name: str, directory: Path, address: Path) -> None:
    with (directory / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(directory)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    while not address.exists():
        assert keeper.poll() is None, (directory / "keeper.log").read_text()
        assert time.monotonic() < deadline, (directory / "keeper.log").read_text()
        time.sleep(0.05)


def keep(name: str, directory: Path) -> None:
    """Run the service until nobody needs it."""
    address, written = directory / "address", directory / "address.new"
    with (
        SERVICES[name](directory / str(os.getpid())) as at,
        (directory / "users").open("w") as users,
    ):
        written.write_text(at)
        written.replace(address)
        fcntl.flock(users, fcntl.LOCK_EX)
        # Before the lock is let go, so that the next that needs the service starts one.
        address.unlink()


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
