"""What every test can ask for: real services, a topic of its own, a seed, Hypothesis's settings.

A service is started when the first test asks for it and stopped with the session. The broker is
one for all xdist workers, of the other services each has its own. Everything a service writes lies
below pytest's temporary directory, only what is downloaded is kept between sessions.

Environment: `K2I_TEST_KAFKA=host:port` names a broker to use for `kafka` instead of starting one;
`K2I_HYPOTHESIS_PROFILE` is dev, ci or nightly; `K2I_SEED` replays a session's seed.
"""

import os
import re
import secrets
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient

from k2i_core.dev.environment import read_environment
from k2i_core.dev.kafka_jars import KafkaRuntime, install_kafka
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.object_store import ObjectStore
from k2i_core.dev.produce import create_topic
from k2i_core.dev.registry_server import RegistryServer, install_registry
from tests.services.shared_kafka import shared_kafka

MARKERS = (
    "integration: starts or talks to a real service (every test below integration/ and e2e/)",
    "slow: takes more than ten seconds",
    "soak: runs for as long as --soak-seconds says, and not at all without it",
)

LONGEST = (
    "e2e/dagster/test_kills.py",
    "e2e/test_outages.py",
    "e2e/test_demo.py",
    "e2e/test_union_reads_under_load.py",
    "e2e/dagster/test_browser.py",
    "e2e/test_kills_under_load.py",
    "e2e/dagster/test_postgres.py",
    "e2e/test_kill_replay_at_every_step.py",
    "e2e/dagster/test_repository.py",
    "e2e/test_topics.py",
)
"""Files that take longest begin first, so that the run does not end with one process at work and
the others idle. Dagster's do not stand side by side, because each has half a dozen processes."""

TESTS = Path(__file__).parent
assert all((TESTS / name).exists() for name in LONGEST)

SEED = pytest.StashKey[int]()

# A busy machine is no reason to fail.
PATIENT = hypothesis.settings(
    deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("dev", PATIENT, max_examples=50)
hypothesis.settings.register_profile("ci", PATIENT, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("nightly", PATIENT, max_examples=5_000)


class Broker(Protocol):
    """What a test that kills nothing needs to know of a broker."""

    @property
    def bootstrap_servers(self) -> str: ...


@dataclass(frozen=True)
class GivenBroker:
    """A broker that somebody else started."""

    bootstrap_servers: str


@dataclass(frozen=True)
class Registry:
    """The schema registry of all tests, which none of them may stop or freeze."""

    url: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seconds", type=float, default=0.0, help="run soak tests this long")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    profile = os.environ.get("K2I_HYPOTHESIS_PROFILE", "dev")
    hypothesis.settings.load_profile(profile)
    given = getattr(config, "workerinput", {}).get("k2i_seed") or os.environ.get("K2I_SEED")
    # A run that must be the same every time starts at the same seed every time.
    chosen = 0 if profile == "ci" else secrets.randbelow(2**32)
    config.stash[SEED] = int(given) if given is not None else chosen


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["k2i_seed"] = str(node.config.stash[SEED])


def pytest_report_header(config: pytest.Config) -> str:
    profile = os.environ.get("K2I_HYPOTHESIS_PROFILE", "dev")
    return f"k2i: K2I_SEED={config.stash[SEED]} K2I_HYPOTHESIS_PROFILE={profile}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("seed", f"replay with K2I_SEED={item.config.stash[SEED]}"))
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    no_soak = pytest.mark.skip(reason="needs --soak-seconds")
    for item in items:
        if _folder(item) in {"integration", "e2e"}:
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("soak") and not config.getoption("--soak-seconds"):
            item.add_marker(no_soak)
    items.sort(key=_turn)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _turn(item: pytest.Item) -> int:
    name = item.path.relative_to(TESTS).as_posix()
    if name in LONGEST:
        return LONGEST.index(name)
    return len(LONGEST) + ["e2e", "integration", _folder(item)].index(_folder(item))


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The session's seed; a failing test that used it says how to replay it."""
    return pytestconfig.stash[SEED]


@pytest.fixture(scope="session")
def soak_seconds(pytestconfig: pytest.Config) -> float:
    return float(pytestconfig.getoption("--soak-seconds", 0.0))


@pytest.fixture(scope="session")
def kafka_runtime() -> KafkaRuntime:
    environment = read_environment()
    return install_kafka(environment.jar_directory, mirror=environment.maven_mirror)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests that leave it alone; use `topic` for a topic of your own."""
    if given := os.environ.get("K2I_TEST_KAFKA"):
        yield GivenBroker(given)
        return
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent  # the one that all workers have
    with shared_kafka(directory / "kafka") as address:
        yield GivenBroker(address)


@pytest.fixture(scope="session")
def registry_program() -> Path:
    environment = read_environment()
    return install_registry(environment.registry_directory, mirror=environment.maven_mirror)


@pytest.fixture(scope="session")
def registry(
    tmp_path_factory: pytest.TempPathFactory, registry_program: Path
) -> Iterator[Registry]:
    """One schema registry for all tests; use subjects of your own."""
    home = tmp_path_factory.mktemp("registry")
    with RegistryServer(home, program=registry_program) as server:
        yield Registry(server.url)


@pytest.fixture
def own_kafka(tmp_path: Path, kafka_runtime: KafkaRuntime) -> Iterator[KafkaServer]:
    """A broker for one test, which may stop, kill or freeze it."""
    with KafkaServer(tmp_path / "own_kafka", runtime=kafka_runtime) as server:
        yield server


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 and Iceberg REST catalog for all tests; use a namespace of your own."""
    with ObjectStore(tmp_path_factory.mktemp("object_store")) as store:
        yield store
        # Nobody needs it any more, and a clean stop waits half a minute for connections of clients.
        store.kill()


@pytest.fixture
def own_object_store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A store for one test, which may stop, kill or freeze it."""
    with ObjectStore(tmp_path / "own_object_store") as store:
        yield store


class TopicFactory(Protocol):
    def __call__(self, partition_count: int = 1, settings: dict[str, str] | None = None) -> str: ...


@pytest.fixture
def topic(kafka: Broker, request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """Creates topics with names that no other test and no earlier run has; gone after the test."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", request.node.name)[:100]
    names: list[str] = []

    def create(partition_count: int = 1, settings: dict[str, str] | None = None) -> str:
        name = f"{readable}-{uuid.uuid4().hex[:8]}"
        create_topic(kafka.bootstrap_servers, name, partition_count, settings=settings)
        names.append(name)
        return name

    yield create
    if names:
        for deleted in admin.delete_topics(names).values():
            deleted.exception(10)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace name that every catalog takes and no other test has."""
    readable = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")[:60]
    return f"{readable}_{uuid.uuid4().hex[:8]}"
