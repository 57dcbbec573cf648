"""One run of `k2i dev`: a broker, orders, Dagster with a worker, a view, and a proof at the end.

    start Kafka ─► write the pipeline file ─► create the topic ─► start Dagster, which starts the
    worker ─► produce and show, until asked to stop
      ─► stop producing ─► let the worker catch up ─► end its run ─► prove ─► stop Dagster and Kafka

Everything that was started here is stopped here, whatever happens in between. What a run leaves
is the topic's records and the table, and the next run goes on with both.
"""

import fcntl
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from k2i_core.audit.findings import Verification
from k2i_core.clock import Clock, SystemClock
from k2i_core.config import Pipeline, load_pipeline
from k2i_core.dev.dagster_client import Run
from k2i_core.dev.dagster_server import DagsterServer
from k2i_core.dev.demo_figures import Backlog, Moment, Rate, TableFigures, TableWatch
from k2i_core.dev.demo_kafka import client_settings, open_topic, start_kafka
from k2i_core.dev.demo_pipeline import own_port, write_pipeline_file
from k2i_core.dev.demo_worker import DagsterOutcome, DemoWorker
from k2i_core.dev.environment import DevEnvironment
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.panel import View
from k2i_core.dev.ports import free_port
from k2i_core.dev.produce import EventProducer, next_event_id
from k2i_core.errors import ConfigError, K2iError, UnavailableError
from k2i_core.offsets import TopicPartition
from k2i_core.wiring.inspection import open_source

_LOOK_SECONDS = 0.5
"""Larger: the panel lags. Smaller: looking costs the worker processor time."""

_TABLE_LOOK_SECONDS = 2.0
"""As above; a look at the table reads all of its metadata."""

_CATCH_UP_SECONDS_MAX = 60.0
"""Larger: Ctrl-C with a slow worker takes longer. Smaller: more orders wait for the next run, and
a worker that was just killed is not replaced in time."""

_PRODUCER_SECONDS_MAX = 45.0
"""Longer than the producer itself waits for Kafka's last answers."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What a run was asked for.

    Attributes:
        home: Where everything is kept.
        seconds: How long to produce; None until asked to stop.
        rate: Orders a second.
        partition_count: Kafka partitions of a new topic.
        bad_share: How probable it is for an order to be bad.
        max_age: Of unflushed rows; None as the pipeline file says.
    """

    home: Path
    seconds: float | None
    rate: float
    partition_count: int
    bad_share: float
    max_age: str | None


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What a run did.

    Attributes:
        seconds: From the first order to the last.
        produced_count: Orders that Kafka acknowledged.
        bad_count: Those of them that were bad on purpose.
        before: The table when the run began.
        after: The table when the worker had ended.
        unread_count: Orders in the topic that the table does not cover yet.
        address: Of Dagster's pages.
        dagster: What they showed at the end.
        verification: The proof; None when the table does not exist.
    """

    seconds: float
    produced_count: int
    bad_count: int
    before: TableFigures
    after: TableFigures
    unread_count: int
    address: str
    dagster: DagsterOutcome
    verification: Verification | None

    @property
    def row_count(self) -> int:
        """Rows that this run committed."""
        return self.after.row_count - self.before.row_count

    @property
    def dead_letter_count(self) -> int:
        """Dead letters that this run committed."""
        return self.after.dead_letter_count - self.before.dead_letter_count

    @property
    def left_over_count(self) -> int:
        """Orders of an earlier run that this one read."""
        read_count = self.row_count + self.dead_letter_count + self.unread_count
        return max(0, read_count - self.produced_count)

    @property
    def holds(self) -> bool:
        """Tell whether the proof and Dagster's checks hold."""
        is_proven = self.verification is not None and self.verification.holds
        return is_proven and not self.dagster.failed_checks


