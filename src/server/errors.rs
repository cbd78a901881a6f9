//! The one place where what happened below becomes a Kafka error code.
