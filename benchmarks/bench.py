"""What the benchmarks of one run share: scratch space, one broker, filled topics, pipeline files.

The broker is a real single-node Kafka that is started when the first benchmark needs it and lives
until the end of the run; `K2I_KAFKA=host:port` names another one. A topic is filled once, before
anything is measured, with events that are all different: a small set that repeats compresses too
well and makes everything look faster.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka.admin import AdminClient

from benchmarks.encoded_events import AnySet, EncodedSet
from k2i_core.clock import SystemClock
from k2i_core.config import Pipeline, load_pipeline
from k2i_core.dev.environment import read_environment
from k2i_core.dev.kafka_jars import install_kafka
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.orders import FLAT, WIDE
from k2i_core.dev.produce import create_topic, fill
from k2i_core.native import Choice, find_native

NATIVE_CHOICES: Mapping[str, Choice] = {"python": "off", "native": "required"}
"""Path → what its pipeline file says; where k2i-native is not installed, only the first is run."""

PARTITION_COUNT = 4
FLAT_ROWS = 3_000_000
WIDE_ROWS = 1_000_000
VERIFY_ROWS = 10_000_000

FLUSH: Mapping[str, Any] = {"max_age": "10s"}
"""The flush section from a backlog; what it does not name keeps its default, so that a generation
ends with 128 MiB of records: 580,000 flat ones."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line.

    Attributes:
        rows: Replaces every benchmark's own number of rows; the wide set takes a third of it.
        repeat: Runs of which the median counts.
        seconds: How long paced benchmarks run.
        commits: How many commits the table gets in `commits`.
        files: How many files of two megabytes `compaction` puts together within its memory.
    """

    rows: int | None = None
    repeat: int = 3
    seconds: float = 30.0
    commits: int = 2_000
    files: int = 500

    def rows_of(self, event_set: AnySet) -> int:
        """Return how many events of a set are ingested."""
        if event_set is WIDE:
            return WIDE_ROWS if self.rows is None else max(1, self.rows // 3)
        return self.rows or FLAT_ROWS

    @property
    def verify_rows(self) -> int:
        """How many rows are proven."""
        return self.rows or VERIFY_ROWS


@dataclass(slots=True)
class Bench:
    """One run's surroundings.

    Attributes:
        directory: Scratch space, gone after the run.
        on_exit: What has to be stopped after the run.
        say: Tells people what is going on.
        pipeline_rates: Event set, workers and path → rows/s of the throughput runs so far, for
            `ceilings`.
    """

    options: Options
    directory: Path
    on_exit: ExitStack
    say: Callable[[str], None]
    clock: SystemClock = field(default_factory=SystemClock)
    pipeline_rates: dict[tuple[str, int, str], list[float]] = field(
        default_factory=dict[tuple[str, int, str], list[float]]
    )
    _bootstrap_servers: str | None = None
    _topics: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    _pipeline_count: int = 0

    @property
    def paths(self) -> Sequence[str]:
        """The ways to poll and decode that are here, to be measured side by side."""
        return list(NATIVE_CHOICES) if find_native("auto").library else ["python"]

    @property
    def bootstrap_servers(self) -> str:
        """The broker, started at the first use."""
        if self._bootstrap_servers is None:
            environment = read_environment()
            self._bootstrap_servers = environment.kafka
            if environment.kafka is None:
                self.say("starting Kafka")
                runtime = install_kafka(environment.jar_directory, mirror=environment.maven_mirror)
                server = KafkaServer(self.directory / "kafka", runtime=runtime, heap="512m")
                self.on_exit.enter_context(server)
                self._bootstrap_servers = server.bootstrap_servers
        assert self._bootstrap_servers is not None
        return self._bootstrap_servers

    def filled_topic(self, event_set: AnySet, row_count: int) -> str:
        """Return a topic with that many events; filled at the first use."""
        key = (event_set.name, row_count)
        if key not in self._topics:
            name = self.empty_topic(event_set.name)
            self.say(f"producing {row_count:,} {event_set.name} events")
            fill(self.bootstrap_servers, name, row_count, event_set=event_set)
            self._topics[key] = name
        return self._topics[key]

    def empty_topic(self, stem: str, settings: Mapping[str, str] | None = None) -> str:
        """Return a new topic, deleted at the end of the run."""
        name = f"k2i-bench-{stem}-{secrets.token_hex(4)}"
        create_topic(self.bootstrap_servers, name, PARTITION_COUNT, settings=settings)
        self.on_exit.callback(_delete_topic, self.bootstrap_servers, name)
        return name

    def new_pipeline(
        self,
        topic: str,
        *,
        event_set: AnySet = FLAT,
        flush: Mapping[str, Any] = FLUSH,
        workers: int = 1,
        bootstrap_servers: str | None = None,
        native: Choice = "auto",
    ) -> Path:
        """Write a pipeline file with an empty SQLite catalog and a warehouse beside it."""
        self._pipeline_count += 1
        directory = self.directory / f"pipeline-{self._pipeline_count}"
        directory.mkdir()
        document: dict[str, Any] = {
            "name": f"bench-{self._pipeline_count}",
            "kafka": {
                "bootstrap_servers": bootstrap_servers or self.bootstrap_servers,
                "topics": [topic],
            },
            "catalog": {
                "type": "sql",
                "uri": f"sqlite:///{directory}/catalog.db",
                "warehouse": str(directory / "warehouse"),
            },
            "table": {
                "identifier": "bench.events",
                "columns": [dict(column) for column in event_set.columns],
            },
            "flush": dict(flush),
            "workers": workers,
            "native": native,
            "state_directory": str(directory / "state"),
        }
        if isinstance(event_set, EncodedSet):
            schema_path = directory / event_set.schema_file
            schema_path.write_text(event_set.schema, encoding="utf-8")
            document["format"] = {"value": event_set.format, "schema_file": str(schema_path)}
        path = directory / "pipeline.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


def read_pipeline(path: Path) -> Pipeline:
    """Load a pipeline file of a benchmark, which takes nothing from the environment."""
    return load_pipeline(path, overrides={}, environ={})


def record_bytes(event_set: AnySet, *, count: int = 2_000) -> float:
    """Return the average size of a record's value."""
    values: Sequence[bytes] = event_set.make(0, count).values
    return sum(map(len, values)) / count


def _delete_topic(bootstrap_servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    # Safe to ignore the outcome because our own broker's data goes with the scratch directory.
    admin.delete_topics([topic])[topic].exception(10)
