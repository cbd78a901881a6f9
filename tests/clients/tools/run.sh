#!/usr/bin/env bash
# Drives Kafka's own console tools against a broker: kafka-topics, kafka-configs, the console
# producer and consumer, kafka-get-offsets.
# Usage: run.sh HOST:PORT TOPIC-PREFIX FOLDER-OF-JARS. Prints one JSON line for each case.
set -u
[ $# -eq 3 ] || { echo "usage: run.sh HOST:PORT TOPIC-PREFIX FOLDER-OF-JARS" >&2; exit 2; }
BROKER=$1
TOPIC=$2-tools
JARS=$3
HERE=$(cd "$(dirname "$0")" && pwd)
CLIENT="kafka tools $(ls "$JARS" | sed -n 's/^kafka-tools-\([0-9.]*\)\.jar$/\1/p')"
. "$HERE/../lib.sh"

tool() {
    local class=$1
    shift
    java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
        "-Dlog4j2.configurationFile=$HERE/../java/log4j2.properties" \
        -cp "$JARS/*" "$class" --bootstrap-server "$BROKER" "$@"
}

topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell "$@"; }

# has PATTERN FILE
has() {
    grep -qE -- "$1" "$2" || fail "no \"$1\" in: $(head -c 600 "$2")"
}

create() {
    topics --create --topic "$TOPIC" --partitions 2 --replication-factor 1 \
        --config retention.ms=7200000 >"$WORK/out"
    has "^Created topic $TOPIC\.$" "$WORK/out"
    topics --list >"$WORK/out"
    has "^$TOPIC$" "$WORK/out"
    topics --describe --topic "$TOPIC" >"$WORK/out"
    has "^Topic: $TOPIC	TopicId: [A-Za-z0-9_-]{22}	PartitionCount: 2	ReplicationFactor: 1	Configs: .*retention.ms=7200000" "$WORK/out"
    has "Partition: 1	Leader: ([0-9]+)	Replicas: \1	Isr: \1" "$WORK/out"
}

refuse() {
    if topics --create --topic "$TOPIC" >"$WORK/out" 2>&1; then fail "created twice"; fi
    has "TopicExistsException" "$WORK/out"
    if topics --describe --topic "$TOPIC-none" >"$WORK/out" 2>&1; then fail "described nothing"; fi
    has "does not exist as expected" "$WORK/out"
}

grow() {
    topics --alter --topic "$TOPIC" --partitions 4
    topics --describe --topic "$TOPIC" >"$WORK/out"
    has "PartitionCount: 4" "$WORK/out"
}

configure() {
    configs --alter --entity-type topics --entity-name "$TOPIC" \
        --add-config max.message.bytes=2000000,flush.messages=1000 >"$WORK/out"
    has "Completed updating config for topic $TOPIC" "$WORK/out"
    configs --describe --entity-type topics --entity-name "$TOPIC" >"$WORK/out"
    has "max.message.bytes=2000000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000, DEFAULT_CONFIG:message.max.bytes=1048588\}" "$WORK/out"
    has "flush.messages=1000 " "$WORK/out"
    configs --alter --entity-type topics --entity-name "$TOPIC" --delete-config max.message.bytes >"$WORK/out"
    configs --describe --all --entity-type topics --entity-name "$TOPIC" >"$WORK/out"
    has "max.message.bytes=1048588 " "$WORK/out"
    has "segment.bytes=1073741824 " "$WORK/out"
    if configs --alter --entity-type topics --entity-name "$TOPIC" \
        --add-config retention.ms=soon >"$WORK/out" 2>&1; then fail "took a bad value"; fi
    has "InvalidConfigurationException" "$WORK/out"
}

broker_configs() {
    configs --describe --all --entity-type brokers --entity-name "$NODE" >"$WORK/out"
    has "num.partitions=[0-9]+ " "$WORK/out"
    has "log.retention.hours=168 " "$WORK/out"
}

