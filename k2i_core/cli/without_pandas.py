"""pandas, kept out of the programs of k2i, which hand Arrow nothing of it."""

import sys
from collections.abc import Generator
from contextlib import contextmanager


class _Refusal:
    """An import finder to which pandas is missing; everything else it leaves to the others."""

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> None:
        if fullname == "pandas":
            message = "k2i's programs do without pandas"
            raise ModuleNotFoundError(message, name=fullname)


@contextmanager
def without_pandas() -> Generator[None]:
    """Let nothing import pandas, also where it is installed.

    Arrow imports it with the first value that it converts, to ask whether the value is one of
    pandas': a fifth of a worker's start and 33 MB of its memory, for an answer that is always no.

    Not for a process that runs other people's code: Arrow remembers that there is no pandas.
    """
    refusal = _Refusal()
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)
