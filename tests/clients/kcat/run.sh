#!/usr/bin/env bash
# Drives kcat against a broker: every codec with every acks value, then queries.
# Usage: run.sh HOST:PORT TOPIC-PREFIX. Prints one JSON line for each case.
# kcat sets neither timestamps nor binary keys, and its headers are the same for all records of one
# call; so this script checks its own records: text keys, values of 0 B to 200 KiB, nulls, headers,
# and timestamps against the clock.
set -u
[ $# -eq 2 ] || { echo "usage: run.sh HOST:PORT TOPIC-PREFIX" >&2; exit 2; }
BROKER=$1
PREFIX=$2-kcat
HERE=$(cd "$(dirname "$0")" && pwd)
CLIENT="kcat $(kcat -V | sed -n 's/^Version \([0-9.]*\).*librdkafka \([0-9.]*\).*/\1 (librdkafka \2)/p')"
. "$HERE/../lib.sh"

KCAT="kcat -b $BROKER -q"

# Eleven records: eight lines `key=value` (the first key and value empty, one value of 5,000
# letters), and one file of 200 KiB with a binary value; then a null value and a keyless record.
make_input() {
    local i
    {
        echo "="
        for i in 1 2 3 4 5 6; do echo "key-$i=value $i ü"; done
        printf 'long=%s\n' "$(head -c 5000 /dev/zero | tr '\0' x)"
    } >"$WORK/lines"
    for i in $(seq 0 255); do printf "\\x$(printf %02x "$i")"; done >"$WORK/bytes"
    for i in $(seq 1 800); do cat "$WORK/bytes"; done >"$WORK/binary"
}

produce() {
    local topic=$1 codec=$2 acks=$3
    local send="$KCAT -P -t $topic -p 0 -z $codec -X acks=$acks"
    $send -K = -l "$WORK/lines" -H a=1 -H a=2 -H b=
    $send -k binary "$WORK/binary"
    printf 'tomb=\n' | $send -Z -K =
    printf 'keyless\n' | $send
}

# Offsets, lengths (-1 for null), keys and headers, one line for each record.
expected() {
    awk -F= '{ printf "%d %d %s %d a=1,a=2,b=\n", NR - 1, length($1), $1, length($2) }' \
        <(LC_ALL=C cat "$WORK/lines")
    echo "8 6 binary 204800 "
    echo "9 4 tomb -1 "
    echo "10 -1  7 "
}

round_trip() {
    local topic=$1 codec=$2 acks=$3 before after
    before=$(date +%s%3N)
    $KCAT -L -t "$topic" >/dev/null   # Creates the topic.
    sleep 0.2
    produce "$topic" "$codec" "$acks"
    after=$(date +%s%3N)
    LC_ALL=C expected | LC_ALL=C sed 's/ $//' >"$WORK/expected"
    timeout 20 $KCAT -C -t "$topic" -p 0 -o beginning -c 11 -f '%o %K %k %S %h\n' |
        sed 's/ $//' >"$WORK/found"
    same "what was read" "$WORK/expected" "$WORK/found"
    timeout 20 $KCAT -C -t "$topic" -p 0 -o 0 -c 8 -f '%k=%s\n' >"$WORK/found"
    same "the lines" "$WORK/lines" "$WORK/found"
    timeout 20 $KCAT -C -t "$topic" -p 0 -o 8 -c 1 -f '%s' >"$WORK/found"
    same "the binary value" "$WORK/binary" "$WORK/found"
    timeout 20 $KCAT -C -t "$topic" -p 0 -o beginning -c 11 -f '%T\n' |
        awk -v before="$before" -v after="$after" '$1 < before || $1 > after { bad = 1 } END { exit bad }' ||
        fail "a timestamp lies outside the time of the call"
    [ "$($KCAT -Q -t "$topic:0:-1" | tr -d ' ')" = "$topic[0]offset11" ] || fail "the end is another"
}

metadata() {
    local topic=$PREFIX-none-all
    $KCAT -L -J -t "$topic" >"$WORK/metadata"
    grep -q "\"topic\":\"$topic\",\"partitions\":\[{\"partition\":0,\"leader\":[0-9]*,\"replicas\":\[{\"id\":[0-9]*}\],\"isrs\":\[{\"id\":[0-9]*}\]}\]" \
        "$WORK/metadata" || fail "$(cat "$WORK/metadata")"
}

by_time() {
    local topic=$PREFIX-gzip-1 at
    at=$($KCAT -C -t "$topic" -p 0 -o 8 -c 1 -f '%T')
    [ "$($KCAT -Q -t "$topic:0:$at" | tr -d ' ')" = "$topic[0]offset8" ] ||
        fail "$at: $($KCAT -Q -t "$topic:0:$at")"
    [ "$($KCAT -Q -t "$topic:0:-2" | tr -d ' ')" = "$topic[0]offset0" ] || fail "the beginning"
}

make_input
for codec in none gzip snappy lz4 zstd; do
    for acks in 0 1 all; do
        run "round trip $codec acks=$acks" round_trip "$PREFIX-$codec-$acks" $codec $acks
    done
done
run "metadata" metadata
run "offsets by time" by_time
finish
