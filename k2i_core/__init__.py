"""Kafka to Apache Iceberg, exactly once: the engine."""
