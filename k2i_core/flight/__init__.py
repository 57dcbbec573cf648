"""Arrow Flight SQL over the union read, for ADBC, JDBC and whatever is built on them.

    command ─► commands (protobuf) ─► server ─► query: a locked DuckDB over hot and committed rows
                                        │
               access (token), admission (limits), refusals (what a client is told)

The server keeps nothing between calls: a ticket and a prepared statement's handle hold the SQL
itself, which is checked whenever it comes in. So nothing has to be given up, a restart is not
noticed, and a forged handle is only another query.
"""

from k2i_core.flight.admission import ServeLimits
from k2i_core.flight.server import Address, FlightSqlServer

__all__ = ["Address", "FlightSqlServer", "ServeLimits"]
