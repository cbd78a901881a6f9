import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.utils.AppInfoParser;

/** Runs every case and prints one JSON line for each; exits with 1 if one failed. */
public final class Driver {
    interface Case {
        void run() throws Exception;
    }

    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final List<String> ACKS = List.of("0", "1", "all");
    private static int failed = 0;

    private Driver() {}

    public static void main(String[] args) {
        if (args.length != 2) {
            System.err.println("usage: Driver HOST:PORT TOPIC-PREFIX");
            System.exit(2);
        }
        String broker = args[0];
        String prefix = args[1] + "-java";
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", broker))) {
            RoundTrip trip = new RoundTrip(broker, admin);
            for (String codec : CODECS) {
                for (String acks : ACKS) {
                    String topic = prefix + "-" + codec + "-" + acks;
                    run("round trip " + codec + " acks=" + acks, () -> trip.run(topic, codec, acks));
                }
            }
            new AdminCases(broker, admin, prefix + "-admin").run();
        }
        System.exit(failed == 0 ? 0 : 1);
    }

    static void run(String name, Case body) {
        long start = System.nanoTime();
        String error = null;
        try {
            body.run();
        } catch (Exception | AssertionError e) {
            error = e.toString();
            failed++;
        }
        long ms = (System.nanoTime() - start) / 1_000_000;
        System.out.printf("{\"client\":\"java %s\",\"case\":%s,\"ok\":%b,\"ms\":%d,\"error\":%s}%n",
                AppInfoParser.getVersion(), json(name), error == null, ms, json(error));
    }

    static void require(boolean holds, String message) {
        if (!holds) {
            throw new AssertionError(message);
        }
    }

    private static String json(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < 0x20) {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
