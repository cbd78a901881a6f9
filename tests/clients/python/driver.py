"""Drives kafka-python against a broker: every codec with every acks value, then the administration.

Usage: driver.py HOST:PORT TOPIC-PREFIX. Prints one JSON line for each case; exits with 1 if one
failed. The records are those of ../README.md, but two things are empty here that are null there, since
the library refuses to send them: a header's value, and the key of a record without a value.
"""

import json
import logging
import sys
import time
import traceback

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ACKS = {"0": 0, "1": 1, "all": "all"}
SIZES = [0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 16384, 65536, 204800]
COUNT = 40
BASE_TIMESTAMP = 1_700_000_000_000
WAIT_S = 20

failed = False


def value(i):
    if i % 13 == 7:
        return None
    size = SIZES[i % 12]
    if i % 2 == 0:
        return bytes((i * 31 + j * 7 + (j >> 8)) & 255 for j in range(size))
    return bytes(ord("a") + j % 3 for j in range(size))


def key(i):
    if i % 4 == 0:
        return None if value(i) is not None else b""
    if i % 4 == 1:
        return b""
    return b"key-%d" % i + bytes([0, 255, i])


def headers(i):
    return [
        [],
        [("h", b"v-%d" % i)],
        [("d", b"1"), ("d", b"2"), ("d", b"1")],
        [("empty", b""), ("null", b"")],
        [("", b""), ("long", b"\xff" * 300)],
    ][i % 5]


def timestamp(i):
    return BASE_TIMESTAMP + i * 1000 - (30_000 if i % 7 == 3 else 0)


SAMPLE = [(timestamp(i), key(i), value(i), headers(i)) for i in range(COUNT)]


def run(name, body):
    global failed
    start = time.monotonic()
    error = None
    try:
        body()
    except Exception as caught:  # Whatever a client library raises is a failed case.
        failed = True
        error = repr(caught)
        traceback.print_exc(file=sys.stderr)
    ms = int((time.monotonic() - start) * 1000)
    client = f"kafka-python {kafka.__version__}"
    line = {"client": client, "case": name, "ok": error is None, "ms": ms, "error": error}
    print(json.dumps(line), flush=True)


def require(holds, message):
    if not holds:
        raise AssertionError(message)


def refuses(expected, body):
    try:
        body()
    except expected:
        return
    except Exception as other:
        raise AssertionError(f"refused with {other!r}, not {expected.__name__}") from other
    raise AssertionError(f"not refused with {expected.__name__}")


def eventually(check):
    """Waits for a broker whose metadata is a moment behind its controller."""
    for _ in range(50):
        if check():
            return True
        time.sleep(0.1)
    return False


