"""Pipeline files with a wrong `monitoring` or `orchestration`, and what is said about each."""

BROKEN_MONITORING = [
    (
        "a freshness below what the orchestrator can watch",
        {"monitoring": "{freshness: {fail: 59s}}"},
        'orders.yaml:11: monitoring.freshness.fail: "59s" is not from 60s to 365d, or off',
    ),
    (
        "a freshness that is no duration",
        {"monitoring": "\n  freshness:\n    warn: 300\n    fail: 15m"},
        (
            "orders.yaml:13: monitoring.freshness.warn: 300 is not a duration; write a number "
            "with one of ms, s, m, h, d, or off"
        ),
    ),
    (
        "a freshness that only warns",
        {"monitoring": "\n  freshness:\n    warn: 5m"},
        "orders.yaml:12: monitoring.freshness.fail: is required when warn is written",
    ),
    (
        "a freshness that fails as soon as it warns",
        {"monitoring": "\n  freshness:\n    warn: 300s\n    fail: 5m"},
        "orders.yaml:13: monitoring.freshness.warn: 5m is not less than fail, 5m",
    ),
    (
        "a lag that fails before it warns",
        {"monitoring": "\n  lag_messages:\n    fail: 10"},
        "orders.yaml:12: monitoring.lag_messages.warn: 1000000 is more than fail, 10",
    ),
    (
        "a lag that is no number of messages",
        {"monitoring": "{lag_messages: {warn: 5m}}"},
        'orders.yaml:11: monitoring.lag_messages.warn: "5m" is not a whole number, or off',
    ),
    (
        "a share in percent",
        {"monitoring": "{dead_letter_share: {warn: 1%}}"},
        'orders.yaml:11: monitoring.dead_letter_share.warn: "1%" is not a number, or off',
    ),
    (
        "a share of more than everything",
        {"monitoring": "{dead_letter_share: {fail: 1.5}}"},
        'orders.yaml:11: monitoring.dead_letter_share.fail: "1.5" is not from 0 to 1, or off',
    ),
    (
        "a share of less than nothing",
        {"monitoring": "{dead_letter_share: {warn: -0.1}}"},
        'orders.yaml:11: monitoring.dead_letter_share.warn: "-0.1" is not from 0 to 1, or off',
    ),
    (
        "a share that fails before it warns",
        {"monitoring": "\n  dead_letter_share:\n    warn: 0.5\n    fail: 0.25"},
        "orders.yaml:13: monitoring.dead_letter_share.warn: 0.5 is more than fail, 0.25",
    ),
    (
        "a limit that does not exist",
        {"monitoring": "{lag_messages: {alarm: 5}}"},
        "orders.yaml:11: monitoring.lag_messages.alarm: is not a key; allowed: warn, fail",
    ),
    (
        "a limit that is not taken apart",
        {"monitoring": "{lag_messages: 5}"},
        "orders.yaml:11: monitoring.lag_messages: must be a mapping of keys, not 5",
    ),
    (
        "a run without an end",
        {"orchestration": "{max_run_minutes: 10081}"},
        "orders.yaml:11: orchestration.max_run_minutes: 10081 is not from 0.1 to 10080",
    ),
    (
        "a run as a duration",
        {"orchestration": "{max_run_minutes: 60m}"},
        'orders.yaml:11: orchestration.max_run_minutes: "60m" is not a number',
    ),
    (
        "news at every moment",
        {"orchestration": "{publish_every: 10ms}"},
        'orders.yaml:11: orchestration.publish_every: "10ms" is not from 1s to 1h',
    ),
    (
        "an audit at an hour that no day has",
        {"orchestration": "{audit_schedule: '0 24 * * *'}"},
        (
            'orders.yaml:11: orchestration.audit_schedule: "0 24 * * *" is not a schedule: '
            'the hour "24" is not *, */n, n, n-m or a list of these, from 0 to 23'
        ),
    ),
    (
        "an audit every so many seconds",
        {"orchestration": "{audit_schedule: 10}"},
        "orders.yaml:11: orchestration.audit_schedule: must be text, not 10; put it in quotes",
    ),
    (
        "an owner who cannot be reached",
        {"orchestration": "\n  owners:\n    - ada@example.com\n    - data"},
        (
            'orders.yaml:14: orchestration.owners[1]: "data" is not an owner; write an e-mail '
            "address, or team:name"
        ),
    ),
    (
        "a team without a name",
        {"orchestration": "{owners: ['team:']}"},
        (
            'orders.yaml:11: orchestration.owners[0]: "team:" is not an owner; write an e-mail '
            "address, or team:name"
        ),
    ),
    (
        "one owner that is no list",
        {"orchestration": "{owners: 'team:data'}"},
        'orders.yaml:11: orchestration.owners: must be a list, not "team:data"',
    ),
    (
        "a tag with a space in its key",
        {"orchestration": "\n  tags:\n    cost center: a"},
        (
            "orders.yaml:13: orchestration.tags.cost center: is not the key of a tag; allowed: "
            "up to 63 letters, digits and _ - ., and as many with a / behind them before it"
        ),
    ),
    (
        "a tag with a space in its value",
        {"orchestration": "\n  tags:\n    tier: very good"},
        (
            'orders.yaml:13: orchestration.tags.tier: "very good" is not the value of a tag; '
            "allowed: up to 63 letters, digits and _ - ."
        ),
    ),
    (
        "a tag that k2i sets itself",
        {"orchestration": "\n  tags:\n    k2i/worker: a"},
        (
            "orders.yaml:13: orchestration.tags.k2i/worker: is a program's own: choose a key "
            "that begins with none of dagster/, k2i/"
        ),
    ),
    (
        "a tag without a value",
        {"orchestration": "\n  tags:\n    tier:"},
        (
            "orders.yaml:13: orchestration.tags.tier: must be text, a number, true or false, "
            "not nothing"
        ),
    ),
    (
        "tags that are a list",
        {"orchestration": "{tags: [gold]}"},
        "orders.yaml:11: orchestration.tags: must be a mapping of keys, not a list",
    ),
]
