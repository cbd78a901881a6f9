//! Every bound of the system that is not a setting, and the relations between them.

/// Direct I/O works in units of this many bytes: buffers, positions and lengths are multiples.
/// Both 512-byte and 4 KiB devices accept it.
pub const BLOCK_ALIGN: usize = 4096;

/// Where the first batch of a journal group and of a segment block lies in it: the same in both, so
/// that pages of a large batch can go from the one to the other as they are.
pub const BATCH_PLACE: usize = 80;

/// Batches from this size on begin [`BATCH_PLACE`] bytes behind a multiple of 4 KiB in a journal
/// group, with zeros before them, and have a block of their own in a segment. Smaller ones follow
/// each other at once.
pub const LARGE_BATCH_BYTES: usize = 64 << 10;

/// Kafka's default for `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 100 * 1024 * 1024;

/// Requests of one connection that may be answered out of the reader's sight at once; then the
/// reader stops reading (Kafka answers one at a time; librdkafka sends up to 1,000,000).
pub const PIPELINED_REQUESTS_MAX: usize = 64;

/// Batches remembered for each producer id and partition (KIP-98, KAFKA-5494): a retry of any of
/// them is answered with its original offset.
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;

/// Longest legal topic name (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Shards in one process; bounded so that a shard id fits every on-disk field.
pub const SHARDS_MAX: usize = 1024;

/// Partitions that one request may create: Kafka refuses absurd numbers by other means (memory).
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;

const _: () = assert!(BLOCK_ALIGN.is_power_of_two());
