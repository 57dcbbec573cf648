"""Pipeline files with a wrong section other than `table`, and what is said about each."""

SERVERS = "\n  bootstrap_servers: localhost:9092"

BROKEN_SETTINGS = [
    (
        "a key with a letter too many",
        {"flush": "{max_agee: 30s}"},
        'orders.yaml:11: flush.max_agee: is not a key; did you mean "max_age"?',
    ),
    (
        "a key that belongs elsewhere",
        {"topics": "[orders]"},
        'orders.yaml:11: topics: is not a key here; did you mean "kafka.topics"?',
    ),
    (
        "a key like no other",
        {"dead_letters": "{zzz: 1}"},
        (
            "orders.yaml:11: dead_letters.zzz: is not a key; allowed: table, topic, copy_for, "
            "max_share, over_records"
        ),
    ),
    (
        "a section without its required key",
        {"kafka": "{topics: [orders]}"},
        'orders.yaml:8: kafka.bootstrap_servers: is required, for example "localhost:9092"',
    ),
    (
        "a section that is a list",
        {"flush": "[30s]"},
        "orders.yaml:11: flush: must be a mapping of keys, not a list",
    ),
    (
        "a duration in an unknown unit",
        {"flush": '\n  max_age: "30 parsecs"'},
        (
            'orders.yaml:12: flush.max_age: "30 parsecs" is not a duration; write a number '
            "with one of ms, s, m, h, d"
        ),
    ),
    (
        "a duration without a unit",
        {"flush": "{max_age: 30}"},
        (
            "orders.yaml:11: flush.max_age: 30 is not a duration; write a number with one of "
            "ms, s, m, h, d"
        ),
    ),
    (
        "a duration beyond its limits",
        {"flush": "{max_age: 1ms}"},
        'orders.yaml:11: flush.max_age: "1ms" is not from 100ms to 12h',
    ),
    (
        "a size in an unknown unit",
        {"flush": "{max_bytes: 12Mb}"},
        (
            'orders.yaml:11: flush.max_bytes: "12Mb" is not a size; write a number of bytes, '
            "or one with B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"
        ),
    ),
    (
        "a number that is none",
        {"workers": "many"},
        'orders.yaml:11: workers: "many" is not a whole number',
    ),
    (
        "a truth for a number",
        {"workers": "true"},
        "orders.yaml:11: workers: true is not a whole number",
    ),
    (
        "too many workers",
        {"workers": "257"},
        "orders.yaml:11: workers: 257 is not from 1 to 256",
    ),
    (
        "a number for a text",
        {"name": "7"},
        "orders.yaml:10: name: must be text, not 7; put it in quotes",
    ),
    (
        "a name with a space",
        {"name": "my orders"},
        (
            'orders.yaml:10: name: "my orders" is not a pipeline name; allowed: up to 64 '
            "letters, digits, _ and -, the first no _ or -"
        ),
    ),
    (
        "a broker without a valid port",
        {"kafka": "{bootstrap_servers: 'localhost:99999', topics: [a]}"},
        (
            "orders.yaml:8: kafka.bootstrap_servers: must be host:port, several with commas "
            "between; credentials go to properties"
        ),
    ),
    (
        "no topic at all",
        {"kafka": SERVERS},
        ("orders.yaml:8: kafka: exactly one of topics and topic_pattern must be written, none is"),
    ),
    (
        "topics and a pattern",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  topic_pattern: a"},
        ("orders.yaml:8: kafka: exactly one of topics and topic_pattern must be written, both are"),
    ),
    (
        "one topic that is no list",
        {"kafka": f"{SERVERS}\n  topics: orders"},
        'orders.yaml:10: kafka.topics: must be a list, not "orders"',
    ),
    (
        "an impossible topic",
        {"kafka": f"{SERVERS}\n  topics:\n    - a\n    - b/c"},
        (
            'orders.yaml:12: kafka.topics[1]: "b/c" is not a topic name; allowed: up to 249 '
            "letters, digits and . _ -"
        ),
    ),
    (
        "a topic named twice",
        {"kafka": f"{SERVERS}\n  topics: [a, b, a]"},
        'orders.yaml:10: kafka.topics[2]: "a" is there twice',
    ),
    (
        "a pattern that is no regular expression",
        {"kafka": f"{SERVERS}\n  topic_pattern: '(a'"},
        (
            'orders.yaml:10: kafka.topic_pattern: "(a" is not a regular expression: missing ), '
            "unterminated subpattern at position 0"
        ),
    ),
    (
        "a start that is none",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  start: now"},
        (
            'orders.yaml:11: kafka.start: "now" is no place to start; write one of earliest, '
            "latest, {timestamp: 2026-01-01T00:00:00Z}, {offsets: {topic: {0: 42}}}"
        ),
    ),
    (
        "a start at a time without a zone",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  start: {{timestamp: 2026-01-01T00:00:00}}"},
        (
            'orders.yaml:11: kafka.start: "2026-01-01T00:00:00" is not a time with a zone; '
            "write it as 2026-01-01T00:00:00Z or 2026-01-01T00:00:00+02:00"
        ),
    ),
    (
        "a start at offsets of another topic",
        {"kafka": f"{SERVERS}\n  topics: [a, b]\n  start:\n    offsets:\n      c: {{0: 1}}"},
        'orders.yaml:13: kafka.start.offsets.c: "c" is not one of topics: a, b',
    ),
    (
        "a start at a negative offset",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  start: {{offsets: {{a: {{0: -1}}}}}}"},
        (
            "orders.yaml:11: kafka.start: offsets of topic a hold a negative number, or no "
            "Kafka partition"
        ),
    ),
    (
        "a property that k2i owns",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  properties:\n    enable.auto.commit: true"},
        (
            "orders.yaml:12: kafka.properties.enable.auto.commit: is k2i's own: progress lives "
            "in the table"
        ),
    ),
    (
        "a property that has its own key",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  properties:\n    group.id: mine"},
        "orders.yaml:12: kafka.properties.group.id: is written as kafka.group_id",
    ),
    (
        "a property without a value",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  properties:\n    ssl.ca.location:"},
        (
            "orders.yaml:12: kafka.properties.ssl.ca.location: must be text, a number, true or "
            "false, not nothing"
        ),
    ),
    (
        "a format that does not exist",
        {"format": "{value: xml}"},
        (
            'orders.yaml:11: format.value: "xml" is not allowed; '
            "write one of json, avro, protobuf, json_schema, csv, msgpack, arrow_ipc, string, raw"
        ),
    ),
    (
        "a format without its schema",
        {"format": "{value: avro}"},
        'orders.yaml:11: format.value: "avro" needs schema_registry or schema_file',
    ),
    (
        "a schema from two places",
        {"format": "{value: avro, schema_file: a.avsc, schema_registry: {url: 'http://r:8081'}}"},
        "orders.yaml:11: format.schema_file: stands beside schema_registry; write one of them",
    ),
    (
        "a schema that nothing reads",
        {"format": "{value: json, schema_file: a.avsc}"},
        "orders.yaml:11: format.schema_file: is not used by format json; leave it out",
    ),
    (
        "subjects by a message that is not named",
        {"format": "{value: avro, schema_registry: {url: 'http://r', subject_strategy: record}}"},
        "orders.yaml:11: format.message: is required when subject_strategy is record",
    ),
    (
        "an envelope of what is no record of fields",
        {"format": "{value: string, envelope: debezium}"},
        "orders.yaml:11: format.envelope: is not used by format string; leave it out",
    ),
    (
        "keys without their schema",
        {"format": "{key: avro}"},
        'orders.yaml:11: format.key: "avro" needs schema_registry or key_schema_file',
    ),
    (
        "a schema of keys that nothing reads",
        {"format": "{key: json, key_schema_file: a.avsc}"},
        "orders.yaml:11: format.key_schema_file: is not used by keys of format json; leave it out",
    ),
    (
        "subjects by a message of keys that is not named",
        {"format": "{key: avro, schema_registry: {url: 'http://r', subject_strategy: record}}"},
        "orders.yaml:11: format.key_message: is required when subject_strategy is record",
    ),
    (
        "keys in the column that k2i adds itself",
        {"format": "{key: json, key_column: _Kafka}"},
        (
            'orders.yaml:11: format.key_column: "_Kafka" is the column that k2i adds itself; '
            "choose another name"
        ),
    ),
    (
        "keys in the column of values",
        {"format": "{value: string, key: string, key_column: value}"},
        'orders.yaml:11: format.key_column: "value" is the column of values',
    ),
    (
        "a registry with a user in its address",
        {"format": "{value: avro, schema_registry: {url: 'http://me:secret@r:8081'}}"},
        (
            "orders.yaml:11: format.schema_registry.url: has a user in it; "
            "write username and password beside it"
        ),
    ),
    (
        "half of a user",
        {"format": "{value: avro, schema_registry: {url: 'http://r:8081', username: me}}"},
        (
            "orders.yaml:11: format.schema_registry.password: "
            "is required, because the other half is there"
        ),
    ),
    (
        "a catalog that cannot append",
        {"catalog": "{type: bigquery}"},
        (
            'orders.yaml:7: catalog.type: "bigquery" cannot be appended to by PyIceberg; use '
            "sql, rest, glue or hive"
        ),
    ),
    (
        "a catalog type that does not exist",
        {"catalog": "{type: nessie}"},
        (
            'orders.yaml:7: catalog.type: "nessie" is not allowed; write one of sql, rest, '
            "glue, hive"
        ),
    ),
    (
        "a catalog without its address",
        {"catalog": "{type: rest}"},
        'orders.yaml:7: catalog.uri: is required when type is "rest"',
    ),
    (
        "a flush that is never reached",
        {"flush": "{max_bytes: 1GiB}"},
        (
            "orders.yaml:11: flush.max_bytes: 1GiB is more than flush.max_buffered_bytes, "
            "256MiB, so it would never be reached"
        ),
    ),
    (
        "dead letters among the rows",
        {"dead_letters": "{table: sales.orders}"},
        (
            'orders.yaml:11: dead_letters.table: "sales.orders" is the table of the rows; name '
            "another"
        ),
    ),
    (
        "orphans taken too young",
        {"maintenance": "{orphans: {older_than: 3h}}"},
        'orders.yaml:11: maintenance.orphans.older_than: "3h" is not from 24h to 3650d',
    ),
    (
        "a schedule with a minute too many",
        {"maintenance": "{compaction: {schedule: '61 * * * *'}}"},
        (
            'orders.yaml:11: maintenance.compaction.schedule: "61 * * * *" is not a schedule: '
            'the minute "61" is not *, */n, n, n-m or a list of these, from 0 to 59'
        ),
    ),
    (
        "a schedule with a field too few",
        {"maintenance": "{manifests: {schedule: hourly}}"},
        (
            'orders.yaml:11: maintenance.manifests.schedule: "hourly" is not a schedule; write '
            'the five fields minute, hour, day of month, month, day of week, or "off"'
        ),
    ),
    (
        "more snapshots kept than allowed",
        {"maintenance": "{expiration: {retain_last: 501}}"},
        ("orders.yaml:11: maintenance.expiration.retain_last: 501 is more than max_snapshots, 500"),
    ),
    (
        "a variable that is not set",
        {"catalog": "\n  type: sql\n  uri: ${URI}\n  warehouse: w"},
        (
            "orders.yaml:9: catalog.uri: the variable URI is not set; set it, or write "
            "${URI:-default}"
        ),
    ),
    (
        "a variable without an end",
        {"catalog": "\n  type: sql\n  uri: ${URI\n  warehouse: w"},
        'orders.yaml:9: catalog.uri: a "${" has no "}"; a plain one is written "$${"',
    ),
    (
        "a variable that is none",
        {"catalog": "\n  type: sql\n  uri: ${a b}\n  warehouse: w"},
        (
            'orders.yaml:9: catalog.uri: "${a b}" is not a variable; allowed: ${VAR}, '
            "${VAR:-default}, ${file:/path}, and $${ for a plain ${"
        ),
    ),
    (
        "a key twice",
        {"flush": "\n  max_age: 30s\n  max_rows: 5\n  max_age: 60s"},
        "orders.yaml:14: flush.max_age: is there twice, first in line 12",
    ),
    (
        "a YAML tag",
        {"flush": "{max_age: !duration 30s}"},
        ("orders.yaml:11: flush.max_age: a YAML tag is not allowed; write the value without it"),
    ),
    (
        "a merge key, which is no key",
        {"flush": "{<<: {max_age: 1s}}"},
        (
            "orders.yaml:11: flush.<<: is not a key; allowed: max_age, max_bytes, max_rows, "
            "max_buffered_bytes"
        ),
    ),
    (
        "a start before there was time",
        {"kafka": f"{SERVERS}\n  topics: [a]\n  start: {{timestamp: 1969-12-31T23:59:59Z}}"},
        (
            'orders.yaml:11: kafka.start: "1969-12-31T23:59:59Z" is before 1970, where '
            "Kafka's timestamps begin"
        ),
    ),
    (
        "a key that is a truth",
        {"flush": "{true: 30s}"},
        "orders.yaml:11: flush: a key must be text; put it in quotes",
    ),
    (
        "a key that is a list",
        {"flush": "{[a]: 30s}"},
        "orders.yaml:11: flush: a key must be text; put it in quotes",
    ),
]
