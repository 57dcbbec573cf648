"""Exit codes of the command line, one per reaction of whoever called it."""

from enum import IntEnum

from k2i_core.errors import (
    CommitStateUnknownError,
    ConfigError,
    ConflictError,
    CorruptionError,
    DataError,
    DataLossError,
    IncompatibleSchemaError,
    K2iError,
    TooManyDeadLettersError,
    UnavailableError,
)


class Exit(IntEnum):
    """0 ok; the others say who has to act."""

    OK = 0
    CHECK_FAILED = 1
    """A check or comparison failed; read its report."""
    CONFIG = 2
    """Usage or configuration; change the command or the file."""
    UNREACHABLE = 3
    """An outside system did not answer; try again."""
    STOPPED = 4
    """Fenced, or stopped on purpose: schema, dead letters, data loss; an operator decides."""
    INTERRUPTED = 130


_EXITS: tuple[tuple[type[K2iError], Exit], ...] = (
    (ConfigError, Exit.CONFIG),
    (UnavailableError, Exit.UNREACHABLE),
    (CommitStateUnknownError, Exit.UNREACHABLE),
    (ConflictError, Exit.STOPPED),
    (IncompatibleSchemaError, Exit.STOPPED),
    (TooManyDeadLettersError, Exit.STOPPED),
    (DataLossError, Exit.STOPPED),
    (CorruptionError, Exit.STOPPED),
    (DataError, Exit.CHECK_FAILED),
)


def exit_code_of(error: K2iError) -> Exit:
    """Return the exit code for an error that ends a command."""
    return next(code for kind, code in _EXITS if isinstance(error, kind))
