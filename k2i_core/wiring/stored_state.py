"""Where `k2i check` remembers how far it came: one small file beside the transaction logs.

Dagster keeps the same state in the audit's materializations; the two know nothing of each other.
Losing it costs one audit of everything.
"""

import json
import os
from pathlib import Path

from k2i_core.audit.audit_state import AuditState, read_state
from k2i_core.config import Pipeline
from k2i_core.errors import ErrorKind, UnavailableError
from k2i_core.wiring.sessions import state_directory

FILE_NAME = "audit.json"


def load_state(pipeline: Pipeline) -> AuditState | None:
    """Return what the last check that held left; None when there is nothing to go on from."""
    try:
        return read_state(json.loads(_path(pipeline).read_bytes()))
    except (OSError, ValueError):
        return None


def save_state(pipeline: Pipeline, state: AuditState) -> None:
    """Let the next check begin here.

    Raises:
        UnavailableError: The state directory cannot be written.

    """
    path = _path(pipeline)
    # Written apart and moved, so that a crash leaves the old one.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(state.to_json()), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        message = f"state of checks cannot be written to {path}: {error.strerror}"
        raise UnavailableError(message, kind=ErrorKind.STORAGE_UNAVAILABLE) from error


def _path(pipeline: Pipeline) -> Path:
    if pipeline.label == pipeline.name:
        return state_directory(pipeline) / FILE_NAME
    return state_directory(pipeline) / f"{pipeline.label}-{FILE_NAME}"
