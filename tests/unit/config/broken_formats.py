"""Broken `format` sections of formats without a schema, and the message of each."""

TABLE = "\n  identifier: sales.orders\n  columns:\n"

BROKEN_FORMATS = [
    (
        "csv without names",
        {"format": "{value: csv}"},
        (
            "orders.yaml:11: format.value: needs table.columns, or the names of the fields in "
            "format.csv.columns"
        ),
    ),
    (
        "options of another format",
        {"format": "{value: json, csv: {delimiter: ';'}}"},
        "orders.yaml:11: format.csv: is not used by format json; leave it out",
    ),
    (
        "a delimiter of two characters",
        {"format": "{value: csv, csv: {delimiter: '||', columns: [a]}}"},
        (
            'orders.yaml:11: format.csv.delimiter: "||" is not one ASCII character other than a '
            "line break"
        ),
    ),
    (
        "a delimiter that is the quote",
        {"format": "{value: csv, csv: {delimiter: '|', quote: '|', columns: [a]}}"},
        'orders.yaml:11: format.csv.quote: "|" is the delimiter already',
    ),
    (
        "a null text that is never read",
        {"format": "{value: csv, csv: {'null': 'a,b', columns: [a]}}"},
        (
            "orders.yaml:11: format.csv.null: holds a delimiter, a quote or a line break, so it is "
            "never read"
        ),
    ),
    (
        "a field twice",
        {"format": "{value: csv, csv: {columns: [id, ID]}}"},
        'orders.yaml:11: format.csv.columns: "ID" is there twice, letter case aside',
    ),
    (
        "no fields",
        {"format": "{value: csv, csv: {columns: []}}"},
        "orders.yaml:11: format.csv.columns: must be 1 to 2000 names, not 0",
    ),
    (
        "k2i's own column as a field",
        {"format": "{value: csv, csv: {columns: [_kafka]}}"},
        'orders.yaml:11: format.csv.columns: "_kafka" is no name of a column in a record',
    ),
    (
        "a nested column of csv",
        {
            "format": "{value: csv}",
            "table": f"{TABLE}    - {{name: tags, type: list<string>}}",
        },
        ('orders.yaml:13: table.columns[0].type: "tags" is list<string>, which no csv field is'),
    ),
    (
        "a required column that no field is",
        {
            "format": "{value: csv, csv: {columns: [id]}}",
            "table": f"{TABLE}    - {{name: at, type: date, required: true}}",
        },
        (
            'orders.yaml:13: table.columns[0].required: "at" is none of format.csv.columns, so it '
            "is always null"
        ),
    ),
    (
        "dead letters into a topic that is read",
        {"dead_letters": "{topic: orders}"},
        (
            'orders.yaml:11: dead_letters.topic: "orders" is read by this pipeline, so it would '
            "read its own dead letters"
        ),
    ),
    (
        "dead letters into what is no topic",
        {"dead_letters": "{topic: 'a b'}"},
        (
            'orders.yaml:11: dead_letters.topic: "a b" is not a topic; allowed: up to 249 letters, '
            "digits, ., _ and -"
        ),
    ),
]
