"""What happens inside runs; loads Arrow, Kafka and Iceberg, so only running ops import it."""
