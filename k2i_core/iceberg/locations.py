"""Locations of files, compared by what they mean and not by how they are spelled.

`s3://`, `s3a://` and `s3n://` are one store; `file:///x`, `file:/x` and `/x` are one file. A
comparison by text would call a file of the table a stranger, and delete it.
"""

import os.path
from collections.abc import Iterable
from urllib.parse import unquote

_SAME_STORE = {"s3a": "s3", "s3n": "s3", "abfss": "abfs", "wasbs": "wasb", "gcs": "gs"}


def normalise(location: str) -> str:
    """Return one spelling for all spellings of a location."""
    scheme, colon, rest = location.partition(":")
    if not colon or "/" in scheme:
        return os.path.normpath(location)
    if scheme == "file":
        return os.path.normpath("/" + rest.lstrip("/"))
    return f"{_SAME_STORE.get(scheme, scheme)}:{rest.rstrip('/')}"


def is_inside(location: str, folders: Iterable[str]) -> bool:
    """Tell whether a file lies in one of the folders, or below; a path with `..` lies nowhere."""
    if ".." in unquote(location).split("/"):
        return False
    normal = normalise(location)
    return any(normal.startswith(f"{normalise(folder).rstrip('/')}/") for folder in folders)
