"""Proof that a table holds what its ledger claims and what its topic contains."""
