"""Bytes of Kafka record values → rows of one row schema.

What every decoder here guarantees:

- *Exact isolation.* Each of the n values becomes one row or one failure, and which of the two does
  not depend on the values beside it: alone or in any batch, the verdict is the same.
- *Alignment.* Row k is made of value `row_indices[k]` and of nothing else.
- *Nothing is invented.* A value that does not fit its column exactly is a failure: nothing is
  rounded, truncated, clipped or replaced by null. (Two exceptions: a float or double is the nearest
  one, and digits of a timestamp or time beyond the microsecond, where Iceberg ends, are cut off.)
- *Content never raises.* Whatever the bytes are, `decode` returns.
- *Columnar.* A batch without failures costs no Python per record.
- *No state.* A decoder may be used from any number of threads.

Error classes, stable, for dead letters:

| error_class | the record |
|---|---|
| `invalid_utf8` | is not UTF-8 text |
| `invalid_json` | is not one JSON value: empty, cut off, doubled, with NaN or a lone surrogate |
| `not_an_object` | is a JSON value, but not an object |
| `nested_too_deep` | nests deeper than any table can |
| `duplicate_key` | names a field twice in one object |
| `unknown_field` | has a field that the schema lacks and may not or cannot get |
| `required_field_missing` | lacks a required field, or has null there |
| `wrong_type` | has another JSON type than the column needs |
| `number_out_of_range` | has a number that the column cannot hold exactly |
| `invalid_value` | has text that is no timestamp, date, time, uuid, decimal or base64 as needed |
| `undecodable` | is refused by the parser for a reason that could not be found |
"""
