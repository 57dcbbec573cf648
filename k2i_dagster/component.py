"""`KafkaToIceberg`: a pipeline as a Dagster Component, configured by a `defs.yaml`.

    type: k2i_dagster.KafkaToIceberg
    attributes:
      name: orders
      kafka: {bootstrap_servers: "{{ env.KAFKA }}", topics: [orders]}
      catalog: {type: sql, uri: sqlite:///.k2i/catalog.db, warehouse: .k2i/warehouse}
      table: {identifier: sales.orders}

or, for a pipeline file as `k2i` itself reads it, with `${…}` and all:

    attributes: {pipeline_file: orders.yaml}

The path counts from the directory of the `defs.yaml`.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Self, cast

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from k2i_core.config import Pipeline, load_pipeline, parse_pipeline
from k2i_core.errors import ConfigError
from k2i_dagster import names
from k2i_dagster.pipeline_definitions import build_parts, combined
from k2i_dagster.pipeline_files import PipelineFile


class KafkaToIcebergAttributes(BaseModel):
    """What may stand below `attributes`: the settings of a pipeline, or `pipeline_file` alone.

    The settings themselves are checked by k2i, all together, with one message for each problem.
    """

    model_config = ConfigDict(extra="allow")

    pipeline_file: str | None = Field(
        default=None,
        description="Path of a pipeline file, from the directory of this defs.yaml.",
        examples=["orders.yaml"],
    )


class KafkaToIceberg(dg.Component):
    """Kafka topics into an Iceberg table: assets, jobs, checks and a keep-alive sensor."""

    def __init__(self, pipeline: Pipeline, file: PipelineFile | None = None) -> None:
        """Take checked settings, and the file they came from if there is one."""
        self.pipeline = pipeline
        self._file = file

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model of `attributes`."""
        return KafkaToIcebergAttributes

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Describe the component to Dagster's tools."""
        return dg.ComponentTypeSpec(
            description="Kafka topics into an Apache Iceberg table, exactly once.",
            tags=["kafka", "iceberg"],
        )

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Read the settings.

        Raises:
            ConfigError: Something in them is wrong; the message has a line for each problem.

        """
        written = attributes.model_dump(exclude_unset=True) if attributes else {}
        settings = cast("Mapping[str, Any]", context.resolution_context.resolve_value(written))
        source = f"{context.path / 'defs.yaml'}"
        if "pipeline_file" not in settings:
            return cls(parse_pipeline(settings, source=source))
        if len(settings) > 1:
            message = f"{source}: pipeline_file stands alone; write other settings in that file"
            raise ConfigError(message)
        path = Path(context.path) / str(settings["pipeline_file"])
        pipeline = load_pipeline(path)
        return cls(pipeline, PipelineFile(path, pipeline))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the pipeline's definitions.

        A topic that several components of a project read is defined by the first of them, because
        Dagster takes an asset from one place only.
        """
        read_again = self._file.read_again if self._file else None
        parts = build_parts(self.pipeline, read_again=read_again)
        others = {key for one in self._before(context) for key in names.topic_keys(one.pipeline)}
        own = tuple(spec for spec in parts.topics if spec.key not in others)
        return combined([replace(parts, topics=own)])

    def _before(self, context: dg.ComponentLoadContext) -> list["KafkaToIceberg"]:
        """Return the components of the project that come before this one."""
        if type(context.component_tree) is not dg.ComponentTree:
            return []  # `ComponentTree.for_test`, whose folder is none of a project
        components = context.component_tree.get_all_components(KafkaToIceberg)
        before = list(takewhile(lambda one: one is not self, components))
        # One that is not in the tree was made by somebody's own program, and stands alone.
        return before if len(before) < len(components) else []
