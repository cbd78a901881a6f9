package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	sampleCount   = 40
	baseTimestamp = int64(1_700_000_000_000)
)

var sizes = [12]int{0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 16384, 65536, 204800}

// sample is record i of README.md.
func sample(topic string, i int) *kgo.Record {
	return &kgo.Record{
		Topic:     topic,
		Partition: 0,
		Key:       key(i),
		Value:     value(i),
		Headers:   headers(i),
		Timestamp: time.UnixMilli(timestamp(i)),
	}
}

func value(i int) []byte {
	if i%13 == 7 {
		return nil
	}
	value := make([]byte, sizes[i%12])
	for j := range value {
		if i%2 == 0 {
			value[j] = byte(i*31 + j*7 + j>>8)
		} else {
			value[j] = byte('a' + j%3)
		}
	}
	return value
}

func key(i int) []byte {
	switch i % 4 {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	return append([]byte(fmt.Sprintf("key-%d", i)), 0, 255, byte(i))
}

func headers(i int) []kgo.RecordHeader {
	switch i % 5 {
	case 1:
		return []kgo.RecordHeader{{Key: "h", Value: []byte(fmt.Sprintf("v-%d", i))}}
	case 2:
		return []kgo.RecordHeader{
			{Key: "d", Value: []byte("1")}, {Key: "d", Value: []byte("2")}, {Key: "d", Value: []byte("1")},
		}
	case 3:
		return []kgo.RecordHeader{{Key: "empty", Value: []byte{}}, {Key: "null", Value: nil}}
	case 4:
		return []kgo.RecordHeader{
			{Key: "", Value: []byte{}}, {Key: "long", Value: bytes.Repeat([]byte{255}, 300)},
		}
	}
	return nil
}

func timestamp(i int) int64 {
	timestamp := baseTimestamp + int64(i)*1000
	if i%7 == 3 {
		timestamp -= 30_000
	}
	return timestamp
}

// same tells null from empty.
func same(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

func verify(i int, read *kgo.Record) error {
	switch {
	case read.Offset != int64(i):
		return fmt.Errorf("record %d has offset %d", i, read.Offset)
	case read.Timestamp.UnixMilli() != timestamp(i):
		return fmt.Errorf("record %d has timestamp %d", i, read.Timestamp.UnixMilli())
	case !same(read.Key, key(i)):
		return fmt.Errorf("record %d has another key: %v", i, read.Key)
	case !same(read.Value, value(i)):
		return fmt.Errorf("record %d has another value of %d bytes", i, len(read.Value))
	}
	expected := headers(i)
	if len(read.Headers) != len(expected) {
		return fmt.Errorf("record %d has %d headers", i, len(read.Headers))
	}
	for h, header := range read.Headers {
		if header.Key != expected[h].Key || !same(header.Value, expected[h].Value) {
			return fmt.Errorf("record %d has another header %d: %v", i, h, header)
		}
	}
	return nil
}
