// Drives franz-go against a broker: every codec with every acks value, then the administration.
// Prints one JSON line for each case; exits with 1 if one failed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var failed = false

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: driver HOST:PORT TOPIC-PREFIX")
		os.Exit(2)
	}
	broker, prefix := os.Args[1], os.Args[2]+"-go"
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	admin := kadm.NewClient(client)

	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	levels := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, acks := range []string{"0", "1", "all"} {
			topic := prefix + "-" + codec + "-" + acks
			run("round trip "+codec+" acks="+acks, func(ctx context.Context) error {
				return roundTrip(ctx, broker, admin, topic, codecs[codec], levels[acks])
			})
		}
	}
	adminCases(broker, admin, prefix+"-admin")
	if failed {
		os.Exit(1)
	}
}

func run(name string, body func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	start := time.Now()
	err := body(ctx)
	var text *string
	if err != nil {
		failed = true
		message := err.Error()
		text = &message
	}
	line, _ := json.Marshal(map[string]any{
		"client": "franz-go " + version(), "case": name, "ok": err == nil,
		"ms": time.Since(start).Milliseconds(), "error": text,
	})
	fmt.Println(string(line))
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == "github.com/twmb/franz-go" {
				return dependency.Version
			}
		}
	}
	return "?"
}

func roundTrip(
	ctx context.Context, broker string, admin *kadm.Client, topic string,
	codec kgo.CompressionCodec, acks kgo.Acks,
) error {
	// The sample is years old: without this it would be deleted at the next check.
	forever := "-1"
	kept := map[string]*string{"retention.ms": &forever}
	if _, err := admin.CreateTopic(ctx, 1, 1, kept, topic); err != nil {
		return err
	}
	settings := []kgo.Opt{
		kgo.SeedBrokers(broker), kgo.RequiredAcks(acks), kgo.ProducerBatchCompression(codec),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(20),
	}
	if acks != kgo.AllISRAcks() {
		settings = append(settings, kgo.DisableIdempotentWrite())
	}
	producer, err := kgo.NewClient(settings...)
	if err != nil {
		return err
	}
	defer producer.Close()
	records := make([]*kgo.Record, sampleCount)
	for i := range records {
		records[i] = sample(topic, i)
	}
	results := producer.ProduceSync(ctx, records...)
	if err := results.FirstErr(); err != nil {
		return err
	}
	if acks != kgo.NoAck() {
		for i, result := range results {
			if result.Record.Offset != int64(i) {
				return fmt.Errorf("record %d was acknowledged with offset %d", i, result.Record.Offset)
			}
		}
	}
	return readBack(ctx, broker, topic)
}

func readBack(ctx context.Context, broker, topic string) error {
	start := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumePartitions(start))
	if err != nil {
		return err
	}
	defer consumer.Close()
	var read []*kgo.Record
	for len(read) < sampleCount {
		fetches := consumer.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("after %d records: %w", len(read), errs[0].Err)
		}
		read = append(read, fetches.Records()...)
	}
	if len(read) != sampleCount {
		return fmt.Errorf("read %d records", len(read))
	}
	var failures []error
	for i, record := range read {
		failures = append(failures, verify(i, record))
	}
	return errors.Join(failures...)
}
