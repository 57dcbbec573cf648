"""One run of `k2i dev`: a broker, orders, a worker, a view, and a proof at the end.

    start Kafka ─► write the pipeline file ─► create the topic ─► start the worker
      ─► produce and show, until asked to stop
      ─► stop producing ─► let the worker catch up ─► stop it ─► prove ─► stop Kafka

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
from k2i_core.dev.demo_figures import Moment, Rate, TableFigures, TableWatch
from k2i_core.dev.demo_kafka import client_settings, open_topic, start_kafka
from k2i_core.dev.demo_pipeline import own_port, write_pipeline_file
from k2i_core.dev.environment import DevEnvironment
from k2i_core.dev.ingest_process import IngestProcess
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.panel import View
from k2i_core.dev.ports import reserve_port
from k2i_core.dev.produce import EventProducer, next_event_id
from k2i_core.errors import ConfigError, K2iError, UnavailableError
from k2i_core.offsets import TopicPartition
from k2i_core.wiring.inspection import open_source

_LOOK_SECONDS = 0.5
"""Larger: the panel lags. Smaller: looking costs the worker processor time."""

_TABLE_LOOK_SECONDS = 2.0
"""As above; a look at the table reads all of its metadata."""

_READY_SECONDS_MAX = 90.0
"""Larger: a worker that never gets ready is noticed later. Smaller: a busy machine fails."""

_CATCH_UP_SECONDS_MAX = 30.0
"""Larger: Ctrl-C with a slow worker takes longer. Smaller: more orders wait for the next run."""

_PRODUCER_SECONDS_MAX = 45.0
"""Longer than the producer itself waits for Kafka's last answers."""

