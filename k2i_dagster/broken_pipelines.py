"""Pipeline files that cannot be used, shown where a person looks: an asset each, and a sensor."""

from collections.abc import Sequence

import dagster as dg

from k2i_dagster import names
from k2i_dagster.pipeline_files import BrokenFile

TICK_SECONDS = 30


def build_broken_definitions(broken: Sequence[BrokenFile]) -> dg.Definitions:
    """Return what shows the broken files; nothing when there are none."""
    if not broken:
        return dg.Definitions()
    message = "\n\n".join(file.reason for file in broken)

    @dg.sensor(
        name=names.BROKEN_SENSOR,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails for as long as a pipeline file is broken, and says why.",
    )
    def broken_pipelines(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
        raise dg.Failure(message, allow_retries=False)

    keys = _distinct_keys(broken)
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                key,
                description=f"This pipeline file cannot be used:\n\n```\n{file.reason}\n```",
                group_name=names.BROKEN_GROUP,
                metadata={"file": str(file.path)},
            )
            for key, file in zip(keys, broken, strict=True)
        ],
        sensors=[broken_pipelines],
    )


def _distinct_keys(broken: Sequence[BrokenFile]) -> list[dg.AssetKey]:
    """Return a key for each file; two files of one stem get their whole names."""
    stems = [file.path.stem for file in broken]
    return [
        dg.AssetKey(
            [
                names.BROKEN_PREFIX,
                file.path.stem if stems.count(file.path.stem) == 1 else file.path.name,
            ]
        )
        for file in broken
    ]
