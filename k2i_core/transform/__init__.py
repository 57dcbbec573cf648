"""Columns of the records → columns of the table, step by step, before anything is written.

    rows of records ─► step ─► step ─► … ─► rows of the table
                        │ fails           │ filtered
                  dead letter          counted

Privacy is a step like the others: before the first one for the records' columns, behind the last
one for what steps make.

A chain of steps is planned once for each schema that records have: `plan` makes the steps one
after the other, each from the columns that the one before leaves, and refuses what cannot be. The
table's columns are whatever the last step leaves, so that they follow when the records' grow.

What every step here guarantees:

- *Row-wise.* What becomes of a record depends on that record alone, and on nothing that changes:
  read again, it gives the same rows. So SQL has no aggregates, no windows, no clock and no chance.
- *Exact isolation.* A record that a step cannot take is a fault, and no record beside it is. Where
  a record became several rows, one that fails takes the others with it.
- *Columnar.* No Python per record, but for `jmespath`; a fault costs a second query, not a search.
- *No values in messages.* A fault names the step and the column.

| module | holds |
|---|---|
| `steps` | what a step is, and the steps that only move columns |
| `sql_rules` | which SQL is row-wise |
| `sql_engine` | DuckDB over one batch |
| `sql_steps` | `cast`, `sql`, `filter` |
| `privacy` | what is left of values that must not be written |
| `json_paths` | `jmespath` |
| `exploding` | `explode`, and which of the rows of its record each row is |
| `chain` | steps in order, planned for a schema |
"""
