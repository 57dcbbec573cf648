"""`k2i ingest`: run the worker of a pipeline, or all of its workers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from k2i_core.cli.options import Overrides, PipelineFile, read_pipeline, read_share
from k2i_core.cli.stop_signals import stop_on_signals
from k2i_core.cli.worker_processes import run_worker_processes
from k2i_core.ledger import Share
from k2i_core.server import LOOPBACK
from k2i_core.wiring.worker_run import StatusAddress, run_worker
from k2i_core.worker import Until

STATUS_PORT = 9640


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
    with stop_on_signals("the last flush") as stop:
        status = StatusAddress(listen, status_port, port_file)
        run_worker(pipeline, share, until, stop, status=status)
