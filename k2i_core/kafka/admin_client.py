"""The admin client of a source, replaced when it stops answering.

librdkafka's admin client can lose its way for good: after brokers hung for a while it sometimes
keeps an idle connection, waits for a controller, and never asks for one again, while a client made
anew is answered at once. So a question that timed out is asked again through a new client.
"""

import threading
from collections.abc import Callable

from confluent_kafka.admin import AdminClient

from k2i_core.clock import Clock

ATTEMPT_SECONDS_MAX = 10.0
"""How long one question may take before it is asked again through a new client. Larger holds up
commits behind a client that is lost; smaller makes new connections to a cluster that is only slow.
"""


class RenewedAdminClient:
    """Hands out the current client; for several threads."""

    def __init__(self, connect: Callable[[], AdminClient], clock: Clock) -> None:
        """Make the first client with `connect`, whose errors pass through."""
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        self._client = connect()
        self._retired: list[tuple[float, AdminClient]] = []

    @property
    def client(self) -> AdminClient:
        """The client for the next question."""
        return self._client

    def renew(self, silent: AdminClient) -> None:
        """Replace a client that did not answer, unless another thread has done so already.

        It is not ended at once, because another thread may still wait for an answer of it.
        """
        with self._lock:
            if self._client is not silent:
                return
            self._end_retired(before=self._clock.boot_seconds() - 2 * ATTEMPT_SECONDS_MAX)
            self._retired.append((self._clock.boot_seconds(), silent))
            self._client = self._connect()

    def close(self) -> None:
        """End all clients here and now, in this thread, whoever still refers to them."""
        with self._lock:
            self._end_retired(before=self._clock.boot_seconds())
            _end(self._client)

    def _end_retired(self, *, before: float) -> None:
        ended = [client for retired, client in self._retired if retired <= before]
        self._retired = [(at, client) for at, client in self._retired if at > before]
        for client in ended:
            _end(client)


def _end(client: AdminClient) -> None:
    client.__exit__(None, None, None)
