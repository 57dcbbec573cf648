"""k2i in Dagster: each pipeline's topics, tables, workers and checks, seen and steered in its UI.

| module | what it is |
|---|---|
| `definitions` | the code location: every pipeline file of a directory |
| `pipeline_definitions` | all definitions of one pipeline; `build_pipeline_definitions` |
| `component` | `KafkaToIceberg`, for a `defs.yaml` |
| `keep_alive` | the pure decision which worker runs are missing, dead or unwanted |
| `run_store` | the only file that touches Dagster's run storage |
| `running/` | what happens inside runs; nothing outside imports it when definitions load |

Loading the definitions reads pipeline files and nothing else: no network, no Arrow, no Iceberg.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2i_dagster.component import KafkaToIceberg
    from k2i_dagster.pipeline_definitions import build_pipeline_definitions

__all__ = ["KafkaToIceberg", "build_pipeline_definitions"]


def __getattr__(name: str) -> object:
    """Import what is exported when it is first used."""
    if name == "KafkaToIceberg":
        from k2i_dagster.component import KafkaToIceberg

        return KafkaToIceberg
    if name == "build_pipeline_definitions":
        from k2i_dagster.pipeline_definitions import build_pipeline_definitions

        return build_pipeline_definitions
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
