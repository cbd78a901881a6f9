import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The records of README.md. */
final class Sample {
    static final int COUNT = 40;
    static final long BASE_TIMESTAMP = 1_700_000_000_000L;
    private static final int[] SIZES =
            {0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 16384, 65536, 204800};

    private Sample() {}

    static byte[] value(int i) {
        if (i % 13 == 7) {
            return null;
        }
        byte[] value = new byte[SIZES[i % 12]];
        for (int j = 0; j < value.length; j++) {
            value[j] = (byte) (i % 2 == 0 ? i * 31 + j * 7 + (j >> 8) : 'a' + j % 3);
        }
        return value;
    }

    static byte[] key(int i) {
        if (i % 4 == 0) {
            return null;
        }
        if (i % 4 == 1) {
            return new byte[0];
        }
        ByteArrayOutputStream key = new ByteArrayOutputStream();
        key.writeBytes(text("key-" + i));
        key.write(0);
        key.write(255);
        key.write(i);
        return key.toByteArray();
    }

    static List<Header> headers(int i) {
        List<Header> headers = new ArrayList<>();
        switch (i % 5) {
            case 1 -> headers.add(new RecordHeader("h", text("v-" + i)));
            case 2 -> {
                headers.add(new RecordHeader("d", text("1")));
                headers.add(new RecordHeader("d", text("2")));
                headers.add(new RecordHeader("d", text("1")));
            }
            case 3 -> {
                headers.add(new RecordHeader("empty", new byte[0]));
                headers.add(new RecordHeader("null", (byte[]) null));
            }
            case 4 -> {
                byte[] value = new byte[300];
                Arrays.fill(value, (byte) 255);
                headers.add(new RecordHeader("", text("")));
                headers.add(new RecordHeader("long", value));
            }
            default -> { }
        }
        return headers;
    }

    static long timestamp(int i) {
        return BASE_TIMESTAMP + i * 1000L - (i % 7 == 3 ? 30_000 : 0);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int i) {
        return new ProducerRecord<>(topic, 0, timestamp(i), key(i), value(i), headers(i));
    }

    /** Throws where the record that was read is not record {@code i} at offset {@code i}. */
    static void verify(int i, ConsumerRecord<byte[], byte[]> read) {
        Driver.require(read.offset() == i, "record " + i + " has offset " + read.offset());
        Driver.require(read.timestamp() == timestamp(i),
                "record " + i + " has timestamp " + read.timestamp());
        Driver.require(Arrays.equals(read.key(), key(i)), "record " + i + " has another key");
        Driver.require(Arrays.equals(read.value(), value(i)), "record " + i + " has another value");
        Driver.require(Arrays.asList(read.headers().toArray()).equals(headers(i)),
                "record " + i + " has other headers: " + read.headers());
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
