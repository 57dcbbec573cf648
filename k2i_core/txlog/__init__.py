"""The transaction log: what a worker is about to do, so that a successor can remove its garbage."""
