"""A real single-node Apache Kafka (KRaft) as a child process: no container, no installed Java.

Everything the broker owns lies below its home: configuration, log, data, temporary files. It
listens on 127.0.0.1 only. The home survives the process, so a later start finds the same cluster
id, topics and records.
"""

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage] - documented there
)

from k2i_core.clock import Clock, SystemClock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.ports import LOOPBACK, ReservedPort, is_listening, is_port_free, reserve_port
from k2i_core.errors import ConfigError, UnavailableError

_FORMAT_SECONDS_MAX = 60.0
_START_SECONDS_MAX = 90.0
"""Larger: a broker that will never answer is noticed later. Smaller: a start on a busy machine,
which can take ten times the usual three seconds, fails for no reason."""
_PROBE_SECONDS = 1.0

_LOG4J = """\
status = error
appender.file.type = Console
appender.file.name = console
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

_JVM_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
)

_SERVER_PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # A topic that a typo creates hides the typo.
    "auto.create.topics.enable": "false",
    # One node holds one replica; one partition makes the first group and transaction fast.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # Small: by default the cleaner wants 128 MiB and each index file 10 MiB.
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.index.size.max.bytes": "1048576",
    # After a kill the controller waits for the dead session, nine seconds by default, before it
    # lets the broker back in. Fine on loopback, where a heartbeat is late only if it is dead.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """One more address at which the broker can be reached.

    Attributes:
        name: Upper case, also the prefix of its properties: `SSL`, `PROXY`.
        protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        port: Where the broker listens.
        advertised_port: Where clients are sent; another one when a proxy stands in between.
    """

    name: str
    port: int
    protocol: str = "PLAINTEXT"
    advertised_port: int | None = None


class KafkaServer:
    """Starts, stops and kills one broker; a context manager stops it at the end.

    The plaintext listener on `port` is always there: the broker talks to itself over it, and its
    readiness is probed over it.
    """

    def __init__(
        self,
        home: Path,
        *,
        runtime: KafkaRuntime,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        heap: str = "256m",
        clock: Clock | None = None,
    ) -> None:
        """Describe a broker; nothing is started or written yet.

        Args:
            home: Directory of its own; created when missing, kept afterwards.
            runtime: Java and jars, see `install_kafka`.
            port: Port to listen on; 0 chooses a free one and keeps it for this object's life.
            properties: Broker settings that add to or replace the ones above.
            listeners: More addresses than the plaintext one.
            heap: Java's heap limit; 128m is enough for tests.
            clock: For the waits.

        Raises:
            ConfigError: The home's path cannot be written into Kafka's settings.
        """
        self._home = home.absolute()
        if "," in str(self._home):
            message = f"kafka cannot keep data below a path with a comma home={self._home}"
            raise ConfigError(message)
        self._runtime = runtime
        self._properties = dict(properties or {})
        self._listeners = tuple(listeners)
        self._heap = heap
        self._clock = clock or SystemClock()
        self._reserved_port = reserve_port() if port == 0 else ReservedPort(port, None)
        self._controller_port = reserve_port()
        self._config_path = self._home / "server.properties"
        self._data_path = self._home / "data"
        self._process = ChildProcess("kafka", self._home, str(self._config_path), self._clock)
        self.cluster_id = ""

    @property
    def port(self) -> int:
        """Where the plaintext listener is."""
        return self._reserved_port.number

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients of the plaintext listener."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The running broker's process id; None while there is none."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the broker writes what goes wrong."""
        return self._process.log_path

    def bootstrap_of(self, listener_name: str) -> str:
        """The address for clients of a named listener, as the broker advertises it."""
        listener = next(one for one in self._listeners if one.name == listener_name)
        return f"{LOOPBACK}:{listener.advertised_port or listener.port}"

    def start(self) -> Self:
        """Start the broker and wait until every partition has its leader.

        Raises:
            ConfigError: The port or the home is in use, or the settings are refused.
            UnavailableError: The broker ended or did not answer in time; its log has the reason.
        """
        with ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._process.claim()
            if not is_port_free(self.port):
                message = (
                    f"port={self.port} is in use by another program: choose another port, "
                    "or name the broker that runs there with K2I_KAFKA=host:port"
                )
                raise ConfigError(message)
            self._write_settings()
            self.cluster_id = self._read_cluster_id() or self._format()
            self._process.launch(self._command("kafka.Kafka", str(self._config_path)), _variables())
            self._wait_until_ready()
            on_failure.pop_all()
        return self

    def stop(self) -> None:
        """Stop cleanly; safe when it does not run."""
        self._process.stop()
        self._reserved_port.release()
        self._controller_port.release()

    def kill(self) -> None:
        """End at once (SIGKILL); safe when it does not run."""
        self._process.kill()

    def suspend(self) -> None:
        """Freeze the broker: connections stay open, nothing answers."""
        self._process.suspend()

    def resume(self) -> None:
        """Let a frozen broker go on."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_settings(self) -> None:
        (self._home / "tmp").mkdir(exist_ok=True)
        listeners = (Listener("PLAINTEXT", self.port), *self._listeners)
        controller = f"{LOOPBACK}:{self._controller_port.number}"
        addresses = [f"{one.name}://{LOOPBACK}:{one.port}" for one in listeners]
        advertised = [
            f"{one.name}://{LOOPBACK}:{one.advertised_port or one.port}" for one in listeners
        ]
        protocols = [f"{one.name}:{one.protocol}" for one in listeners]
        settings = {
            **_SERVER_PROPERTIES,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self._data_path),
            "listeners": ",".join([*addresses, f"CONTROLLER://{controller}"]),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
            "inter.broker.listener.name": "PLAINTEXT",
            **self._properties,
        }
        lines = [f"{key}={_escape(value)}\n" for key, value in settings.items()]
        self._config_path.write_text("".join(lines), encoding="ascii")
        self._config_path.chmod(0o600)  # settings of a SASL listener hold passwords
        (self._home / "log4j2.properties").write_text(_LOG4J, encoding="ascii")

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        return [
            str(self._runtime.java),
            *_JVM_OPTIONS,
            f"-Xmx{self._heap}",
            # Below the home, because the compression libraries unpack themselves there and leave
            # the files behind when the broker is killed.
            f"-Djava.io.tmpdir={self._home / 'tmp'}",
            f"-Dlog4j2.configurationFile={(self._home / 'log4j2.properties').as_uri()}",
            "-cp",
            os.pathsep.join(str(jar) for jar in self._runtime.jars),
            main_class,
            *arguments,
        ]

    def _read_cluster_id(self) -> str | None:
        # Kafka's formatter writes this file last and in one piece, so it is there only if the
        # rest is.
        path = self._data_path / "meta.properties"
        if not path.exists():
            return None
        pairs = (line.partition("=") for line in path.read_text(encoding="ascii").splitlines())
        return next((value for key, _, value in pairs if key == "cluster.id"), None)

    def _format(self) -> str:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One argument, because one id in 64 begins with a dash and would be taken for an option.
        named_id = f"--cluster-id={cluster_id}"
        arguments = ("format", named_id, "--config", str(self._config_path))
        try:
            finished = subprocess.run(
                self._command("kafka.tools.StorageTool", *arguments),
                capture_output=True,
                check=False,
                cwd=self._home,
                env=_variables(),
                text=True,
                timeout=_FORMAT_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired as error:
            message = f"kafka did not format its storage seconds={_FORMAT_SECONDS_MAX:.0f}"
            raise UnavailableError(message) from error
        if finished.returncode != 0:
            message = f"kafka refuses its settings or storage exit_code={finished.returncode}"
            error = ConfigError(f"{message} settings={self._config_path}")
            error.add_note(finished.stdout + finished.stderr)
            raise error
        return cluster_id

    def _wait_until_ready(self) -> None:
        deadline = self._clock.boot_seconds() + _START_SECONDS_MAX
        # First a bare connection: a Kafka client that is refused backs off for longer each time.
        self._process.wait_until(lambda: is_listening(self.port), deadline)
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "log_level": 0,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._process.wait_until(lambda: self._answers(admin), deadline)

    def _answers(self, admin: AdminClient) -> bool:
        try:
            metadata = admin.list_topics(timeout=_PROBE_SECONDS)
            # confluent_kafka declares the id as always None.
            if cast("str | None", metadata.cluster_id) != self.cluster_id:
                return False
            # Metadata answers before the partitions have their leaders back.
            partitions = [
                TopicPartition(topic, partition)
                for topic, description in metadata.topics.items()
                for partition in description.partitions
            ]
            latest = cast("OffsetSpec", OffsetSpec.latest())  # typed as if it may be None
            answers = admin.list_offsets(dict.fromkeys(partitions, latest)) if partitions else {}
            for answer in answers.values():
                answer.result(_PROBE_SECONDS)
        except (KafkaException, TimeoutError):
            return False
        return True


def _variables() -> dict[str, str]:
    # Nothing of the caller's Java settings: they are meant for another program. The locale makes
    # Java open paths that are not ASCII.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _escape(value: str) -> str:
    # Java reads its settings files as Latin-1, with a backslash before UTF-16 code units.
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[index : index + 2], "big") for index in range(0, len(units), 2)]
    return "".join(chr(code) if chr(code).isascii() else f"\\u{code:04x}" for code in codes)
