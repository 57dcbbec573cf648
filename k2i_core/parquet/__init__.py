"""Rows to Parquet files of one Iceberg table.

rows ─ conform ─► the table's columns ─ partitions ─► one buffer per Iceberg partition
     ─ sorting ─► (only with a sort order) ─ encodings ─► file ─► WrittenFile

`writer` is the order of these steps; nothing here knows the Iceberg library.
"""
