"""`k2i ingest`: run the worker of a pipeline, or all of its workers."""

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import structlog
import typer

from k2i_core.cli.options import Overrides, PipelineFile, read_pipeline, read_share
from k2i_core.cli.worker_processes import run_worker_processes
from k2i_core.ledger import Share
from k2i_core.server import LOOPBACK
from k2i_core.wiring.worker_run import StatusAddress, run_worker
from k2i_core.worker import Until

STATUS_PORT = 9640

log = structlog.get_logger(__name__)


def ingest(
    pipeline_file: PipelineFile,
    worker: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Run one worker's share only. Default: all workers of the file, one process each.",
        ),
    ] = None,
    *,
    until_caught_up: Annotated[
        bool, typer.Option(help="End once everything that is in the topics now is committed.")
    ] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="End after this long, with a last flush.")
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Address for /healthz, /readyz and /metrics.")
    ] = LOOPBACK,
    port: Annotated[
        int,
        typer.Option(help="Port of the first worker; worker i listens on PORT+i. 0: any free one."),
    ] = STATUS_PORT,
    port_file: Annotated[
        Path | None, typer.Option(help="Write the port here once it listens.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Ingest topics into the table until stopped; SIGTERM or Ctrl-C flush and end.

    Exit codes: 0 ended as asked, 2 configuration, 3 an outside system was gone for too long,
    4 another worker took over, or an operator has to decide.
    """
    pipeline = read_pipeline(pipeline_file, overrides)
    share = read_share(worker, pipeline.workers)
    if share is None and pipeline.workers > 1:
        run_worker_processes(pipeline.workers, sys.argv[1:])
        return
    share = share or Share(0, 1)
    until = Until(max_seconds, until_caught_up)
    status_port = port + share.worker if port else 0
    with stop_on_signals() as stop:
        status = StatusAddress(listen, status_port, port_file)
        run_worker(pipeline, share, until, stop, status=status)


@contextmanager
def stop_on_signals() -> Generator[threading.Event]:
    """Set an event on SIGTERM and SIGINT; further signals change nothing, the flush goes on.

    After a stop they stay ignored: one that comes while the process ends must not turn a clean
    end into a death by signal.
    """
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            log.warning("already stopping, the last flush goes on", signal=name)
            return
        log.info("stopping after a last flush", signal=name)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
