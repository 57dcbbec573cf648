"""How fast k2i is: one file a benchmark, one table and one JSON for all of them."""
