"""Reading a pipeline's table: hot and committed rows together, each exactly once."""

from k2i_core.query.committed import QueryLimits, QueryResult
from k2i_core.query.reading import PipelineReader, PipelineTable
from k2i_core.query.reading import open_pipeline as open  # noqa: A004 - query.open says it
from k2i_core.query.union_read import UnionView

__all__ = [
    "PipelineReader",
    "PipelineTable",
    "QueryLimits",
    "QueryResult",
    "UnionView",
    "open",
]
