import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Produces the sample with otherwise default settings (idempotent with acks=all), reads it back. */
final class RoundTrip {
    private static final Duration WAIT = Duration.ofSeconds(20);
    private final String broker;
    private final Admin admin;

    RoundTrip(String broker, Admin admin) {
        this.broker = broker;
        this.admin = admin;
    }

    void run(String topic, String codec, String acks) throws Exception {
        // The sample is years old: without this it would be deleted at the next check.
        NewTopic kept = new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "-1"));
        admin.createTopics(List.of(kept)).all().get();
        produce(topic, codec, acks);
        List<ConsumerRecord<byte[], byte[]>> read = read(topic, Sample.COUNT);
        Driver.require(read.size() == Sample.COUNT, "read " + read.size() + " records");
        for (int i = 0; i < Sample.COUNT; i++) {
            Sample.verify(i, read.get(i));
        }
    }

    void produce(String topic, String codec, String acks) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", broker);
        settings.put("compression.type", codec);
        if (!acks.equals("all")) {
            settings.put("acks", acks);
        }
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
                settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < Sample.COUNT; i++) {
                sent.add(producer.send(Sample.record(topic, i)));
            }
            producer.flush();
        }
        for (int i = 0; i < Sample.COUNT; i++) {
            RecordMetadata metadata = sent.get(i).get();
            long expected = acks.equals("0") ? -1 : i;
            Driver.require(metadata.offset() == expected,
                    "record " + i + " was acknowledged with offset " + metadata.offset());
            Driver.require(metadata.timestamp() == Sample.timestamp(i),
                    "record " + i + " was acknowledged with timestamp " + metadata.timestamp());
        }
    }

    /** Reads from the beginning until {@code count} records came or 20 seconds went by. */
    List<ConsumerRecord<byte[], byte[]>> read(String topic, int count) {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        Map<String, Object> settings =
                Map.of("bootstrap.servers", broker, "auto.offset.reset", "earliest");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(Set.of(partition));
            long deadline = System.nanoTime() + WAIT.toNanos();
            while (read.size() < count && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(read::add);
            }
            Driver.require(consumer.position(partition) == count,
                    "the position is " + consumer.position(partition));
            Driver.require(consumer.endOffsets(Set.of(partition)).get(partition) == count,
                    "the end is another");
        }
        return read;
    }
}