class Demo:
    """One run; made, run once, thrown away."""

    def __init__(
        self,
        settings: DemoSettings,
        *,
        environment: DevEnvironment,
        variables: Mapping[str, str],
        stop: threading.Event,
        view: View,
        prove: Callable[[Pipeline], Verification],
        tell_commands: Callable[[Path], None],
    ) -> None:
        """Describe a run; nothing is started or written yet.

        Args:
            settings: What was asked for.
            environment: Of this machine.
            variables: The environment, for the pipeline file and Dagster.
            stop: Ends the run once it produces.
            view: Told about everything.
            prove: Compares topic and table.
            tell_commands: Says how to look further, given the pipeline file.

        """
        self._settings = settings
        self._environment = environment
        self._variables = variables
        self._stop = stop
        self._view = view
        self._prove = prove
        self._tell_commands = tell_commands
        self._clock: Clock = SystemClock()
        self._home = settings.home.absolute()
        self.pipeline_file = self._home / "orders.yaml"
        self._dagster = DagsterServer(self._home / "dagster", self._clock)

    def run(self, on_running: Callable[[], None]) -> DemoOutcome:
        """Run it all.

        Args:
            on_running: Called once the wish to stop is heard through the event; before that,
                KeyboardInterrupt ends the preparations.

        Raises:
            ConfigError: The home is in use, or settings are wrong.
            UnavailableError: Kafka, Dagster, the worker or the catalog does not start or went
                away.

        """
        self._home.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(_locked(self._home))
            if self.pipeline_file.exists():
                # Before anything is started, because people change the file.
                self._load_pipeline()
            # Before Kafka, because a worker that was left behind may still want to flush.
            self._dagster.claim()
            stack.callback(self._dagster.stop)
            server = self._start_kafka(stack)
            pipeline, topic = self._load_pipeline()
            open_topic(pipeline, topic, self._settings.partition_count, self._clock)
            table = TableWatch(pipeline)
            before = table.figures()
            producer = self._make_producer(pipeline, topic)
            worker = self._start_dagster(pipeline)
            on_running()
            if worker.wait_until_running(self._view.note, self._stop.is_set):
                self._view.note(f"the worker runs: {worker.job} at {self._dagster.address}")
                self._tell_commands(self.pipeline_file)
            address, note = self._dagster.address, self._view.note
            watch = _Watch(pipeline, worker, table, before, address, note, self._clock)
            return self._produce_and_prove(pipeline, producer, server, watch)

    def _start_kafka(self, stack: ExitStack) -> KafkaServer | None:
        """Start a broker unless another one is named; writes the pipeline file when missing."""
        given, is_new = self._environment.kafka, not self.pipeline_file.exists()
        server = None
        if given:
            self._view.note(f"using Kafka at {given} (K2I_KAFKA)")
        elif is_new or own_port(self.pipeline_file):
            server = start_kafka(
                self._home / "kafka",
                self.pipeline_file,
                self._environment,
                self._view.note,
                self._clock,
            )
            stack.callback(self._stop_kafka, server)
            self._view.note(f"Kafka runs at {server.bootstrap_servers}")
        if is_new:
            # A broker that is given today may be missing tomorrow, and then a port is needed.
            port = server.port if server else free_port()
            write_pipeline_file(self.pipeline_file, port=port)
            self._view.note(f"wrote the pipeline file {self.pipeline_file}")
        return server

    def _stop_kafka(self, server: KafkaServer) -> None:
        self._view.note("stopping Kafka")
        server.stop()

    def _overrides(self) -> dict[str, str]:
        return {"flush.max_age": self._settings.max_age} if self._settings.max_age else {}

    def _load_pipeline(self) -> tuple[Pipeline, str]:
        pipeline = load_pipeline(
            self.pipeline_file, overrides=self._overrides(), environ=self._variables
        )
        if len(pipeline.kafka.topics) != 1 or pipeline.workers != 1:
            message = (
                f"{self.pipeline_file}: the demo feeds one topic and runs one worker; "
                "for more, run `k2i ingest`"
            )
            raise ConfigError(message)
        return pipeline, pipeline.kafka.topics[0]

    def _make_producer(self, pipeline: Pipeline, topic: str) -> EventProducer:
        servers, client = pipeline.kafka.bootstrap_servers, client_settings(pipeline)
        start_id = next_event_id(servers, topic, client=client)
        going_on = f", going on at order {start_id:,}" if start_id else ""
        self._view.note(f"topic {topic} is there{going_on}")
        return EventProducer(
            servers,
            topic,
            start_id=start_id,
            bad_share=self._settings.bad_share,
            client=client,
        )

    def _start_dagster(self, pipeline: Pipeline) -> DemoWorker:
        self._view.note("starting Dagster: code server, webserver, daemon")
        began_seconds = self._clock.now_ms() / 1000
        variables = dict(self._variables)
        if self._settings.max_age:
            variables["K2I__FLUSH__MAX_AGE"] = self._settings.max_age
        self._dagster.start(self.pipeline_file, variables)
        self._view.note(f"Dagster runs at {self._dagster.address}")
        return DemoWorker(pipeline.name, self._dagster.client, self._clock, began_seconds)

    def _produce_and_prove(
        self,
        pipeline: Pipeline,
        producer: EventProducer,
        server: KafkaServer | None,
        watch: "_Watch",
    ) -> DemoOutcome:
        production = _Production(producer, self._settings.rate, self._clock)
        if not self._stop.is_set():
            production.start()
            while not self._is_over(production, server):
                self._view.show(watch.look(production.seconds, production.count))
        self._view.end()
        self._view.note("no more orders; the worker catches up and flushes")
        production.end()
        unread_count = self._wait_until_caught_up(pipeline, watch)
        # Before the run is ended, because the daemon may start another one meanwhile.
        self._dagster.stop_daemon()
        if not watch.worker.end():
            self._view.note("THE WORKER DOES NOT END in time; what it has not flushed waits")
        shown = watch.worker.outcome()
        after = watch.table.figures()
        verification = None
        if after.snapshot_count:
            self._view.note("verifying: topic, ledger and rows, offset by offset")
            verification = self._prove(pipeline)
        return DemoOutcome(
            seconds=production.seconds,
            produced_count=production.count,
            bad_count=len(producer.bad),
            before=watch.before,
            after=after,
            unread_count=unread_count,
            address=self._dagster.address,
            dagster=shown,
            verification=verification,
        )

    def _is_over(self, production: "_Production", server: KafkaServer | None) -> bool:
        """Tell whether the run is to end: asked for, time over, or something ended by itself."""
        if self._stop.wait(_LOOK_SECONDS):
            return True
        if problem := self._dagster.problem():
            raise UnavailableError(problem)
        if server is not None and server.pid is None:
            message = f"kafka ended by itself log={server.log_path}"
            raise UnavailableError(message)
        limit = self._settings.seconds
        return not production.is_running or (limit is not None and production.seconds >= limit)

    def _wait_until_caught_up(self, pipeline: Pipeline, watch: "_Watch") -> int:
        """Wait until the table covers the topic; returns how many orders it does not."""
        ends = _end_offsets(pipeline, self._clock)
        deadline = self._clock.boot_seconds() + _CATCH_UP_SECONDS_MAX
        while unread_count := _count_unread(ends, watch.table.figures()):
            run = watch.worker.newest_run()
            is_hopeless = run is None or run.status == "CANCELED"
            if is_hopeless or self._clock.boot_seconds() >= deadline:
                break
            self._clock.sleep(_LOOK_SECONDS)
        return unread_count


