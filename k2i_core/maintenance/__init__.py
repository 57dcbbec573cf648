"""Maintenance: compaction, manifest rewriting, snapshot expiration, orphan removal, and health.

Each step is a pure plan and a thin act. None changes the set of rows or the checkpoint (I5), none
deletes what a retained snapshot, an unfinished commit or a running reader needs (I7), and each may
be killed anywhere and run again.
"""
