"""Iceberg tables that take part in the exactly-once protocol."""
