"""The demo's topic: on a broker that is started here, or on one that somebody else runs."""

import re
from collections.abc import Callable
from pathlib import Path

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.dev.demo_pipeline import own_port, replace_own_port
from k2i_core.dev.environment import DevEnvironment
from k2i_core.dev.kafka_jars import install_kafka
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.ports import is_port_free
from k2i_core.dev.produce import create_topic
from k2i_core.errors import ConfigError
from k2i_core.wiring.inspection import open_source

TOPIC_SETTINGS = {
    # A demo that is forgotten over night must not fill the disk: 256 MiB a Kafka partition, given
    # up in pieces of 32 MiB. Rows whose records are gone stay in the table, and verify knows.
    "retention.bytes": str(256 * 1024 * 1024),
    "segment.bytes": str(32 * 1024 * 1024),
}

_SAMPLE_SECONDS = 10.0
_ORDER = re.compile(rb'\{"order_id":\d+,"customer_id":\d+,"status":"')
_CLIENT_SETTING = re.compile(r"(security|sasl|ssl|enable\.ssl)\.")


def start_kafka(
    home: Path,
    pipeline_file: Path,
    environment: DevEnvironment,
    note: Callable[[str], None],
    clock: Clock,
) -> KafkaServer:
    """Start the demo's own broker on the port that the pipeline file names, if there is one.

    Raises:
        ConfigError: Jars or settings are wrong, or another process uses the home.
        UnavailableError: Jars cannot be downloaded, or the broker does not start.

    """
    last_noted = 0

    def on_download(done_count: int, count: int) -> None:
        nonlocal last_noted
        # A line for each quarter: the downloads run side by side and end in bursts.
        if done_count in {0, count} or done_count - last_noted >= count // 4:
            last_noted = done_count
            note(f"downloading Kafka, once: {done_count}/{count} jars")

    runtime = install_kafka(
        environment.jar_directory, mirror=environment.maven_mirror, on_progress=on_download
    )
    port = (own_port(pipeline_file) or 0) if pipeline_file.exists() else 0
    note("starting Kafka")
    try:
        return KafkaServer(home, runtime=runtime, port=port, clock=clock).start()
    except ConfigError:
        # The file remembers a port; meanwhile it may have become another program's.
        if not port or is_port_free(port):
            raise
    server = KafkaServer(home, runtime=runtime, clock=clock).start()
    replace_own_port(pipeline_file, server.port)
    note(f"port {port} is taken by another program, so {pipeline_file.name} says {server.port} now")
    return server


def client_settings(pipeline: Pipeline) -> dict[str, str]:
    """Return what a producer needs of the pipeline's librdkafka settings: how to log in."""
    settings = pipeline.kafka.properties.reveal()
    return {key: str(value) for key, value in settings.items() if _CLIENT_SETTING.match(key)}


def open_topic(pipeline: Pipeline, topic: str, partition_count: int, clock: Clock) -> None:
    """Create the topic if it is missing.

    Raises:
        ConfigError: It exists and holds somebody else's records, which the demo leaves alone.
        UnavailableError: The broker does not answer.

    """
    is_new = create_topic(
        pipeline.kafka.bootstrap_servers,
        topic,
        partition_count,
        settings=TOPIC_SETTINGS,
        client=client_settings(pipeline),
    )
    if not is_new and not _is_ours(pipeline, topic, clock):
        message = (
            f"topic={topic} holds records that are not the demo's: name another topic in "
            "kafka.topics of the demo's pipeline file"
        )
        raise ConfigError(message)


def _is_ours(pipeline: Pipeline, topic: str, clock: Clock) -> bool:
    """Look at the last records: orders, or none at all."""
    source = open_source(pipeline, clock)
    try:
        mine = [tp for tp in source.partitions() if tp.topic == topic]
        marks = source.watermarks(mine)
        filled = {tp: mark.high - 1 for tp, mark in marks.items() if mark.high > mark.low}
        if not filled:
            return True
        source.assign(filled)
        deadline = clock.boot_seconds() + _SAMPLE_SECONDS
        while clock.boot_seconds() < deadline:
            if (polled := source.poll(0.5)) is not None:
                values = polled.records.column("value").to_pylist()
                return any(_ORDER.match(value or b"") for value in values)
    finally:
        source.close()
    # Aborted transactions leave nothing to read; the demo makes none.
    return False