_LOG_LINES_SHOWN = 8


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
        worker_exit_code: 0 when it ended as asked.
        worker_log: Its last lines, when it ended otherwise.
        verification: The proof; None when the table does not exist.
    """

    seconds: float
    produced_count: int
    bad_count: int
    before: TableFigures
    after: TableFigures
    unread_count: int
    worker_exit_code: int
    worker_log: tuple[str, ...]
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
        """Tell whether the run ended well: worker and proof."""
        return (
            self.worker_exit_code == 0 and self.verification is not None and self.verification.holds
        )


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
            variables: The environment, for the pipeline file and the worker.
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
        self._log_path = self._home / "ingest.log"
        self._worker = IngestProcess(self._home / "ingest", self._log_path, self._clock)

    def run(self, on_running: Callable[[], None]) -> DemoOutcome:
        """Run it all.

        Args:
            on_running: Called once the wish to stop is heard through the event; before that,
                KeyboardInterrupt ends the preparations.

        Raises:
            ConfigError: The home is in use, or settings are wrong.
            UnavailableError: Kafka, the worker or the catalog does not start or went away.

        """
        self._home.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(_locked(self._home))
            if self.pipeline_file.exists():
                # Before anything is started, because people change the file.
                self._load_pipeline()
            # Before Kafka, because a worker that was left behind may still want to flush.
            self._worker.claim()
            stack.callback(self._worker.stop)
            server = self._start_kafka(stack)
            pipeline, topic = self._load_pipeline()
            open_topic(pipeline, topic, self._settings.partition_count, self._clock)
            table = TableWatch(pipeline)
            before = table.figures()
            producer = self._make_producer(pipeline, topic)
            on_running()
            self._start_worker()
            if self._is_well():
                self._tell_commands(self.pipeline_file)
            return self._produce_and_prove(pipeline, producer, server, table, before)

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
            port = server.port if server else _free_port()
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

    def _start_worker(self) -> None:
        self._view.note(f"starting k2i ingest, log in {self._log_path}")
        arguments = [str(self.pipeline_file)]
        for key, value in self._overrides().items():
            arguments += ["--set", f"{key}={value}"]
        self._worker.start(arguments, self._variables)
        deadline = self._clock.boot_seconds() + _READY_SECONDS_MAX
        while not self._stop.wait(0.1) and self._worker.exit_code is None:
            figures = self._worker.figures()
            if figures is not None and not figures.problems:
                self._view.note("the worker owns its Kafka partitions")
                return
            if self._clock.boot_seconds() >= deadline:
                problems = "; ".join(figures.problems) if figures else "it does not answer"
                message = f"the worker does not get ready: {problems} log={self._log_path}"
                raise UnavailableError(message)

    def _is_well(self) -> bool:
        return not self._stop.is_set() and self._worker.exit_code is None

    def _produce_and_prove(
        self,
        pipeline: Pipeline,
        producer: EventProducer,
        server: KafkaServer | None,
        table: TableWatch,
        before: TableFigures,
    ) -> DemoOutcome:
        production = _Production(producer, self._settings.rate, self._clock)
        if self._is_well():
            production.start()
            self._watch(production, server, table, before)
        self._view.end()
        if self._worker.exit_code is None:
            self._view.note("no more orders; the worker catches up and flushes")
        else:
            self._view.note("THE WORKER ENDED BY ITSELF, so this run ends")
        production.end()
        unread_count = self._wait_until_caught_up(pipeline, table)
        exit_code = self._worker.stop() or 0
        after = table.figures()
        verification = None
        if after.snapshot_count:
            self._view.note("verifying: topic, ledger and rows, offset by offset")
            verification = self._prove(pipeline)
        return DemoOutcome(
            seconds=production.seconds,
            produced_count=production.count,
            bad_count=len(producer.bad),
            before=before,
            after=after,
            unread_count=unread_count,
            worker_exit_code=exit_code,
            worker_log=self._worker.last_words(_LOG_LINES_SHOWN) if exit_code else (),
            verification=verification,
        )

    def _watch(
        self,
        production: "_Production",
        server: KafkaServer | None,
        table: TableWatch,
        figures: TableFigures,
    ) -> None:
        """Show the run until it is to end: asked for, time over, or something ended by itself."""
        next_look, problem = 0.0, ""
        produced_rate, committed_rate = Rate(), Rate()
        while not self._is_over(production, server):
            seconds = production.seconds
            if seconds >= next_look:
                next_look = seconds + _TABLE_LOOK_SECONDS
                try:
                    figures, problem = table.figures(), ""
                except K2iError as error:
                    problem = str(error)
            worker = self._worker.figures()
            committed_count = worker.row_count if worker else 0
            self._view.show(
                Moment(
                    seconds=seconds,
                    produced_count=production.count,
                    produced_rate=produced_rate.add(seconds, production.count),
                    committed_count=committed_count,
                    committed_rate=committed_rate.add(seconds, committed_count),
                    worker=worker,
                    table=figures,
                    table_problem=problem,
                    flushes=self._worker.recent_flushes(),
                )
            )

    def _is_over(self, production: "_Production", server: KafkaServer | None) -> bool:
        if self._stop.wait(_LOOK_SECONDS) or self._worker.exit_code is not None:
            return True
        if server is not None and server.pid is None:
            message = f"kafka ended by itself log={server.log_path}"
            raise UnavailableError(message)
        limit = self._settings.seconds
        return not production.is_running or (limit is not None and production.seconds >= limit)

    def _wait_until_caught_up(self, pipeline: Pipeline, table: TableWatch) -> int:
        """Wait until the table covers the topic; returns how many orders it does not."""
        source = open_source(pipeline, self._clock)
        try:
            marks = source.watermarks(source.partitions())
        finally:
            source.close()
        ends = {tp: mark.high for tp, mark in marks.items()}
        deadline = self._clock.boot_seconds() + _CATCH_UP_SECONDS_MAX
        while unread_count := _count_unread(ends, table.figures()):
            if self._worker.exit_code is not None or self._clock.boot_seconds() >= deadline:
                break
            self._clock.sleep(_LOOK_SECONDS)
        return unread_count


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


def _count_unread(ends: Mapping[TopicPartition, int], table: TableFigures) -> int:
    return sum(max(0, end - table.next_offsets.get(tp, 0)) for tp, end in ends.items())


def _free_port() -> int:
    reserved = reserve_port()
    reserved.release()
    return reserved.number


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
