"""Pipeline files with a wrong `table`, and what is said about each."""

TABLE = "\n  identifier: sales.orders"
COLUMNS = """
  identifier: sales.orders
  columns:
    - {name: id, type: long}
    - {name: at, type: timestamptz}
    - {name: amount, type: double}
    - {name: items, type: list<string>}
    - {name: shop, type: "struct<city: string, open: boolean>"}"""

BROKEN_TABLES = [
    (
        "a table without a namespace",
        {"table": "{identifier: orders}"},
        (
            'orders.yaml:9: table.identifier: "orders" is not a table; write namespace.name in '
            "letters, digits, _ and -"
        ),
    ),
    (
        "a column of no type",
        {"table": f"{TABLE}\n  columns:\n    - {{name: a, type: bigint}}"},
        (
            'orders.yaml:12: table.columns[0].type: "bigint" cannot be read at position 1: '
            '"bigint" is not a type; did you mean "long"?; allowed: boolean, int, long, float, '
            "double, date, time, timestamp, timestamptz, string, binary, uuid, decimal(p,s), "
            "fixed[n], list<T>, map<K, V>, struct<name: T, …>"
        ),
    ),
    (
        "a column without a type",
        {"table": f"{TABLE}\n  columns:\n    - name: a"},
        'orders.yaml:12: table.columns[0].type: is required, for example "long"',
    ),
    (
        "no columns",
        {"table": f"{TABLE}\n  columns: []"},
        (
            "orders.yaml:11: table.columns: must not be empty; leave it out to have the "
            "columns inferred"
        ),
    ),
    (
        "the column that k2i adds",
        {"table": f"{TABLE}\n  columns:\n    - {{name: _Kafka, type: string}}"},
        (
            'orders.yaml:12: table.columns[0].name: "_Kafka" is the column that k2i adds '
            "itself; choose another name"
        ),
    ),
    (
        "a column twice",
        {"table": f"{COLUMNS}\n    - {{name: id, type: int}}"},
        'orders.yaml:17: table.columns[5].name: "id" is there twice',
    ),
    (
        "a column twice but for letter case",
        {"table": f"{COLUMNS}\n    - {{name: ID, type: long}}"},
        'orders.yaml:17: table.columns[5].name: "ID" differs only in letter case from "id"',
    ),
    (
        "a time format for a number",
        {"table": f"{TABLE}\n  columns:\n    - {{name: a, type: long, format: epoch_ms}}"},
        (
            "orders.yaml:12: table.columns[0].format: is only for date, time, timestamp and "
            "timestamptz, not for long"
        ),
    ),
    (
        "an epoch for a date",
        {"table": f"{TABLE}\n  columns:\n    - {{name: a, type: date, format: epoch_ms}}"},
        (
            'orders.yaml:12: table.columns[0].format: "epoch_ms" is only for timestamps; write '
            "iso for date"
        ),
    ),
    (
        "an encoding for a text",
        {"table": f"{TABLE}\n  columns:\n    - {{name: a, type: string, encoding: base64}}"},
        ("orders.yaml:12: table.columns[0].encoding: is only for binary and fixed, not for string"),
    ),
    (
        "a transform of another engine",
        {"table": f"{COLUMNS}\n  partition_by:\n    - days(created_at)"},
        (
            'orders.yaml:18: table.partition_by[0]: "days(created_at)" is not a transform; '
            "allowed: a column name, bucket(n, col), truncate(w, col), year(col), month(col), "
            "day(col), hour(col), void(col)"
        ),
    ),
    (
        "a bucket without a number",
        {"table": f"{COLUMNS}\n  partition_by: [bucket(id)]"},
        (
            'orders.yaml:17: table.partition_by[0]: "bucket(id)" is not a transform; allowed: '
            "a column name, bucket(n, col), truncate(w, col), year(col), month(col), day(col), "
            "hour(col), void(col)"
        ),
    ),
    (
        "no bucket",
        {"table": f"{COLUMNS}\n  partition_by: ['bucket(0, id)']"},
        (
            'orders.yaml:17: table.partition_by[0]: "bucket(0, id)" needs a number from 1 to '
            "2147483647"
        ),
    ),
    (
        "a partition by a column that is not there",
        {"table": f"{COLUMNS}\n  partition_by: [day(created_at)]"},
        (
            'orders.yaml:17: table.partition_by[0]: "created_at" is not a column; columns: id, '
            "at, amount, items, shop"
        ),
    ),
    (
        "a transform of the wrong type",
        {"table": f"{COLUMNS}\n  partition_by: ['bucket(4, amount)']"},
        (
            'orders.yaml:17: table.partition_by[0]: "bucket(4, amount)": bucket takes int, '
            "long, decimal, date, time, timestamp, timestamptz, string, binary, fixed, uuid, "
            "amount is double"
        ),
    ),
    (
        "a partition by a list",
        {"table": f"{COLUMNS}\n  partition_by: [items]"},
        (
            'orders.yaml:17: table.partition_by[0]: "items": identity takes any type but list, '
            "map and struct, items is list<string>"
        ),
    ),
    (
        "two time partitions of one column",
        {"table": f"{COLUMNS}\n  partition_by: [day(at), hour(at)]"},
        ('orders.yaml:17: table.partition_by[1]: "hour(at)": at is partitioned by time already'),
    ),
    (
        "a partition field named as a column",
        {
            "table": f"{TABLE}\n  columns: [{{name: at, type: date}}, "
            "{name: at_day, type: date}]\n  partition_by: [day(at)]"
        },
        (
            'orders.yaml:12: table.partition_by[0]: "day(at)" makes a partition field at_day, '
            "a column's name"
        ),
    ),
    (
        "a sort field with a third word",
        {"table": f"{COLUMNS}\n  sort_by: [id down]"},
        (
            'orders.yaml:17: table.sort_by[0]: "id down" is not a sort field; write "col", '
            '"col desc" or "col desc nulls last"'
        ),
    ),
    (
        "a sort by a field that is not in its struct",
        {"table": f"{COLUMNS}\n  sort_by: [shop.city, shop.street desc]"},
        (
            'orders.yaml:17: table.sort_by[1]: "shop.street" is not a column; columns: id, at, '
            "amount, items, shop"
        ),
    ),
    (
        "a sort by a struct",
        {"table": f"{COLUMNS}\n  sort_by: [shop]"},
        (
            'orders.yaml:17: table.sort_by[0]: "shop" is struct<city: string, open: boolean>, '
            "which has no order"
        ),
    ),
    (
        "an unknown evolution",
        {"table": f"{TABLE}\n  schema_evolution: always"},
        (
            'orders.yaml:11: table.schema_evolution: "always" is not allowed; write one of '
            "strict, add_columns, full"
        ),
    ),
    (
        "an unknown codec",
        {"table": f"{TABLE}\n  properties: {{write.parquet.compression-codec: lzo}}"},
        (
            'orders.yaml:11: table.properties.write.parquet.compression-codec: "lzo" is not a '
            "codec; write one of zstd, snappy, gzip, lz4, brotli, none, uncompressed"
        ),
    ),
    (
        "a level beyond its codec",
        {
            "table": f"{TABLE}\n  properties:\n    write.parquet.compression-codec: gzip\n"
            "    write.parquet.compression-level: 10"
        },
        (
            'orders.yaml:13: table.properties.write.parquet.compression-level: "10" is not a '
            "level of gzip; write one from 1 to 9"
        ),
    ),
    (
        "a file size with a unit, which Iceberg does not know",
        {"table": f"{TABLE}\n  properties: {{write.target-file-size-bytes: 512MiB}}"},
        (
            'orders.yaml:11: table.properties.write.target-file-size-bytes: "512MiB" is not a '
            "number of bytes from 65536 to 1099511627776; 512MiB is written 536870912"
        ),
    ),
    (
        "an old format version",
        {"table": f"{TABLE}\n  properties: {{format-version: 1}}"},
        (
            'orders.yaml:11: table.properties.format-version: "1" is not a format version that '
            "k2i writes; write 2"
        ),
    ),
    (
        "columns that a raw format has no use for",
        {"format": "{value: raw}", "table": f"{TABLE}\n  columns: [{{name: value, type: string}}]"},
        (
            "orders.yaml:12: table.columns: format raw has exactly one column, value of type "
            "binary; leave columns out, or write that one"
        ),
    ),
    (
        "two partition fields of one name, columns unknown",
        {"table": f"{TABLE}\n  partition_by: [at_day, day(at)]"},
        ('orders.yaml:11: table.partition_by[1]: "day(at)" makes a second partition field at_day'),
    ),
]
