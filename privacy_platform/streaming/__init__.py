"""Apache Kafka: a broker for development and tests, clients, topics, and a producer of events. No Spark, no Dagster."""
