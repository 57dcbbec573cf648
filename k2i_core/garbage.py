"""Python's garbage collector, kept from running where there is no garbage."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

OBJECTS_PER_COLLECTION = 100_000
"""New objects, less freed ones, between two collections. Larger lets cycles lie in memory longer;
smaller than the messages of some polls makes polls collect."""


@contextmanager
def rare_garbage_collections() -> Generator[None]:
    """Let neither imports nor polls set off the collector.

    Both make many objects that may be part of a cycle, as far as Python knows, and none that is:
    searching the heap for them is a tenth of a worker's processor time, and of its start.
    """
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_PER_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def without_last_collection() -> None:
    """Let the interpreter end without searching the heap; to be called when nothing else is left.

    It would look through every object of every library, three times over: a fifth of a second in
    which a command has said everything and its caller still waits.
    """
    gc.freeze()
