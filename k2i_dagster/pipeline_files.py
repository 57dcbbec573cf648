"""Which pipelines this code location has: the files named by `K2I_PIPELINES`, each by itself.

A file that is wrong takes no other one down: it is returned with its error. Two files that cannot
live side by side (the same name, the same table) are an error of the later one.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dagster import AssetKey

from k2i_core.config import Pipeline, load_pipeline
from k2i_core.errors import ConfigError
from k2i_dagster import names
from k2i_dagster.maintenance_steps import STEPS

DIRECTORY_VARIABLE = "K2I_PIPELINES"
DIRECTORY_DEFAULT = "pipelines"


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A pipeline and where it came from."""

    path: Path
    pipeline: Pipeline

    def read_again(self) -> Pipeline:
        """Return what the file says now.

        Raises:
            ConfigError: It is wrong now.

        """
        return load_pipeline(self.path)


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that is no usable pipeline, and why, with file, line and key."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class PipelineFiles:
    """Everything that was found, in the order of the files' names."""

    pipelines: tuple[PipelineFile, ...]
    broken: tuple[BrokenFile, ...]


def find_pipelines(environ: Mapping[str, str] | None = None) -> PipelineFiles:
    """Read every pipeline file of this code location.

    Args:
        environ: Where `K2I_PIPELINES` is looked up; None takes the process's own.

    """
    variables = os.environ if environ is None else environ
    place = Path(variables.get(DIRECTORY_VARIABLE) or DIRECTORY_DEFAULT)
    if place.is_file():
        return read_pipelines([place])
    if not place.is_dir():
        reason = (
            f"{place}: is no directory with pipeline files; set {DIRECTORY_VARIABLE} to one, or "
            f"to one file"
        )
        return PipelineFiles((), (BrokenFile(place, reason),))
    return read_pipelines(sorted([*place.glob("*.yaml"), *place.glob("*.yml")]))


def read_pipelines(paths: Iterable[Path]) -> PipelineFiles:
    """Read these files."""
    pipelines: list[PipelineFile] = []
    broken: list[BrokenFile] = []
    for path in paths:
        try:
            pipeline = load_pipeline(path)
        except ConfigError as error:
            broken.append(BrokenFile(path, str(error)))
            continue
        if clash := _clash(path, pipeline, pipelines):
            broken.append(BrokenFile(path, clash))
        else:
            pipelines.append(PipelineFile(path, pipeline))
    return PipelineFiles(tuple(pipelines), tuple(broken))


def _clash(path: Path, pipeline: Pipeline, others: Iterable[PipelineFile]) -> str | None:
    for other in others:
        theirs = other.pipeline
        if names.dagster_name(pipeline.name) == names.dagster_name(theirs.name):
            return (
                f"{path}: name: {pipeline.name} is the pipeline of {other.path} already (- and _ "
                f"count as one in Dagster); choose another name"
            )
        ours, taken = _table_keys(pipeline), {*_table_keys(theirs), *names.topic_keys(theirs)}
        ours |= {key for key in names.topic_keys(pipeline) if key in _table_keys(theirs)}
        for key in sorted(ours & taken, key=str):
            return (
                f"{path}: asset {key.to_user_string()} belongs to the pipeline of {other.path} "
                f"already, and Dagster shows one asset for a table; choose another table"
            )
    return None


def _table_keys(pipeline: Pipeline) -> set[AssetKey]:
    keys = {
        names.dead_letter_key(pipeline),
        *(names.maintenance_key(pipeline, step) for step in (names.HEALTH, *STEPS)),
    }
    for alone in pipeline.declared_tables:
        keys |= {
            names.table_key(alone),
            names.dead_letter_reasons_key(alone),
            names.audit_key(alone),
            names.full_audit_key(alone),
        }
    return keys
