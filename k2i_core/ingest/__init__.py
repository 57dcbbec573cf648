"""The ingest session: the order of the stages, over ports."""
