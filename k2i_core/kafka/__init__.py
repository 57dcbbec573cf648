"""Kafka as a source: assignment at a checkpoint, polls as Arrow batches, topics asked by name.

`source.KafkaSource` is the port's implementation. Below it: `topics` asks the cluster (ids,
partitions, watermarks, starts), `reader` reads one assignment, `batches` turns messages into
columns, `reports` keeps what librdkafka says about itself, `failures` says what each of its error
codes means here, `settings` holds what a person chose.

The library `confluent_kafka` is named nowhere else in the engine.
"""
