"""Pipeline files with a wrong `privacy`, and what is said about each."""

LONG = "secret: 0123456789abcdef"

BROKEN_PRIVACY = [
    (
        "an action that does not exist",
        {"privacy": "{columns: {email: encrypt}}"},
        (
            'orders.yaml:11: privacy.columns.email: "encrypt" is no action; write one of mask, '
            "hash, tokenise, redact, drop"
        ),
    ),
    (
        "a hash without a secret",
        {"privacy": "{columns: {email: hash}}"},
        "orders.yaml:11: privacy.secret: is required for hash and tokenise",
    ),
    (
        "a token of the key without a secret",
        {"privacy": "{key: tokenise}"},
        "orders.yaml:11: privacy.secret: is required for hash and tokenise",
    ),
    (
        "tags without a schema to carry them",
        {"privacy": "{tags: {PII: redact}}"},
        (
            "orders.yaml:11: privacy.tags: are of schemas of avro, json_schema, protobuf; with "
            "format json name the columns under privacy.columns"
        ),
    ),
    (
        "a tag with an action that does not exist",
        {"privacy": "{tags: {PII: hide}}"},
        (
            'orders.yaml:11: privacy.tags.PII: "hide" is no action; write one of mask, hash, '
            "tokenise, redact, drop"
        ),
    ),
    (
        "a short secret",
        {"privacy": "{columns: {email: hash}, secret: salt}"},
        "orders.yaml:11: privacy.secret: has fewer than 16 characters",
    ),
    (
        "a key that is masked",
        {"privacy": f"{{key: mask, {LONG}}}"},
        (
            'orders.yaml:11: privacy.key: "mask" is not allowed; write one of keep, drop, hash, '
            "tokenise, redact"
        ),
    ),
]
