"""A TCP proxy that fails on purpose, in front of a broker, a catalog or an object store.

In front of Kafka it needs a listener of its own, because clients go where the broker sends them:
`Listener("PROXY", port, advertised_port=proxy.port)`; an HTTP service needs nothing.

    with FaultProxy(upstream_port) as proxy:
        proxy.latency_seconds = 0.2     # each answer comes later
        proxy.hold()                    # connections stay open, nothing gets through
        proxy.release()                 # what was held arrives now
        proxy.lose_answers()            # requests get through, answers do not: the lost reply
        proxy.refuse()                  # as if nothing listened
        proxy.reset()                   # every open connection is cut (RST)
        proxy.heal()                    # all of it ends

The proxy runs on a thread of its own, with one event loop; faults may be switched from any other
thread, and hold when the call returns.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Self

from k2i_core.dev.ports import LOOPBACK, ReservedPort, reserve_port

_CHUNK_BYTES = 65_536
_ANSWER_SECONDS = 10.0
_LOOP_TURNS = 3
"""A transport that is aborted closes its socket one turn of the loop later."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Passes bytes between clients and one port of 127.0.0.1, unless told otherwise."""

    def __init__(
        self,
        upstream_port: int,
        *,
        port: ReservedPort | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Choose a port; nothing listens before the context is entered.

        Args:
            upstream_port: Where the real service is, or will be.
            port: Where to listen; None for a free one.
            tls: What it shows to clients and asks of them, before it passes anything on; None: as
                they come.
        """
        self.latency_seconds = 0.0
        self.bytes_up = 0
        self.bytes_down = 0
        self.connection_count = 0
        self._upstream_port = upstream_port
        self._port = port or reserve_port()
        self._tls = tls
        self._loses_answers = False
        self._refuses = False
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def hold(self) -> None:
        """Keep what arrives, in both directions, and all connections."""
        self._call(self._passing.clear)

    def release(self) -> None:
        """Pass on what was held, and everything after it."""
        self._call(self._passing.set)

    def lose_answers(self) -> None:
        """Pass requests on and throw the service's answers away."""
        self._loses_answers = True

    def refuse(self) -> None:
        """Refuse new connections and cut the open ones."""
        self._refuses = True
        self._call(self._stop_listening)
        self.reset()

    def reset(self) -> None:
        """Cut every open connection with a reset, without the polite end."""
        self._call(self._abort_all)

    def heal(self) -> None:
        """End all faults; connections whose answers were lost are cut, so that clients notice."""
        self.latency_seconds = 0.0
        if self._loses_answers:
            self.reset()
            self._loses_answers = False
        self.release()
        if self._refuses:
            self._refuses = False
            self._run(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop_listening)
        self._call(self._abort_all)
        self._run(self._cancel_connections())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_SECONDS)
        self._loop.close()
        self._port.release()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._tls)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cancel_connections(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        self.connection_count += 1
        writers = {client_writer}
        self._writers |= writers
        try:
            service_reader, service_writer = await asyncio.open_connection(
                LOOPBACK, self._upstream_port
            )
            writers.add(service_writer)
            self._writers |= writers
            await asyncio.gather(
                self._pass_up(client_reader, service_writer),
                self._pass_down(service_reader, client_writer),
            )
        except OSError:
            # One side is gone: so is the other.
            pass
        finally:
            for writer in writers:
                self._writers.discard(writer)
                writer.close()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._passing.wait()
            self.bytes_up += len(data)
            writer.write(data)
            await writer.drain()
        _end(writer)

    async def _pass_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            await self._passing.wait()
            if self._loses_answers:
                continue
            self.bytes_down += len(data)
            writer.write(data)
            await writer.drain()
        _end(writer)

    def _abort_all(self) -> None:
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def _call(self, action: Callable[[], object]) -> None:
        """Do it on the proxy's thread, and return when it is done and its sockets are closed."""

        async def act() -> None:
            action()
            for _ in range(_LOOP_TURNS):
                await asyncio.sleep(0)

        self._run(act())

    def _run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_SECONDS)


def _end(writer: asyncio.StreamWriter) -> None:
    """Say that nothing more comes; TLS cannot without ending both directions."""
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
