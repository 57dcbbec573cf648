"""Ports for servers on this machine that nobody else takes between the choice and the bind.

They lie below the range from which systems give ports to outgoing connections (32768 on Linux,
49152 on macOS). Inside it, a client that knocks on a server that is down may be given that very
port, connect to itself and so keep the server from coming back.
"""

import secrets
import socket
import sys
from dataclasses import dataclass

from k2i_core.errors import UnavailableError

LOOPBACK = "127.0.0.1"

_LOWEST_PORT = 20_000
_HIGHEST_PORT = 32_000
_ATTEMPTS = 200
"""Larger: a longer search on a machine where every port is taken. Smaller: a crowded machine fails
although it has free ports."""


@dataclass(frozen=True, slots=True)
class ReservedPort:
    """A free port, kept free for one server until it is released, where possible.

    Safe because Linux lets a server listen on a port that is bound by a silent socket if both say
    SO_REUSEADDR, as Java and Go do, and refuses it to everyone who does not. Other systems refuse
    it to the server as well, so there the port is only known to have been free.
    """

    number: int
    holder: socket.socket | None

    def release(self) -> None:
        """Let others have the port."""
        if self.holder is not None:
            self.holder.close()


def reserve_port() -> ReservedPort:
    """Choose a free port of 127.0.0.1 and hold it.

    Raises:
        UnavailableError: No free port was found; the machine is out of them.
    """
    for _ in range(_ATTEMPTS):
        number = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        holder = socket.socket()
        try:
            holder.bind((LOOPBACK, number))
        except OSError:
            holder.close()
            continue
        # After the bind, because before it this option would hide another holder's claim.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            return ReservedPort(number, holder)
        holder.close()
        return ReservedPort(number, None)
    message = f"no free port between {_LOWEST_PORT} and {_HIGHEST_PORT} attempts={_ATTEMPTS}"
    raise UnavailableError(message)


def free_port() -> int:
    """Choose a free port for a server that cannot share it with a holder, or starts much later.

    Raises:
        UnavailableError: As `reserve_port`.
    """
    reserved = reserve_port()
    reserved.release()
    return reserved.number


def is_port_free(number: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
    return True


def is_listening(number: int, *, seconds_max: float = 0.2) -> bool:
    """Tell whether something accepts connections on this port of 127.0.0.1."""
    try:
        socket.create_connection((LOOPBACK, number), seconds_max).close()
    except OSError:
        return False
    return True
