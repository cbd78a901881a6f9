//! DescribeConfigs and IncrementalAlterConfigs.

use kafka_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::differential::script::{Script, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub fn run(script: &mut Script) {
    script.create("configs", 1, &[("retention.ms", "7200000")]);
    describe(script);
    describe_refusals(script);
    alter(script);
    alter_refusals(script);
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
}

fn request(resource: DescribeConfigsResource) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn describe(script: &mut Script) {
    let topic = script.topic("configs").0.to_string();
    let some = ["retention.ms", "max.message.bytes", "no.such.config", "compression.type"];
    for version in 1..=4 {
        let asked = request(resource(TOPIC, &topic, None));
        script.ask(&format!("describe configs v{version}"), version, &asked);
        let asked = asked.with_include_synonyms(true);
        script.ask(&format!("describe configs v{version}, synonyms"), version, &asked);
        let asked = request(resource(TOPIC, &topic, Some(&some)));
        script.ask(&format!("describe configs v{version}, some"), version, &asked);
        let asked = request(resource(TOPIC, &topic, Some(&[])));
        script.ask(&format!("describe configs v{version}, none"), version, &asked);
        if version >= 3 {
            let asked =
                request(resource(TOPIC, &topic, Some(&some))).with_include_documentation(true);
            let case = format!("describe configs v{version}, documentation");
            script.ask(&case, version, &asked);
        }
    }
    let node = script.node().to_string();
    let keys = [
        "num.partitions",
        "default.replication.factor",
        "auto.create.topics.enable",
        "log.retention.ms",
        "log.retention.hours",
        "log.segment.bytes",
        "message.max.bytes",
        "log.cleanup.policy",
        "compression.type",
        "min.insync.replicas",
        "log.message.timestamp.type",
    ];
    let asked = request(resource(BROKER, &node, Some(&keys))).with_include_synonyms(true);
    script.ask("describe configs v4, broker", 4, &asked);
    let asked = request(resource(BROKER, "", Some(&keys))).with_include_synonyms(true);
    script.ask("describe configs v4, all brokers", 4, &asked);
}

fn describe_refusals(script: &mut Script) {
    let missing = script.topic("missing").0.to_string();
    for (what, kind, name) in [
        ("missing topic", TOPIC, missing.as_str()),
        ("bad topic", TOPIC, "a b"),
        ("empty topic", TOPIC, ""),
        ("another broker", BROKER, "9999"),
        ("no broker number", BROKER, "one"),
        ("unknown type", 99, "x"),
        ("type zero", 0, "x"),
        ("broker logger, another broker", 8, "9999"),
    ] {
        for version in [1, 4] {
            let asked = request(resource(kind, name, None));
            script.ask(&format!("describe configs v{version}, {what}"), version, &asked);
        }
    }
    let topic = script.topic("configs").0.to_string();
    let one = resource(TOPIC, &topic, Some(&["retention.ms"]));
    let twice = DescribeConfigsRequest::default().with_resources(vec![one.clone(), one]);
    script.ask("describe configs v4, a topic twice", 4, &twice);
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn op(name: &str, operation: i8, value: Option<&str>) -> AlterableConfig {
    AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(operation)
        .with_value(value.map(text))
}

fn altered(kind: i8, name: &str, configs: Vec<AlterableConfig>) -> IncrementalAlterConfigsRequest {
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs);
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

fn alter(script: &mut Script) {
    let topic = script.topic("configs").0.to_string();
    for version in 0..=1 {
        for (what, operation) in [
            ("set", op("max.message.bytes", SET, Some("2000000"))),
            ("delete", op("max.message.bytes", DELETE, None)),
            ("append", op("cleanup.policy", APPEND, Some("compact"))),
            ("append again", op("cleanup.policy", APPEND, Some("compact"))),
            ("subtract", op("cleanup.policy", SUBTRACT, Some("delete"))),
            ("subtract what is not there", op("cleanup.policy", SUBTRACT, Some("delete"))),
            ("delete what is not set", op("segment.ms", DELETE, None)),
            ("reset", op("cleanup.policy", DELETE, None)),
        ] {
            let altered = altered(TOPIC, &topic, vec![operation]);
            let case = format!("alter configs v{version}, {what}");
            script.ask(&case, version, &altered);
            std::thread::sleep(std::time::Duration::from_millis(100));
            let keys = ["max.message.bytes", "cleanup.policy"];
            let asked = request(resource(TOPIC, &topic, Some(&keys)));
            script.ask(&format!("{case}, then"), 4, &asked);
        }
    }
    let only = altered(TOPIC, &topic, vec![op("segment.ms", SET, Some("1000000"))])
        .with_validate_only(true);
    script.ask("alter configs v1, validate only", 1, &only);
    let asked = request(resource(TOPIC, &topic, Some(&["segment.ms"])));
    script.ask("alter configs v1, validate only, then", 4, &asked);
}

fn alter_refusals(script: &mut Script) {
    let topic = script.topic("configs").0.to_string();
    let missing = script.topic("missing").0.to_string();
    let good = op("retention.ms", SET, Some("1000"));
    for (what, request) in [
        ("missing topic", altered(TOPIC, &missing, vec![good.clone()])),
        ("bad topic", altered(TOPIC, "a b", vec![good.clone()])),
        ("empty topic", altered(TOPIC, "", vec![good.clone()])),
        ("another broker", altered(BROKER, "9999", vec![good.clone()])),
        ("no broker number", altered(BROKER, "one", vec![good.clone()])),
        ("unknown type", altered(99, "x", vec![good.clone()])),
        ("unknown operation", altered(TOPIC, &topic, vec![op("retention.ms", 9, Some("1"))])),
        ("unknown config", altered(TOPIC, &topic, vec![op("no.such", SET, Some("1"))])),
        ("bad value", altered(TOPIC, &topic, vec![op("retention.ms", SET, Some("soon"))])),
        ("null value", altered(TOPIC, &topic, vec![op("retention.ms", SET, None)])),
        ("append to no list", altered(TOPIC, &topic, vec![op("retention.ms", APPEND, Some("1"))])),
        ("a config twice", altered(TOPIC, &topic, vec![good.clone(), good.clone()])),
        ("nothing", altered(TOPIC, &topic, Vec::new())),
        ("one good, one bad", altered(TOPIC, &topic, vec![good, op("no.such", SET, Some("1"))])),
    ] {
        script.ask(&format!("alter configs v1, {what}"), 1, &request);
    }
    let mut twice = altered(TOPIC, &topic, vec![op("retention.ms", SET, Some("1000"))]);
    twice.resources.push(twice.resources[0].clone());
    script.ask("alter configs v1, a topic twice", 1, &twice);
}
