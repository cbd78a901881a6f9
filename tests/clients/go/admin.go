package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func adminCases(broker string, admin *kadm.Client, topic string) {
	var id kadm.TopicID
	run("create a topic", func(ctx context.Context) error {
		retention := "7200000"
		created, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, topic)
		if err != nil {
			return err
		}
		id = created.ID
		if created.NumPartitions != 3 || created.ReplicationFactor != 1 || id == (kadm.TopicID{}) {
			return fmt.Errorf("created %+v", created)
		}
		_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
		return expect(kerr.TopicAlreadyExists, err)
	})
	run("list and describe topics", func(ctx context.Context) error {
		all, err := admin.ListTopics(ctx)
		if err != nil {
			return err
		}
		if !all.Has(topic) || len(all[topic].Partitions) != 3 || all[topic].ID != id {
			return fmt.Errorf("listed %+v", all[topic])
		}
		missing, err := admin.ListTopics(ctx, topic+"-none")
		if err != nil {
			return err
		}
		return expect(kerr.UnknownTopicOrPartition, missing[topic+"-none"].Err)
	})
	run("create partitions", func(ctx context.Context) error {
		answers, err := admin.UpdatePartitions(ctx, 5, topic)
		if err != nil || answers.Error() != nil {
			return errors.Join(err, answers.Error())
		}
		return eventually(func() error {
			all, err := admin.ListTopics(ctx, topic)
			if err == nil && len(all[topic].Partitions) != 5 {
				err = fmt.Errorf("%d partitions", len(all[topic].Partitions))
			}
			return err
		})
	})
	run("describe and alter configs", func(ctx context.Context) error { return configs(ctx, admin, topic) })
	run("list offsets", func(ctx context.Context) error {
		return listOffsets(ctx, broker, admin, topic+"-offsets")
	})
	run("delete topics", func(ctx context.Context) error {
		answers, err := admin.DeleteTopics(ctx, topic, topic+"-offsets")
		if err != nil || answers.Error() != nil {
			return errors.Join(err, answers.Error())
		}
		missing, err := admin.DeleteTopics(ctx, topic+"-none")
		if err != nil {
			return err
		}
		return expect(kerr.UnknownTopicOrPartition, missing[topic+"-none"].Err)
	})
}

func configs(ctx context.Context, admin *kadm.Client, topic string) error {
	value := func(name string) (string, error) {
		described, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return "", err
		}
		for _, config := range described[0].Configs {
			if config.Key == name {
				return config.MaybeValue(), described[0].Err
			}
		}
		return "", fmt.Errorf("%s is missing", name)
	}
	want := func(name, wanted string) error {
		return eventually(func() error {
			found, err := value(name)
			if err == nil && found != wanted {
				err = fmt.Errorf("%s is %s", name, found)
			}
			return err
		})
	}
	alter := func(op kadm.IncrementalOp, name, value string) error {
		answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, topic)
		if err != nil {
			return err
		}
		return answers[0].Err
	}
	if err := want("retention.ms", "7200000"); err != nil {
		return err
	}
	if err := alter(kadm.SetConfig, "retention.ms", "3600000"); err != nil {
		return err
	}
	if err := want("retention.ms", "3600000"); err != nil {
		return err
	}
	if err := alter(kadm.DeleteConfig, "retention.ms", ""); err != nil {
		return err
	}
	if err := want("retention.ms", "604800000"); err != nil {
		return err
	}
	return expect(kerr.InvalidConfig, alter(kadm.SetConfig, "retention.ms", "soon"))
}

func listOffsets(ctx context.Context, broker string, admin *kadm.Client, topic string) error {
	err := roundTrip(ctx, broker, admin, topic, kgo.ZstdCompression(), kgo.AllISRAcks())
	if err != nil {
		return err
	}
	last := int64(sampleCount - 1)
	start, err := admin.ListStartOffsets(ctx, topic)
	if err := offset("start", start, err, topic, 0, -1); err != nil {
		return err
	}
	end, err := admin.ListEndOffsets(ctx, topic)
	if err := offset("end", end, err, topic, sampleCount, -1); err != nil {
		return err
	}
	largest, err := admin.ListMaxTimestampOffsets(ctx, topic)
	if err := offset("largest timestamp", largest, err, topic, last, timestamp(int(last))); err != nil {
		return err
	}
	by, err := admin.ListOffsetsAfterMilli(ctx, baseTimestamp+4001, topic)
	return offset("by time", by, err, topic, 5, timestamp(5))
}

func offset(
	what string, listed kadm.ListedOffsets, err error, topic string, offset, timestamp int64,
) error {
	if err != nil {
		return err
	}
	found, _ := listed.Lookup(topic, 0)
	if found.Err != nil || found.Offset != offset || found.Timestamp != timestamp {
		return fmt.Errorf("%s: %+v", what, found)
	}
	return nil
}

func expect(wanted *kerr.Error, err error) error {
	if !errors.Is(err, wanted) {
		return fmt.Errorf("answered %v, not %v", err, wanted)
	}
	return nil
}

// eventually waits for a broker whose metadata is a moment behind its controller.
func eventually(check func() error) error {
	var err error
	for range 50 {
		if err = check(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}
