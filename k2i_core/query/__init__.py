"""SQL over a table's committed rows."""
