"""The server: calls of Arrow Flight, answered from the union read.

Every call may come on another thread, and a thread's own variables do not outlive it; what calls
share is thread-safe, and each query has an engine to itself.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import structlog
from pyarrow import flight

from k2i_core.clock import Clock
from k2i_core.duckdb_connection import CATALOG
from k2i_core.errors import ConfigError, K2iError
from k2i_core.flight.access import NoHandshake, TokenCheck
from k2i_core.flight.admission import Admission, ServeLimits
from k2i_core.flight.commands import (
    CLOSE_PREPARED_STATEMENT,
    CREATE_PREPARED_STATEMENT,
    Query,
    prepared_statement,
    read_action,
    read_command,
    ticket_of,
)
from k2i_core.flight.listings import ServedTable, listing, listing_schema
from k2i_core.flight.refusals import answered
from k2i_core.query.reading import PipelineTable

SHUTDOWN_SECONDS_MAX = 2.0
"""After the last query. Larger waits longer for a client that does not read; smaller cuts off the
last bytes of one that does."""

SCHEMAS_MAX = 64
"""Queries whose columns are remembered. More holds memory, up to a megabyte each for the largest
queries; fewer plans a driver's query twice."""

_WARM_UP = "SELECT 1"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        port: 0 for any free one.
        certificate: PEM files of the certificate chain and its key; None for no TLS.
    """

    host: str
    port: int
    certificate: tuple[Path, Path] | None = None

    def uri(self, port: int) -> str:
        """Return what a driver connects to."""
        scheme = "grpc" if self.certificate is None else "grpc+tls"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}"


class FlightSqlServer:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        table: PipelineTable,
        address: Address,
        limits: ServeLimits,
        clock: Clock,
        *,
        token: str | None = None,
    ) -> None:
        """Bind what is served; nothing listens yet.

        Args:
            table: Read by every query.
            address: Where to listen; `access.check_exposure` says whether it should.
            limits: For all clients together and for each query.
            clock: For deadlines.
            token: What clients must send; None lets everybody in.

        """
        self._table = table
        self._address = address
        self._limits = limits
        self._clock = clock
        self._token = token
        self._calls: _Calls | None = None
        self._admission: Admission | None = None

    def start(self) -> str:
        """Listen; queries are answered from now on.

        Returns:
            What drivers connect to.

        Raises:
            ConfigError: The address cannot be listened on, or the certificate not be read.

        """
        assert self._calls is None
        self._warm_up()
        certificates = _certificates(self._address)
        admission = Admission(self._limits, self._clock)
        try:
            calls = _Calls(
                self._table,
                admission,
                self._limits,
                location=self._address.uri(self._address.port),
                token=self._token,
                certificates=certificates,
            )
        except (pa.ArrowException, OSError) as error:
            admission.close()
            message = (
                f"cannot listen on host={self._address.host} port={self._address.port}: free the "
                "port, choose another one, or use 0 for any free one"
            )
            if certificates:
                message += "; or the certificate and its key do not fit together"
            raise ConfigError(message) from error
        self._calls, self._admission = calls, admission
        return self._address.uri(calls.port)

    def stop(self, seconds_max: float) -> bool:
        """Refuse new queries, give running ones their time, and stop listening.

        Args:
            seconds_max: How long running queries have.

        Returns:
            False when a client still holds a call; then only the end of the process ends it.

        """
        if self._calls is None or self._admission is None:
            return True
        self._admission.close()
        self._admission.drained(seconds_max)
        # In a thread of its own, because it waits for clients that may never read on.
        closing = threading.Thread(target=self._calls.shutdown, name="k2i-serve-stop", daemon=True)
        closing.start()
        closing.join(SHUTDOWN_SECONDS_MAX)
        self._calls = None
        return not closing.is_alive()

    def _warm_up(self) -> None:
        """Load the engine before the first client waits for it."""
        try:
            with self._table.sql(_WARM_UP, self._limits.of_one_query) as result:
                result.read_all()
        except K2iError as error:
            # The worker may make the table later.
            log.warning("table cannot be read yet", kind=error.kind.value, reason=str(error))


class GetFlightInfoTellsWhy:
    """Returned where a schema is refused: a client is then told the name of this class."""


class _Calls(flight.FlightServerBase):
    """What Arrow calls, on threads of its own."""

    def __init__(
        self,
        table: PipelineTable,
        admission: Admission,
        limits: ServeLimits,
        *,
        location: str,
        token: str | None,
        certificates: list[tuple[str, str]] | None,
    ) -> None:
        # Before Arrow listens, because a call may come at once.
        self._table = table
        self._admission = admission
        self._query_limits = limits.of_one_query
        self._lock = threading.Lock()
        self._schemas: dict[tuple[str, pa.Schema], pa.Schema] = {}
        *namespace, name = table.identifier.split(".")
        self._served = ServedTable(
            CATALOG, ".".join(namespace), name, lambda: self._table.view().schema
        )
        super().__init__(
            location,
            auth_handler=NoHandshake(),
            tls_certificates=certificates,
            middleware={"token": TokenCheck(token)},
        )

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Say which columns a command returns, and the ticket for its rows."""
        del context
        with answered("get_flight_info"):
            command = read_command(descriptor.command)
            if isinstance(command, Query):
                schema, ticket = self._schema_of(command), ticket_of(command)
            else:
                assert descriptor.command is not None
                schema, ticket = listing_schema(command), descriptor.command
            # No location: the same connection.
            endpoint = flight.FlightEndpoint(ticket, [])
            return flight.FlightInfo(schema, descriptor, [endpoint], -1, -1)

    def get_schema(  # pyright: ignore[reportIncompatibleMethodOverride] - the stubs are wrong
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> "flight.SchemaResult | GetFlightInfoTellsWhy":
        """Say which columns a command returns."""
        try:
            return flight.SchemaResult(self.get_flight_info(context, descriptor).schema)
        except flight.FlightError:
            # Here alone Arrow sends Flight's exceptions, too, with a stack trace.
            return GetFlightInfoTellsWhy()

    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.FlightDataStream:
        """Run what the ticket says."""
        del context
        with answered("do_get"):
            command = read_command(ticket.ticket)
            if not isinstance(command, Query):
                return flight.RecordBatchStream(listing(command, self._served))
            stream = self._admission.stream(
                lambda: self._table.sql(command.sql, self._query_limits)
            )
            return flight.GeneratorStream(stream.schema, stream.batches())

    def do_action(  # pyright: ignore[reportIncompatibleMethodOverride] - likewise
        self, context: flight.ServerCallContext, action: flight.Action
    ) -> Iterator[flight.Result]:
        """Prepare or close a statement."""
        del context
        with answered("do_action"):
            query = read_action(action.type, action.body.to_pybytes())
            if query is None:
                return iter(())
            columns = self._schema_of(query).serialize().to_pybytes()
            return iter((flight.Result(prepared_statement(query, columns)),))

    def list_actions(  # pyright: ignore[reportIncompatibleMethodOverride] - likewise
        self, context: flight.ServerCallContext
    ) -> list[tuple[str, str]]:
        """List the actions above."""
        del context
        return [
            (CREATE_PREPARED_STATEMENT, "Check a query and return its columns"),
            (CLOSE_PREPARED_STATEMENT, "Do nothing: statements need no closing"),
        ]

    def list_flights(  # pyright: ignore[reportIncompatibleMethodOverride] - likewise
        self, context: flight.ServerCallContext, criteria: bytes
    ) -> Iterator[flight.FlightInfo]:
        """List nothing: rows come by SQL."""
        del context, criteria
        return iter(())

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Refuse."""
        del context, descriptor, reader, writer
        message = (
            "this server is read only and takes no parameters: write values into a SELECT; rows "
            "come from Kafka"
        )
        raise flight.FlightServerError(message)

    def do_exchange(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
    ) -> None:
        """Refuse."""
        del context, descriptor, reader, writer
        message = "exchange is not supported; use a Flight SQL driver"
        raise flight.FlightServerError(message)

    def _schema_of(self, query: Query) -> pa.Schema:
        """Return a query's columns; drivers ask several times before they run it."""
        with self._admission.place():
            key = query.sql, self._served.columns()
            with self._lock:
                known = self._schemas.get(key)
            if known is None:
                known = self._table.sql_schema(query.sql, self._query_limits)
                with self._lock:
                    if len(self._schemas) >= SCHEMAS_MAX:
                        del self._schemas[next(iter(self._schemas))]
                    self._schemas[key] = known
            return known


def _certificates(address: Address) -> list[tuple[str, str]] | None:
    if address.certificate is None:
        return None
    chain, key = address.certificate
    try:
        return [(chain.read_text(), key.read_text())]
    except OSError as error:
        name = "serve.certificate" if error.filename == os.fspath(chain) else "certificate_key"
        message = f"{name} cannot be read: {error.strerror} for {error.filename}"
        raise ConfigError(message) from error