class _Watch:
    """Looks at everything once in a while, for the panel."""

    def __init__(
        self,
        pipeline: Pipeline,
        worker: DemoWorker,
        table: TableWatch,
        before: TableFigures,
        address: str,
        note: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.worker = worker
        self.table = table
        self.before = before
        self._address = address
        self._note = note
        self._clock = clock
        self._ends = _end_offsets(pipeline, clock)
        self._backlog = Backlog()
        self._produced_rate, self._committed_rate = Rate(), Rate()
        self._figures = before
        self._run: Run | None = None
        self._problems: tuple[str, ...] = ()
        self._next_look = 0.0

    def look(self, seconds: float, produced_count: int) -> Moment:
        """Return the moment; table and Dagster are asked every few seconds only."""
        if seconds >= self._next_look:
            self._next_look = seconds + _TABLE_LOOK_SECONDS
            try:
                self._figures = self.table.figures()
                self._see(self.worker.newest_run())
                self._problems = ()
            except K2iError as error:
                self._problems = (str(error),)
        figures, run = self._figures, self._run
        end_offset = sum(self._ends.values()) + produced_count
        next_offset = sum(figures.next_offsets.get(tp, 0) for tp in self._ends)
        committed_count = figures.row_count - self.before.row_count
        started = run.start_seconds if run else None
        return Moment(
            seconds=seconds,
            produced_count=produced_count,
            produced_rate=self._produced_rate.add(seconds, produced_count),
            committed_count=committed_count,
            committed_rate=self._committed_rate.add(seconds, committed_count),
            dead_letter_count=figures.dead_letter_count - self.before.dead_letter_count,
            lag_message_count=max(0, end_offset - next_offset),
            freshness_seconds=self._backlog.add(seconds, end_offset, next_offset),
            table=figures,
            run=run,
            run_seconds=self._clock.now_ms() / 1000 - started if started else 0.0,
            address=self._address,
            problems=self._problems,
        )

    def _see(self, run: Run | None) -> None:
        before, self._run = self._run, run
        if before and run and run.id != before.id:
            ended = self.worker.status(before.id)
            self._note(f"run {before.id[:8]} ended ({ended}), run {run.id[:8]} takes its place")


class _Production:
    """Produces in a thread of its own until its end is asked for."""

    def __init__(self, producer: EventProducer, rate: float, clock: Clock) -> None:
        self._producer = producer
        self._rate = rate
        self._clock = clock
        self._stop = threading.Event()
        self._failure: K2iError | None = None
        self._thread = threading.Thread(target=self._run, name="k2i-orders", daemon=True)
        self._start_id = producer.next_id
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def count(self) -> int:
        """Orders handed to Kafka."""
        return self._producer.next_id - self._start_id

    @property
    def seconds(self) -> float:
        """Since the first order."""
        if self._began is None:
            return 0.0
        return (self._ended or self._clock.boot_seconds()) - self._began

    @property
    def is_running(self) -> bool:
        """Tell whether orders are still made; False after a failure."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._began = self._clock.boot_seconds()
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait for Kafka's acknowledgements; harmless when it never started.

        Raises:
            UnavailableError: Kafka did not take all orders.

        """
        if self._began is None:
            return
        self._stop.set()
        self._thread.join(_PRODUCER_SECONDS_MAX)
        self._ended = self._clock.boot_seconds()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._producer.run(rate=self._rate, stop=self._stop)
        except K2iError as error:
            self._failure = error  # raised by `end`, in the thread that can act on it


def _end_offsets(pipeline: Pipeline, clock: Clock) -> dict[TopicPartition, int]:
    source = open_source(pipeline, clock)
    try:
        marks = source.watermarks(source.partitions())
    finally:
        source.close()
    return {tp: mark.high for tp, mark in marks.items()}


def _count_unread(ends: Mapping[TopicPartition, int], table: TableFigures) -> int:
    return sum(max(0, end - table.next_offsets.get(tp, 0)) for tp, end in ends.items())


@contextmanager
def _locked(home: Path) -> Generator[None]:
    with (home / "lock").open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = (
                f"another demo runs in home={home}: stop it, or choose another home with --home"
            )
            raise ConfigError(message) from error
        yield
