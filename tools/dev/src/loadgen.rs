//! The load generator with what Thalweg does not serve yet, tested against Apache Kafka: one with a
//! listener for each security protocol, and one whose transactions are those of before KIP-890.
//! What is checked is in tools/loadgen/tests/real_kafka.rs.

use std::fs;
use std::path::Path;

use crate::broker::{self, Profile, Thalweg};
use crate::house::{During, Failure, House, run, step};
use crate::kafka::{Kafka, Wishes};
use crate::setup;

/// Listeners beside PLAINTEXT, by name, with their protocol. The variable that tells the tests
/// their address has the name in its own.
const LISTENERS: [(&str, &str); 5] = [
    ("SSL", "SSL"),
    ("MUTUAL", "SSL"),
    ("SASL_PLAINTEXT", "SASL_PLAINTEXT"),
    ("SASL_SSL", "SASL_SSL"),
    ("BRIEF", "SASL_PLAINTEXT"), // one mechanism, and sessions of a second
];

const PASSWORD: &str = "opens-sesame=;";

/// Starts the brokers, runs the tests.
pub fn test(house: &House) -> Result<(), Failure> {
    setup::for_kafka(house)?;
    let programs = broker::build(house, Profile::Dev)?;
    let certificates = house.cache("loadgen-certificates");
    let example = ["run", "--quiet", "-p", "thalweg-bench", "--example", "certificates", "--"];
    run(house.cargo(&example).arg(&certificates))?;
    let mut ports = Vec::new();
    while ports.len() <= LISTENERS.len() {
        let port = broker::free_port()?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    let address = |((name, _), port): (&(&str, &str), &u16)| format!("{name}://127.0.0.1:{port}");
    let scram = |hash: &str| format!("SCRAM-SHA-{hash}=[name=alice,password={PASSWORD}]");
    let wishes = Wishes {
        listeners: LISTENERS.iter().zip(&ports[1..]).map(address).collect(),
        settings: settings(&certificates),
        format: ["256", "512"]
            .into_iter()
            .flat_map(|hash| ["--add-scram".to_owned(), scram(hash)])
            .collect(),
    };
    let secured = Kafka::start_with(house, ports[0], &wishes)?;
    let before = ["--feature", "transaction.version=0"].map(str::to_owned).to_vec();
    let wishes = Wishes { format: before, ..Wishes::default() };
    let older = Kafka::start_with(house, broker::free_port()?, &wishes)?;
    let thalweg = Thalweg::start(house, &programs)?;

    step("the load generator's features");
    let words = ["test", "-p", "thalweg-bench", "--test", "real_kafka", "--", "--ignored"];
    let mut tests = house.cargo(&words);
    tests.arg("--test-threads=1");
    for ((name, _), port) in LISTENERS.iter().zip(&ports[1..]) {
        tests.env(format!("BENCH_TEST_{name}"), format!("127.0.0.1:{port}"));
    }
    tests
        .env("BENCH_TEST_PLAINTEXT", secured.address())
        .env("BENCH_TEST_OLDER", older.address())
        .env("BENCH_TEST_THALWEG", thalweg.address())
        .env("BENCH_TEST_CERTIFICATES", &certificates)
        .env("BENCH_TEST_PASSWORD", PASSWORD);
    run(&mut tests)?;
    fs::remove_dir_all(certificates).during("deleting the certificates")
}

/// What Kafka's settings say beyond those of every Kafka here.
fn settings(certificates: &Path) -> Vec<String> {
    let protocols: String =
        LISTENERS.iter().map(|(name, protocol)| format!(",{name}:{protocol}")).collect();
    let pem = |name: &str| certificates.join(name).display().to_string();
    let mut settings = vec![
        format!(
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}"
        ),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", pem("server.pem")),
        "ssl.truststore.type=PEM".to_owned(),
        format!("ssl.truststore.location={}", pem("ca.pem")),
        "listener.name.mutual.ssl.client.auth=required".to_owned(),
        "listener.name.brief.sasl.enabled.mechanisms=SCRAM-SHA-256".to_owned(),
        "listener.name.brief.connections.max.reauth.ms=1000".to_owned(),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned(),
    ];
    let modules = "org.apache.kafka.common.security";
    for listener in ["sasl_plaintext", "sasl_ssl", "brief"] {
        let prefix = format!("listener.name.{listener}");
        settings.push(format!(
            "{prefix}.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required \
             user_alice=\"{PASSWORD}\";"
        ));
        let scram = format!("{modules}.scram.ScramLoginModule required;");
        for hash in ["256", "512"] {
            settings.push(format!("{prefix}.scram-sha-{hash}.sasl.jaas.config={scram}"));
        }
    }
    settings
}
