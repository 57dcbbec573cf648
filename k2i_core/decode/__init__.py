"""Bytes of Kafka record values → rows of one row schema.

| Format | modules | reads |
|---|---|---|
| JSON | `json_*`, `framing` | by Arrow's parser; a record at a time where it cannot |
| Avro | `avro_*` | n records side by side, by the writer's schema |
| Protobuf | `proto_*` | n messages side by side, by the writer's schema |
| JSON Schema | `json_schema*` | as JSON, with columns of the writer's schema |
| CSV | `csv_*` | n records side by side, field after field |
| MessagePack | `msgpack_*` | n records side by side, value after value |
| Arrow IPC | `arrow_*` | each stream by itself, then rows of one schema side by side |
| text, bytes | `text` | as they are |
| Debezium | `debezium*`, `connect_*` | as envelopes of the formats above, then unwrapped |
| keys | `key_columns`, `json_keys` | as one column, by the modules above |

JSON, Avro and Protobuf are read natively (`native_json`, `native_binary`) where the wheel is there
and a record is a row for certain; what is left goes to the modules above.

`record_decoder` knows that a record is more than its value: it has a key, and headers may name the
schemas of both (`schema_headers`). `schema_decoder` is what Avro and Protobuf share: the frame with
the schema's id (`schema_frames`), the groups of one schema, the way from the writer's columns to
the table's (`conform`), and what the table lacks (`growth`). `cursors` and `binary_leaves` are the
array steps below both.

What every decoder here guarantees:

- *Exact isolation.* Each of the n values becomes one row or one failure, and which of the two does
  not depend on the values beside it: alone or in any batch, the verdict is the same.
- *Alignment.* Row k is made of value `row_indices[k]` and of nothing else.
- *Nothing is invented.* A value that does not fit its column exactly is a failure: nothing is
  rounded, truncated, clipped or replaced by null. (Two exceptions: a float or double is the nearest
  one, and digits of a timestamp or time beyond the microsecond, where Iceberg ends, are cut off.)
- *Content never raises.* Whatever the bytes are, `decode` returns.
- *Columnar.* A batch without failures costs no Python per record (Arrow IPC: looking at a stream).
- *No state.* A decoder may be used from any number of threads; what it keeps is what a schema
  means, which never changes.
- *No network.* A decoder that does not know a schema asks its caller for it.

Error classes, stable, for dead letters:

| error_class | the record |
|---|---|
| `invalid_utf8` | is not UTF-8 text, or has a string that is not |
| `invalid_framing` | neither begins with a zero byte and a schema id nor has it in a header |
| `invalid_encoding` | ends inside a value, goes on behind the last, or is not one of its schema |
| `unknown_schema_id` | names a schema that the registry does not have |
| `unusable_schema` | names a schema that cannot be read, or whose records cannot be rows |
| `wrong_message` | is another record or message than the pipeline wants |
| `invalid_envelope` | is an envelope that does not say what the row is |
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
