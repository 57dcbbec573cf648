"""The checks whose cost follows the table: second reader, unique key, a user's over all rows.

They plan a scan of the whole table, as any query does, so only a full audit asks them.
"""

from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from k2i_core.audit import catalogue
from k2i_core.audit.content_checks import (
    judge_second_reader,
    judge_unique_key,
    judge_user_check,
    not_evaluated,
)
from k2i_core.audit.offsets_read import LiveFile, read_offsets
from k2i_core.audit.row_audit import AuditAnswer, slice_count
from k2i_core.audit.table_delta import TableDelta
from k2i_core.config import Check, Pipeline
from k2i_core.duckdb_connection import quote_name
from k2i_core.errors import ConfigError
from k2i_core.iceberg.column_names import current_names, table_columns
from k2i_core.iceberg.failures import translated
from k2i_core.query.committed import QueryLimits, query
from k2i_core.query.data_files import check_select, counting_sql
from k2i_core.records import KAFKA_COLUMN


@dataclass(frozen=True, slots=True)
class WholeTable:
    """One load of a table, to be read as a whole.

    Attributes:
        delta: All of it.
        limits: Of each query.
    """

    pipeline: Pipeline
    table: Table
    delta: TableDelta
    limits: QueryLimits

    def answers(self) -> list[AuditAnswer]:
        """Answer what only a full audit asks.

        Raises:
            ConfigError: A query of our own took longer or needs more memory than it may.
            UnavailableError: The store did not answer.

        """
        answers = [self._compare_readers()]
        if self.pipeline.monitoring.unique_key:
            answers.append(self._count_shared_keys())
        checks = (check for check in self.pipeline.checks if check.over == "table")
        return [*answers, *(self._ask(check) for check in checks)]

    def not_evaluated(self) -> list[AuditAnswer]:
        """Return the same answers for a table of which files are missing or broken."""
        reason = f"files cannot be read, see checks {catalogue.FILES} and {catalogue.FOOTERS}"
        answers = [not_evaluated(catalogue.SECOND_READER, reason)]
        if self.pipeline.monitoring.unique_key:
            answers.append(not_evaluated(catalogue.UNIQUE_KEY, reason))
        return [
            *answers,
            *(
                not_evaluated(check.name, reason, is_error=check.severity == "error")
                for check in self.pipeline.checks
                if check.over == "table"
            ),
        ]

    def _compare_readers(self) -> AuditAnswer:
        # A column is added up, because a bare count is answered from the manifests.
        sql = (
            f'SELECT {KAFKA_COLUMN}."topic", {KAFKA_COLUMN}."partition", '  # noqa: S608 - quoted
            f'count({KAFKA_COLUMN}."offset"), sum({KAFKA_COLUMN}."offset")::VARCHAR '
            f"FROM {self._name} WHERE {KAFKA_COLUMN} IS NOT NULL GROUP BY ALL"
        )
        duckdb = {f"{t}/{p}": (int(n), int(total)) for t, p, n, total in self._rows(sql)}
        return judge_second_reader(duckdb, self._read_with_arrow())

    def _read_with_arrow(self) -> dict[str, tuple[int, int]] | None:
        if self.delta.has_delete_files:
            return None
        seen: dict[str, tuple[int, int]] = {}
        with translated(f"read data files of table {'.'.join(self.table.name())}"):
            for entry in self.delta.live:
                file = LiveFile(entry.path, entry.row_count, entry.sequence_number)
                for batch in read_offsets(self.table.io, file, since_sequence_numbers={}):
                    for part in batch.partitions:
                        where = (
                            f"{part.topic_partition.topic}/{part.topic_partition.kafka_partition}"
                        )
                        count, total = seen.get(where, (0, 0))
                        seen[where] = (count + len(part.offsets), total + _sum(part.offsets))
        return seen

    def _count_shared_keys(self) -> AuditAnswer:
        named = self.pipeline.monitoring.unique_key
        columns = current_names(table_columns(self.table), named)
        names = [_column(self.table, column) for column in columns]
        listed = ", ".join(names)
        known = " AND ".join(f"{name} IS NOT NULL" for name in names)
        count = slice_count(sum(entry.row_count for entry in self.delta.live))
        key_count = row_count = 0
        for number in range(count):
            sql = (
                "SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM (SELECT count(*) AS n "  # noqa: S608 - quoted
                f"FROM {self._name} WHERE {known} AND hash({listed}) % {count} = {number} "
                f"GROUP BY {listed} HAVING count(*) > 1)"
            )
            ((keys, rows),) = self._rows(sql)
            key_count, row_count = key_count + int(keys), row_count + int(rows)
        return judge_unique_key(columns, key_count, row_count)

    def _ask(self, check: Check) -> AuditAnswer:
        is_error = check.severity == "error"
        try:
            check_select(check.name, check.sql)
            ((count,),) = self._rows(counting_sql(check.sql))
        except ConfigError as error:
            return not_evaluated(check.name, str(error), is_error=is_error)
        return judge_user_check(check.name, int(count), is_error=is_error)

    def _rows(self, sql: str) -> list[list[str]]:
        with query(self.table, sql, self.limits) as result:
            return [[str(cell) for cell in row.values()] for row in result.read_all().to_pylist()]

    @property
    def _name(self) -> str:
        *namespace, name = self.table.name()
        return f"{quote_name('.'.join(namespace))}.{quote_name(name)}"


def _sum(offsets: pa.Int64Array) -> int:
    # As decimals, because large offsets add up to more than 64 bits.
    total = pc.sum(offsets.cast(pa.decimal128(38, 0))).as_py()
    return int(cast("int | None", total) or 0)


def _column(table: Table, name: str) -> str:
    """Quote a column, which may be a field inside of a struct."""
    if any(field.name == name for field in table.schema().fields):
        return quote_name(name)
    return ".".join(quote_name(part) for part in name.split("."))