class Driver:
    def __init__(self, broker, prefix):
        self.broker = broker
        self.prefix = prefix + "-python"
        self.admin = KafkaAdminClient(bootstrap_servers=broker)

    def round_trip(self, topic, codec, acks):
        # The sample is years old: without this it would be deleted at the next check.
        kept = {"num_partitions": 1, "configs": {"retention.ms": "-1"}}
        self.admin.create_topics({topic: kept})
        settings = {} if acks == "all" else {"acks": ACKS[acks], "enable_idempotence": False}
        compression = None if codec == "none" else codec
        producer = KafkaProducer(
            bootstrap_servers=self.broker, compression_type=compression, **settings
        )
        sent = [
            producer.send(topic, value, key=key, headers=headers, partition=0, timestamp_ms=at)
            for at, key, value, headers in SAMPLE
        ]
        producer.flush(timeout=WAIT_S)
        for i, future in enumerate(sent):
            metadata = future.get(timeout=WAIT_S)
            if acks != "0":
                require(metadata.offset == i, f"record {i} was acknowledged as {metadata}")
        producer.close()
        self.read_back(topic)

    def read_back(self, topic):
        partition = TopicPartition(topic, 0)
        consumer = KafkaConsumer(bootstrap_servers=self.broker, auto_offset_reset="earliest")
        consumer.assign([partition])
        read = []
        deadline = time.monotonic() + WAIT_S
        while len(read) < COUNT and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                read.extend(records)
        require(consumer.position(partition) == COUNT, f"position {consumer.position(partition)}")
        require(consumer.end_offsets([partition])[partition] == COUNT, "the end is another")
        consumer.close()
        require(len(read) == COUNT, f"read {len(read)} records")
        for i, record in enumerate(read):
            require(record.offset == i, f"record {i} has offset {record.offset}")
            at, key, value, headers = SAMPLE[i]
            require(record.timestamp == at, f"record {i} has timestamp {record.timestamp}")
            require(record.key == key, f"record {i} has another key: {record.key}")
            require(record.value == value, f"record {i} has another value")
            found = [tuple(header) for header in record.headers]
            require(found == headers, f"record {i} has other headers: {found}")

    def partitions(self, topic):
        [described] = self.admin.describe_topics([topic])
        require(described["error_code"] == 0, described)
        return len(described["partitions"])

    def config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self.admin.describe_configs([resource], config_filter="all")
        return described["topic"][topic][name]["value"]

    def alter(self, topic, name, op, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: (op, value)})
        answers = self.admin.alter_configs([resource])
        return answers["topic"][topic]

    def topics(self):
        topic = self.prefix + "-admin"
        create = self.admin.create_topics
        create({topic: {"num_partitions": 3, "configs": {"retention.ms": "7200000"}}})
        require(topic in self.admin.list_topics(), "not listed")
        require(self.partitions(topic) == 3, "not three partitions")
        one = {"num_partitions": 1, "replication_factor": 1}
        refuses(TopicAlreadyExistsError, lambda: create({topic: one}))
        refuses(InvalidTopicError, lambda: create({"a b": one}))
        refuses(InvalidPartitionsError, lambda: create({topic + "-p": {"num_partitions": 0}}))
        replicas = {"num_partitions": 1, "replication_factor": 3}
        refuses(InvalidReplicationFactorError, lambda: create({topic + "-r": replicas}))
        config = {**one, "configs": {"retention.ms": "soon"}}
        refuses(InvalidConfigurationError, lambda: create({topic + "-c": config}))

    def create_partitions(self):
        topic = self.prefix + "-admin"
        self.admin.create_partitions({topic: 5})
        require(eventually(lambda: self.partitions(topic) == 5), "not five partitions")
        refuses(InvalidPartitionsError, lambda: self.admin.create_partitions({topic: 2}))

    def configs(self):
        topic = self.prefix + "-admin"
        name = "retention.ms"
        require(self.config(topic, name) == "7200000", "not what was asked for")
        self.alter(topic, name, AlterConfigOp.SET, "3600000")
        require(eventually(lambda: self.config(topic, name) == "3600000"), "SET did not set")
        self.alter(topic, name, AlterConfigOp.DELETE, None)
        require(eventually(lambda: self.config(topic, name) == "604800000"), "not reset")

    def offsets(self):
        topic = self.prefix + "-offsets"
        self.round_trip(topic, "lz4", "all")
        partition = TopicPartition(topic, 0)
        last = COUNT - 1
        for spec, offset, at in [
            (OffsetSpec.EARLIEST, 0, -1),
            (OffsetSpec.LATEST, COUNT, -1),
            (OffsetSpec.MAX_TIMESTAMP, last, timestamp(last)),
            (BASE_TIMESTAMP + 4001, 5, timestamp(5)),
        ]:
            found = self.admin.list_partition_offsets({partition: spec})[partition]
            require((found.offset, found.timestamp) == (offset, at), f"{spec}: {found}")
        consumer = KafkaConsumer(bootstrap_servers=self.broker)
        found = consumer.offsets_for_times({partition: BASE_TIMESTAMP + 4001})[partition]
        require((found.offset, found.timestamp) == (5, timestamp(5)), f"by time: {found}")
        consumer.close()

    def delete(self):
        topics = [self.prefix + "-admin", self.prefix + "-offsets"]
        self.admin.delete_topics(topics)

        def gone():
            return not set(self.admin.list_topics()) & set(topics)

        require(eventually(gone), "still listed")
        missing = [self.prefix + "-none"]
        refuses(UnknownTopicOrPartitionError, lambda: self.admin.delete_topics(missing))

    def run(self):
        for codec in CODECS:
            for acks in ACKS:
                topic = f"{self.prefix}-{codec}-{acks}"
                name = f"round trip {codec} acks={acks}"
                run(name, lambda t=topic, c=codec, a=acks: self.round_trip(t, c, a))
        run("describe cluster", lambda: require(self.admin.describe_cluster()["brokers"], "none"))
        run("create, list and describe topics", self.topics)
        run("create partitions", self.create_partitions)
        run("describe and alter configs", self.configs)
        run("list offsets", self.offsets)
        run("delete topics", self.delete)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: driver.py HOST:PORT TOPIC-PREFIX")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    Driver(sys.argv[1], sys.argv[2]).run()
    sys.exit(1 if failed else 0)
