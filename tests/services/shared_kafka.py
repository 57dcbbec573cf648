"""One broker for all processes of a test run, however many of them pytest-xdist starts.

A JVM costs a start, and then runs every method slowly until it has compiled it: three of them for
three test processes do everything three times. So the first process that needs a broker starts a
keeper, and the keeper starts the broker, and stops it once nobody needs it any more.

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

ROOT = Path(__file__).parents[2]
HEAP = "512m"
PROPERTIES = {"log.cleaner.backoff.ms": "200"}
"""A compacted topic is compacted within a second instead of within fifteen."""
START_SECONDS_MAX = 150.0
"""Longer than a broker's own limit, so that it is the one who says what is wrong."""


@contextmanager
def shared_kafka(directory: Path) -> Iterator[str]:
    """Give the address of the run's broker; `directory` is the same for all that share it."""
    directory.mkdir(exist_ok=True)
    with (directory / "users").open("w") as users:
        # One after the other, so that only the first finds no broker. Whoever holds the other lock
        # exclusively is a keeper on its way out.
        with (directory / "starting").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            address = directory / "address"
            if not address.exists():
                _start_keeper(directory, address)
        yield address.read_text()


def _start_keeper(directory: Path, address: Path) -> None:
    with (directory / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, str(directory)],
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


def keep(directory: Path) -> None:
    """Run the broker until nobody needs it."""
    environment = read_environment()
    runtime = install_kafka(environment.jar_directory, mirror=environment.maven_mirror)
    address, written = directory / "address", directory / "address.new"
    with (
        KafkaServer(
            directory / str(os.getpid()), runtime=runtime, properties=PROPERTIES, heap=HEAP
        ) as server,
        (directory / "users").open("w") as users,
    ):
        written.write_text(server.bootstrap_servers)
        written.replace(address)
        fcntl.flock(users, fcntl.LOCK_EX)
        # Before the lock is let go, so that the next that needs a broker starts one.
        address.unlink()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
