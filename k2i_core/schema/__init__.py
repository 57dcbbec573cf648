"""Column types and how a table's columns may change. Pure values; no I/O.

| module | holds | needs Arrow |
|---|---|---|
| `iceberg_types` | Iceberg's types as plain values | no |
| `type_texts` | how they are written and read | no |
| `evolution` | how far a table's schema may follow the records | no |
| `arrow_types` | Iceberg's types as Arrow's and back | yes |
| `inferred` | from any Arrow type to one that Iceberg stores | yes |
| `changes` | what a table has against what rows need | yes |

Each is imported by its own name, so that a pipeline file can be read without loading Arrow. In
`changes` a path is a tuple of names from a top-level column down, with `element`, `key` and `value`
for the insides of lists and maps, as in Iceberg's own schema updates.
"""
