"""Pipeline files with a wrong `checks` or `monitoring.unique_key`, and what is said about each."""

COLUMNS = "\n  identifier: sales.orders\n  columns:\n    - {name: order_id, type: long}"

BROKEN_CHECKS = [
    (
        "a check without SQL",
        {"checks": "\n  - name: positive"},
        (
            "orders.yaml:12: checks[0].sql: is required, for example "
            '"SELECT * FROM orders WHERE amount < 0"'
        ),
    ),
    (
        "a check with empty SQL",
        {"checks": "\n  - {name: positive, sql: ' '}"},
        (
            "orders.yaml:12: checks[0].sql: must not be empty; write a SELECT that returns the "
            "rows that are wrong"
        ),
    ),
    (
        "a check that Dagster could not name",
        {"checks": "\n  - {name: not-negative, sql: FROM orders}"},
        (
            'orders.yaml:12: checks[0].name: "not-negative" is not the name of a check; allowed: '
            "up to 64 letters, digits and _, the first no digit"
        ),
    ),
    (
        "a check that is there already",
        {"checks": "\n  - {name: row_counts, sql: FROM orders}"},
        (
            'orders.yaml:12: checks[0].name: "row_counts" is a check that every table has; choose '
            "another name"
        ),
    ),
    (
        "two checks of one name",
        {"checks": "\n  - {name: a, sql: FROM orders}\n  - {name: a, sql: FROM orders}"},
        'orders.yaml:13: checks[1].name: "a" is there twice',
    ),
    (
        "a severity that does not exist",
        {"checks": "\n  - {name: a, sql: FROM orders, severity: fatal}"},
        'orders.yaml:12: checks[0].severity: "fatal" is not allowed; write one of error, warn',
    ),
    (
        "checks that are no list",
        {"checks": "{name: a}"},
        "orders.yaml:11: checks: must be a list, not a mapping",
    ),
    (
        "a unique key with a column twice",
        {"monitoring": "{unique_key: [order_id, order_id]}"},
        'orders.yaml:11: monitoring.unique_key: "order_id" is there twice',
    ),
    (
        "a unique key of a column that does not exist",
        {"table": COLUMNS, "monitoring": "{unique_key: [id]}"},
        ('orders.yaml:13: monitoring.unique_key[0]: "id" is not a column; columns: order_id'),
    ),
]
