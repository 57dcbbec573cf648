"""Pipeline files for the tests of this folder."""

SAMPLE = """\
name: orders
kafka:
  bootstrap_servers: localhost:9092
  topics: [orders]                 # or topic_pattern: "^orders\\\\."
  start: earliest
  properties: {}
format:
  value: json
  key: string
catalog:
  type: sql
  uri: sqlite:///.k2i/catalog.db
  warehouse: .k2i/warehouse
table:
  identifier: sales.orders
  columns:
    - {name: order_id, type: long, required: true}
    - {name: created_at, type: timestamptz}
    - {name: customer_id, type: long}
  partition_by: ["day(created_at)", "bucket(16, customer_id)"]
  sort_by: [created_at]
  schema_evolution: add_columns
  properties: {}
flush: {max_age: 30s, max_bytes: 128MiB, max_rows: 1000000}
dead_letters: {table: sales.orders_dead_letters}
workers: 1
state_directory: .k2i/state
maintenance:
  compaction: {schedule: "*/30 * * * *", target_file_bytes: 512MiB}
  manifests: {schedule: "15 * * * *"}
  expiration: {schedule: "0 * * * *", older_than: 7d, retain_last: 10, max_snapshots: 500}
  orphans: {schedule: "0 3 * * *", older_than: 3d}
monitoring:
  freshness: {warn: 5m, fail: 15m}
  lag_messages: {warn: 500000, fail: null}
  dead_letter_share: {warn: 0.001, fail: 5e-1}
  unique_key: [order_id]
checks:
  - {name: customers, sql: SELECT * FROM orders WHERE customer_id < 0, severity: warn}
orchestration:
  max_run_minutes: 90
  publish_every: 10s
  audit_schedule: "*/20 * * * *"
  full_audit_schedule: "off"
  owners: ["team:data", ada@example.com]
  tags: {tier: gold, revision: 7}
"""

SHORT = """\
name: orders
kafka:
  bootstrap_servers: localhost:9092
  topics: [orders]
catalog:
  type: sql
  uri: sqlite:///catalog.db
  warehouse: warehouse
table:
  identifier: sales.orders
"""


def with_lines(**sections):
    """SHORT with whole sections replaced or added, each given as YAML text after its key."""
    lines = SHORT.splitlines()
    for name, text in sections.items():
        starts = [number for number, line in enumerate(lines) if line.startswith(f"{name}:")]
        if starts:
            ends = [n for n, line in enumerate(lines) if n > starts[0] and not line[0].isspace()]
            del lines[starts[0] : ends[0] if ends else len(lines)]
        lines.append(f"{name}: {text}" if not text.startswith("\n") else f"{name}:{text}")
    return "\n".join(lines) + "\n"
