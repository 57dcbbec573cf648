"""Pipeline files with wrong `transforms`, and what is said about each."""

BROKEN_TRANSFORMS = [
    (
        "no list of steps",
        {"transforms": "{drop: [a]}"},
        "orders.yaml:11: transforms: must be a list, not a mapping",
    ),
    (
        "a step that does not exist",
        {"transforms": "[{renam: {a: b}}]"},
        'orders.yaml:11: transforms[0].renam: is not a key; did you mean "rename"?',
    ),
    (
        "a step with two keys",
        {"transforms": "[{drop: [a], filter: b}]"},
        (
            "orders.yaml:11: transforms[0]: is one step, with one key of rename, drop, keep, cast, "
            "constant, sql, jmespath, kafka, filter, flatten, explode; there are drop, filter"
        ),
    ),
    (
        "a step without a key",
        {"transforms": "[{}]"},
        (
            "orders.yaml:11: transforms[0]: is one step, with one key of rename, drop, keep, cast, "
            "constant, sql, jmespath, kafka, filter, flatten, explode; there is none"
        ),
    ),
    (
        "a column that k2i adds",
        {"transforms": "[{rename: {a: _Kafka}}]"},
        (
            'orders.yaml:11: transforms[0].rename.a: "_Kafka" is a column that k2i adds itself; '
            "choose another name"
        ),
    ),
    (
        "a column dropped twice",
        {"transforms": "[{drop: [a, a]}]"},
        'orders.yaml:11: transforms[0].drop[1]: "a" is there twice',
    ),
    (
        "a cast to no type",
        {"transforms": "[{cast: {a: decimal}}]"},
        (
            'orders.yaml:11: transforms[0].cast.a: "decimal" cannot be read at position 8: '
            'expected "(" after "decimal", as in decimal(9,2)'
        ),
    ),
    (
        "a cast to a type with parts",
        {"transforms": '[{cast: {a: "list<int>"}}]'},
        (
            "orders.yaml:11: transforms[0].cast.a: nothing can be cast to list<int>; write a type "
            "without parts"
        ),
    ),
    (
        "a constant that is none",
        {"transforms": "[{constant: {a: [1]}}]"},
        (
            "orders.yaml:11: transforms[0].constant.a: must be text, a number, true or false, not "
            "a list; cast makes other types"
        ),
    ),
    (
        "a part of no record",
        {"transforms": "[{kafka: {tpoic: a}}]"},
        (
            'orders.yaml:11: transforms[0].kafka.tpoic: "tpoic" is no part of a record; write one '
            "of topic, partition, offset, timestamp, key, headers"
        ),
    ),
    (
        "an explode of nothing",
        {"transforms": "[{explode: {empty: keep, max_rows: 0}}]"},
        (
            'orders.yaml:11: transforms[0].explode.column: is required, for example "items"\n'
            'orders.yaml:11: transforms[0].explode.empty: "keep" is not allowed; write one of '
            "filter, row\norders.yaml:11: transforms[0].explode.max_rows: 0 is not from 1 to 100000"
        ),
    ),
    (
        "an expression for no column",
        {"transforms": "[{jmespath: {payload: customer.city}}]"},
        (
            "orders.yaml:11: transforms[0].jmespath.payload: must be a mapping of new columns to "
            "JMESPath expressions"
        ),
    ),
    (
        "an empty expression",
        {"transforms": '[{sql: {a: " "}}]'},
        "orders.yaml:11: transforms[0].sql.a: must not be empty; write one SQL expression",
    ),
]
