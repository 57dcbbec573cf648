"""One worker in this process: its sessions, what it shows of itself, and how it ends."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import structlog

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import Pipeline
from k2i_core.errors import FencedError
from k2i_core.garbage import rare_garbage_collections
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.ingest.parts import Listener
from k2i_core.ledger import Share
from k2i_core.metrics import IngestMetrics
from k2i_core.native import Native, find_native
from k2i_core.server import Health, StatusServer
from k2i_core.wiring.observation import CHECKS, WorkerObservation
from k2i_core.wiring.sessions import open_session
from k2i_core.wiring.settings import catalog_opener
from k2i_core.wiring.surroundings import Surroundings
from k2i_core.worker import Until, Worker

log = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter while another one waits. Larger shows rows later
during a commit; smaller costs switches."""


@dataclass(frozen=True, slots=True)
class StatusAddress:
    """Where a worker serves `/healthz`, `/readyz` and `/metrics`.

    Attributes:
        host: Address to listen on.
        port: 0 for any free one.
        port_file: Where to write the port once it listens; None for nowhere.
    """

    host: str
    port: int
    port_file: Path | None = None


def run_worker(
    pipeline: Pipeline,
    share: Share,
    until: Until,
    stop: threading.Event,
    *,
    status: StatusAddress | None = None,
    listener: Listener | None = None,
) -> None:
    """Ingest until stopped or due, with the last flush committed.

    Args:
        pipeline: What to ingest.
        share: Which of its Kafka partitions.
        until: When to end without being asked.
        stop: Set by the caller to ask for an end after a last flush.
        status: Where to serve health and metrics; None for nowhere.
        listener: Told about progress, besides metrics, health and logs.

    Raises:
        ConfigError: The address cannot be listened on, or the pipeline cannot run as it is set up.
        FencedError: Another worker took over.
        K2iError: Whatever ended the last allowed session.

    """
    native = find_native(pipeline.native)
    patient_clock = SystemClock()
    metrics = _started_metrics(pipeline, share, native)
    health = Health(CHECKS, patient_clock)
    table = pipeline.table.identifier
    observation = WorkerObservation(
        metrics,
        health,
        patient_clock,
        tables=(table, pipeline.dead_letter_table),
        ask_catalog=PyIcebergGateway(catalog_opener(pipeline), table).load,
    )
    server = _started_server(health, metrics, status)
    names = {"pipeline": pipeline.name, "worker": str(share)}
    log.info("worker started", **names, table=table, native=native.detail)
    observation.start()
    surroundings = Surroundings(
        clock=SystemClock(stop),
        patient_clock=patient_clock,
        ids=RandomIds(),
        is_stop_asked=stop.is_set,
        listener=observation.listener.followed_by(listener or Listener()),
        on_open=observation.opened,
        report_hot=observation.hot_trouble,
        report_copies=lambda copied, given_up: metrics.letters_copied(
            copied_count=copied, given_up_count=given_up
        ),
    )
    worker = Worker(
        lambda: open_session(pipeline, share, surroundings), until, stop.is_set, surroundings.clock
    )
    try:
        with economy():
            worker.run()
    except FencedError:
        metrics.fenced(table)
        raise
    finally:
        observation.stop()
        if server is not None:
            server.stop()
    log.info("worker ended", **names)


@contextmanager
def economy() -> Generator[None]:
    """Set this process up for rows: no garbage collections, and Arrow's memory from jemalloc.

    Threads hand the interpreter over sooner, because a row waits to become visible for whatever
    thread holds it: a commit, which is mostly Python, held up one row in a hundred for 50 ms.

    jemalloc, where it is built in, keeps what a batch gave back for the next one; the default
    returns it to the system and has it zeroed again, which costs a tenth of a worker's processor
    time and a sixth of its memory.
    """
    before = pa.default_memory_pool()
    switch_seconds = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        with rare_garbage_collections():
            yield
    finally:
        pa.set_memory_pool(before)
        sys.setswitchinterval(switch_seconds)


def _started_metrics(pipeline: Pipeline, share: Share, native: Native) -> IngestMetrics:
    metrics = IngestMetrics()
    metrics.worker_started(
        pipeline.name,
        str(share),
        version("k2i"),
        buffered_bytes_max=pipeline.flush.max_buffered_bytes,
        native=native.detail,
    )
    return metrics


def _started_server(
    health: Health, metrics: IngestMetrics, status: StatusAddress | None
) -> StatusServer | None:
    if status is None:
        return None
    server = StatusServer(
        health,
        metrics.render,
        host=status.host,
        port=status.port,
        port_file=status.port_file,
    )
    port = server.start()
    log.info("serving status", url=f"http://{status.host}:{port}")
    return server
