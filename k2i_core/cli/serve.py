"""`k2i serve`: the table over Arrow Flight SQL, for ADBC, JDBC, pandas, polars."""

import os
import resource
import sys
import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer

from k2i_core.cli.exits import Exit
from k2i_core.cli.options import OneTable, Overrides, PipelineFile, read_one_table
from k2i_core.cli.stop_signals import stop_on_signals
from k2i_core.clock import SystemClock
from k2i_core.config import Serve
from k2i_core.errors import ConfigError
from k2i_core.flight import Address, FlightSqlServer, ServeLimits
from k2i_core.flight.access import check_exposure
from k2i_core.query.reading import open_pipeline

GRACE_SECONDS = 10.0
"""Larger gives running queries more time at the end, and whoever stops the server a longer wait."""

LOOK_SECONDS = 1.0

MEMORY_BYTES_MORE = 1 << 30
"""Memory that the process may take besides its queries. Larger lets a query take more than it may
in one step; smaller lets results on their way to many clients fail."""

log = structlog.get_logger(__name__)


def serve(
    pipeline_file: PipelineFile,
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on instead of serve.host.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port instead of serve.port. 0: any free one."),
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option(help="Write the port here once it listens.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other hosts in without a token or without TLS.")
    ] = False,
    table: OneTable = None,
    overrides: Overrides = None,
) -> None:
    """Serve the table over Arrow Flight SQL until stopped: rows not yet committed included.

    Read only. Who may ask and how much is in the section serve of the pipeline file; the token is
    best given as K2I__SERVE__TOKEN or by ${file:…}. SIGTERM and Ctrl-C let running queries end.
    """
    pipeline = read_one_table(pipeline_file, overrides, table)
    settings = pipeline.serve
    token = None if settings.token is None else settings.token.get_secret_value()
    address = _address(settings, host, port)
    if not insecure:
        check_exposure(
            address.host, has_token=token is not None, has_tls=address.certificate is not None
        )
    with stop_on_signals("running queries") as stop, open_pipeline(pipeline) as reader:
        server = FlightSqlServer(
            reader.table(), address, _limits(settings), SystemClock(), token=token
        )
        uri = server.start()
        if port_file is not None:
            _write_whole(port_file, f"{uri.rpartition(':')[2]}\n")
        log.info("serving", table=pipeline.table.identifier, uri=uri, asks_for_token=bool(token))
        _limit_memory(settings.max_queries * settings.max_memory_bytes + MEMORY_BYTES_MORE)
        _wait(stop)
        if port_file is not None:
            port_file.unlink(missing_ok=True)
        is_ended = server.stop(GRACE_SECONDS)
    log.info("served", all_queries_ended=is_ended)
    if not is_ended:
        # A client that does not read holds a thread that nothing else can end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(Exit.OK)


def _limit_memory(more_bytes: int) -> None:
    """Let this process grow by so much and no more, where the system can say how large it is.

    The engine counts what its queries keep, not what one function call makes: a text of a
    gigabyte is made before it is counted, and without an interrupt. With this it fails instead.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = pages * resource.getpagesize() + more_bytes
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _wait(stop: threading.Event) -> None:
    while not stop.wait(LOOK_SECONDS):
        pass


def _address(settings: Serve, host: str | None, port: int | None) -> Address:
    certificate = None
    if settings.certificate is not None and settings.certificate_key is not None:
        certificate = settings.certificate, settings.certificate_key
    chosen = settings.port if port is None else port
    return Address(host or settings.host, chosen, certificate)


def _limits(settings: Serve) -> ServeLimits:
    return ServeLimits(
        queries_max=settings.max_queries,
        seconds_max=settings.max_duration,
        row_count_max=settings.max_rows,
        byte_count_max=settings.max_bytes,
        memory_bytes_max=settings.max_memory_bytes,
    )


def _write_whole(path: Path, text: str) -> None:
    """Write so that whoever waits for the file sees the whole of it.

    Raises:
        ConfigError: It cannot be written.

    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        message = f"--port-file {path} cannot be written: {error.strerror}"
        raise ConfigError(message) from error
