"""What became of dead letters, and what an operator does with them: list, replay, drop."""
