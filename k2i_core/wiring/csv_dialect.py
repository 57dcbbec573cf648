"""The pipeline file's `format.csv` as the dialect that the decoder takes."""

from k2i_core.config import Pipeline
from k2i_core.config.csv_format import Csv
from k2i_core.decode.csv_fields import CsvDialect


def csv_dialect(pipeline: Pipeline) -> CsvDialect:
    """Return how CSV records of a table are written; its columns name the fields by default."""
    section = pipeline.format.csv or Csv()
    declared = tuple(
        column.name
        for column in pipeline.table.columns or ()
        if column.name != pipeline.format.key_column_name
    )
    return CsvDialect(
        columns=section.columns or declared,
        delimiter=section.delimiter,
        quote=section.quote,
        null=section.null,
    )
