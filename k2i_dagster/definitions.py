"""The code location: all pipelines of the directory that `K2I_PIPELINES` names.

`dagster dev` finds it from the repository's root; elsewhere name it with
`-m k2i_dagster.definitions`.
"""

import dagster as dg
import structlog

from k2i_core.clock import SystemClock
from k2i_dagster.broken_pipelines import build_broken_definitions
from k2i_dagster.clean_up import build_clean_up
from k2i_dagster.pipeline_definitions import PipelineParts, build_parts, combined
from k2i_dagster.pipeline_files import BrokenFile, PipelineFile, PipelineFiles, find_pipelines

log = structlog.get_logger(__name__)


def build_definitions(files: PipelineFiles) -> dg.Definitions:
    """Return the definitions of every usable file, and what shows the others."""
    parts: list[PipelineParts] = []
    broken = list(files.broken)
    for file in files.pipelines:
        try:
            parts.append(_checked_parts(file))
        except (dg.DagsterError, ValueError) as error:
            broken.append(BrokenFile(file.path, f"{file.path}: Dagster refuses it: {error}"))
    for file in broken:
        log.error("pipeline file cannot be used", file=str(file.path), reason=file.reason)
    clean_up = build_clean_up([name for one in parts for name in one.job_names], SystemClock())
    return dg.Definitions.merge(
        combined(parts),
        clean_up,
        build_broken_definitions(broken),
        # Every job names its executor; this one is for the buttons of single checks.
        dg.Definitions(executor=dg.in_process_executor),
    )


def _checked_parts(file: PipelineFile) -> PipelineParts:
    """Build a pipeline's parts, and let Dagster check them apart from those of other files."""
    parts = build_parts(file.pipeline, read_again=file.read_again)
    dg.Definitions.validate_loadable(combined([parts]))
    return parts


defs = build_definitions(find_pipelines())