produce() {
    local codec=$1 acks=$2 before=$3
    printf 'h:1,h:2|k1|v1\nh:3|k2|v2 ü\n' >"$WORK/in"
    printf 'h:4|k3|%s\n' "$(head -c 150000 /dev/zero | tr '\0' y)" >>"$WORK/in"
    topics --create --topic "$TOPIC-$codec" --partitions 1 --replication-factor 1
    tool org.apache.kafka.tools.ConsoleProducer --topic "$TOPIC-$codec" \
        --compression-codec "$codec" --request-required-acks "$acks" --reader-property parse.key=true \
        --reader-property parse.headers=true --reader-property "key.separator=|" \
        --reader-property "headers.delimiter=|" <"$WORK/in"
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$TOPIC-$codec" --partition 0 \
        --offset 0 --max-messages 3 --timeout-ms 20000 --formatter-property print.key=true \
        --formatter-property print.headers=true --formatter-property "headers.separator=," \
        --formatter-property print.offset=true --formatter-property print.timestamp=true \
        --formatter-property "key.separator=|" >"$WORK/raw" 2>"$WORK/err"
    awk -F'[|:]' -v before="$before" '$2 < before { exit 1 }' "$WORK/raw" || fail "timestamps: $(cut -c1-60 "$WORK/raw")"
    sed 's/^CreateTime:[0-9]*|//' "$WORK/raw" >"$WORK/found"
    awk '{ print "Offset:" NR - 1 "|" $0 }' "$WORK/in" >"$WORK/expected"
    same "what was read" "$WORK/expected" "$WORK/found"
}

list_offsets() {
    local topic=$TOPIC-zstd
    offsets --topic "$topic" --time -1 >"$WORK/out"
    has "^$topic:0:3$" "$WORK/out"
    offsets --topic "$topic" --time earliest >"$WORK/out"
    has "^$topic:0:0$" "$WORK/out"
    offsets --topic "$topic" --time max-timestamp >"$WORK/out"
    has "^$topic:0:[012]$" "$WORK/out"
    offsets --topic "$topic" --time 1000000000000 >"$WORK/out"
    has "^$topic:0:0$" "$WORK/out"
}

delete_records() {
    local topic=$TOPIC-zstd
    ask() {
        printf '{"partitions":[{"topic":"%s","partition":%s,"offset":%s}],"version":1}' "$@" >"$WORK/json"
        tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$WORK/json" >"$WORK/out" 2>&1
    }
    ask "$topic" 0 2
    has "partition: $topic-0	low_watermark: 2" "$WORK/out"
    offsets --topic "$topic" --time earliest >"$WORK/out"
    has "^$topic:0:2$" "$WORK/out"
    ask "$topic" 0 9
    has "OffsetOutOfRangeException" "$WORK/out"
    ask "$topic" 0 -1
    has "partition: $topic-0	low_watermark: 3" "$WORK/out"
    offsets --topic "$topic" --time earliest >"$WORK/out"
    has "^$topic:0:3$" "$WORK/out"
}

delete() {
    topics --delete --topic "$TOPIC.*"
    sleep 1
    topics --list >"$WORK/out"
    if grep -q "^$TOPIC" "$WORK/out"; then fail "still listed: $(cat "$WORK/out")"; fi
}

NODE=$(tool org.apache.kafka.tools.BrokerApiVersionsCommand 2>/dev/null | sed -n 's/.*(id: \([0-9]*\) .*/\1/p' | head -1)
START=$(date +%s%3N)
run "kafka-topics --create, --list, --describe" create
run "kafka-topics refuses" refuse
run "kafka-topics --alter --partitions" grow
run "kafka-configs topics" configure
run "kafka-configs brokers" broker_configs
run "console producer and consumer none acks=0" produce none 0 "$START"
run "console producer and consumer gzip acks=1" produce gzip 1 "$START"
run "console producer and consumer snappy acks=all" produce snappy all "$START"
run "console producer and consumer lz4 acks=all" produce lz4 all "$START"
run "console producer and consumer zstd acks=all" produce zstd all "$START"
run "kafka-get-offsets" list_offsets
run "kafka-delete-records" delete_records
run "kafka-topics --delete" delete
finish
