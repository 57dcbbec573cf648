"""When a data file is small: one rule for the plan of compaction and for a table's health. Pure."""

SMALL_SHARE = 0.75
"""A file below this share of the target is small. Larger rewrites again what came out a little
short of the target; smaller leaves files of which two would fit into one."""


def is_small(file_bytes: int, target_file_bytes: int) -> bool:
    """Tell whether a data file of this size is worth putting together with others."""
    return file_bytes < target_file_bytes * SMALL_SHARE
