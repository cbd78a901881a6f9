import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What {@code Admin} does with topics, configurations and offsets. */
final class AdminCases {
    private final String broker;
    private final Admin admin;
    private final String topic;
    private Uuid topicId;

    AdminCases(String broker, Admin admin, String topic) {
        this.broker = broker;
        this.admin = admin;
        this.topic = topic;
    }

    void run() {
        Driver.run("describe cluster", this::describeCluster);
        Driver.run("create a topic", this::create);
        Driver.run("list topics", this::list);
        Driver.run("describe a topic by name and by id", this::describe);
        Driver.run("refusals", this::refusals);
        Driver.run("create partitions", this::createPartitions);
        Driver.run("describe configs", this::describeConfigs);
        Driver.run("describe broker configs", this::describeBrokerConfigs);
        Driver.run("alter configs", this::alterConfigs);
        Driver.run("list offsets", this::listOffsets);
        Driver.run("delete records", this::deleteRecords);
        Driver.run("delete topics by name and by id", this::delete);
    }

    private void describeCluster() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        Driver.require(!cluster.clusterId().get().isEmpty(), "no cluster id");
        Driver.require(cluster.nodes().get().size() >= 1, "no nodes");
        Driver.require(cluster.controller().get() != null, "no controller");
    }

    private void create() throws Exception {
        NewTopic created = new NewTopic(topic, Optional.of(3), Optional.empty())
                .configs(Map.of("retention.ms", "7200000", "cleanup.policy", "compact,delete"));
        var result = admin.createTopics(List.of(created));
        result.all().get();
        topicId = result.topicId(topic).get();
        Driver.require(!topicId.equals(Uuid.ZERO_UUID), "no topic id");
        Driver.require(result.numPartitions(topic).get() == 3, "not three partitions");
        Driver.require(result.replicationFactor(topic).get() == 1, "not one replica");
        Driver.require(result.config(topic).get().get("retention.ms").value().equals("7200000"),
                "retention.ms is not what was asked for");
    }

    private void list() throws Exception {
        Driver.require(admin.listTopics().names().get().contains(topic), "the topic is not listed");
        Driver.require(!admin.listTopics().namesToListings().get().get(topic).isInternal(),
                "the topic is internal");
    }

    private void describe() throws Exception {
        TopicDescription byName = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Driver.require(byName.topicId().equals(topicId), "another id");
        Driver.require(byName.partitions().size() == 3, byName.partitions().size() + " partitions");
        byName.partitions().forEach(partition -> {
            Driver.require(partition.leader() != null, "no leader");
            Driver.require(partition.isr().size() == 1, "not one replica in sync");
        });
        TopicDescription byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(topicId)))
                .allTopicIds().get().get(topicId);
        Driver.require(byId.name().equals(topic), "another name");
    }

    private void refusals() throws Exception {
        refuses(TopicExistsException.class, () -> create(new NewTopic(topic, 1, (short) 1)));
        refuses(InvalidTopicException.class, () -> create(new NewTopic("a b", 1, (short) 1)));
        refuses(InvalidPartitionsException.class,
                () -> create(new NewTopic(topic + "-p", 0, (short) 1)));
        refuses(InvalidReplicationFactorException.class,
                () -> create(new NewTopic(topic + "-r", 1, (short) 3)));
        refuses(InvalidConfigurationException.class, () -> create(
                new NewTopic(topic + "-c", 1, (short) 1).configs(Map.of("retention.ms", "soon"))));
        refuses(UnknownTopicOrPartitionException.class,
                () -> admin.describeTopics(List.of(topic + "-none")).allTopicNames().get());
        refuses(UnknownTopicOrPartitionException.class,
                () -> admin.deleteTopics(List.of(topic + "-none")).all().get());
        refuses(UnknownTopicIdException.class,
                () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid())))
                        .all().get());
    }

    private void createPartitions() throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        // The metadata of a broker may be a moment behind its controller.
        for (int tries = 0; tries < 50 && partitionCount() != 5; tries++) {
            Thread.sleep(100);
        }
        Driver.require(partitionCount() == 5, partitionCount() + " partitions");
        refuses(InvalidPartitionsException.class, () ->
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get());
    }

    private int partitionCount() throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic)
                .partitions().size();
    }

    private ConfigResource resource() {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private Config config() throws Exception {
        return admin.describeConfigs(Set.of(resource())).all().get().get(resource());
    }

    private void describeConfigs() throws Exception {
        Config config = config();
        Driver.require(config.get("retention.ms").value().equals("7200000"), "retention.ms");
        Driver.require(config.get("retention.ms").source()
                == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source of retention.ms");
        for (String name : List.of("max.message.bytes", "compression.type", "segment.bytes",
                "flush.messages", "flush.ms", "message.timestamp.type")) {
            Driver.require(config.get(name) != null && config.get(name).isDefault(),
                    name + " is missing or not a default");
        }
        // Not DEFAULT_CONFIG on a Kafka with eligible leader replicas, which sets it dynamically.
        Driver.require(config.get("min.insync.replicas").value().equals("1"), "min.insync.replicas");
        refuses(UnknownTopicOrPartitionException.class, () -> admin.describeConfigs(
                Set.of(new ConfigResource(ConfigResource.Type.TOPIC, topic + "-none"))).all().get());
    }

    private void describeBrokerConfigs() throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        ConfigResource id = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        Config config = admin.describeConfigs(Set.of(id)).all().get().get(id);
        for (String name : List.of("log.retention.ms", "num.partitions", "message.max.bytes",
                "auto.create.topics.enable", "listeners", "default.replication.factor")) {
            Driver.require(config.get(name) != null, name + " is missing");
        }
    }

    private void alterConfigs() throws Exception {
        alter(new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000000"),
                AlterConfigOp.OpType.SET));
        Driver.require(eventually("max.message.bytes", "2000000"), "SET did not set");
        alter(new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"),
                AlterConfigOp.OpType.SUBTRACT));
        Driver.require(eventually("cleanup.policy", "delete"), "SUBTRACT did not subtract");
        alter(new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"),
                AlterConfigOp.OpType.APPEND));
        Driver.require(eventually("cleanup.policy", "delete,compact"), "APPEND did not append");
        alter(new AlterConfigOp(new ConfigEntry("max.message.bytes", ""),
                AlterConfigOp.OpType.DELETE));
        Driver.require(eventually("max.message.bytes", "1048588"), "DELETE did not reset");
        refuses(InvalidConfigurationException.class, () -> alter(new AlterConfigOp(
                new ConfigEntry("max.message.bytes", "many"), AlterConfigOp.OpType.SET)));
    }

    private void alter(AlterConfigOp op) throws Exception {
        Map<ConfigResource, Collection<AlterConfigOp>> ops = new HashMap<>();
        ops.put(resource(), List.of(op));
        admin.incrementalAlterConfigs(ops).all().get();
    }

    private boolean eventually(String name, String value) throws Exception {
        for (int tries = 0; tries < 50; tries++) {
            if (config().get(name).value().equals(value)) {
                return true;
            }
            Thread.sleep(100);
        }
        return false;
    }

    private void listOffsets() throws Exception {
        String offsets = topic + "-offsets";
        RoundTrip trip = new RoundTrip(broker, admin);
        trip.run(offsets, "gzip", "all");
        TopicPartition partition = new TopicPartition(offsets, 0);
        offset(partition, OffsetSpec.earliest(), 0, -1);
        offset(partition, OffsetSpec.latest(), Sample.COUNT, -1);
        int last = Sample.COUNT - 1;
        offset(partition, OffsetSpec.maxTimestamp(), last, Sample.timestamp(last));
        // Record 5 is the first with a timestamp of at least 4,001 ms after the base.
        offset(partition, OffsetSpec.forTimestamp(Sample.BASE_TIMESTAMP + 4001), 5,
                Sample.timestamp(5));
        offset(partition, OffsetSpec.forTimestamp(Sample.BASE_TIMESTAMP + 38_500), last,
                Sample.timestamp(last));
        offset(partition, OffsetSpec.forTimestamp(Sample.BASE_TIMESTAMP + 1_000_000), -1, -1);
    }

    private void deleteRecords() throws Exception {
        TopicPartition partition = new TopicPartition(topic + "-offsets", 0);
        long border = 7;
        Driver.require(lowWatermark(partition, border) == border, "low watermark");
        offset(partition, OffsetSpec.earliest(), border, -1);
        Driver.require(lowWatermark(partition, 3) == border, "it went back");
        refuses(OffsetOutOfRangeException.class,
                () -> lowWatermark(partition, Sample.COUNT + 1));
        Driver.require(lowWatermark(partition, -1) == Sample.COUNT, "the high watermark");
        offset(partition, OffsetSpec.earliest(), Sample.COUNT, -1);
    }

    private long lowWatermark(TopicPartition partition, long before) throws Exception {
        return admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(before)))
                .lowWatermarks().get(partition).get().lowWatermark();
    }

    private void offset(TopicPartition partition, OffsetSpec spec, long offset, long timestamp)
            throws Exception {
        ListOffsetsResultInfo found =
                admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
        Driver.require(found.offset() == offset && found.timestamp() == timestamp,
                spec.getClass().getSimpleName() + ": " + found);
    }

    private void delete() throws Exception {
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(topicId))).all().get();
        admin.deleteTopics(List.of(topic + "-offsets")).all().get();
        for (int tries = 0; tries < 50 && listed(); tries++) {
            Thread.sleep(100);
        }
        Driver.require(!listed(), "the topics are still listed");
    }

    private boolean listed() throws Exception {
        Set<String> names = admin.listTopics().names().get();
        return names.contains(topic) || names.contains(topic + "-offsets");
    }

    private void create(NewTopic created) throws Exception {
        admin.createTopics(List.of(created)).all().get();
    }

    private static void refuses(Class<? extends Exception> expected, Driver.Case body)
            throws Exception {
        try {
            body.run();
        } catch (ExecutionException e) {
            Driver.require(expected.isInstance(e.getCause()),
                    "refused with " + e.getCause() + ", not " + expected.getSimpleName());
            return;
        }
        throw new AssertionError("not refused with " + expected.getSimpleName());
    }
}
