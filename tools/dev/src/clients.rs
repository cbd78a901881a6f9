//! How each of the real clients is run.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::house::House;
use crate::setup;

/// A client library or tool (tests/clients/README.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    Librdkafka,
    Kcat,
    Java,
    Tools,
    Go,
    Python,
}

impl Client {
    /// The command that runs its driver; `programs` is where cargo puts the workspace's.
    pub fn command(self, house: &House, programs: &Path, broker: &str, prefix: &str) -> Command {
        let scripts = house.path("tests/clients");
        let libs = setup::kafka_libs(house);
        match self {
            Client::Librdkafka => {
                let mut command = house.command(programs.join("thalweg-compare"));
                command.args(["clients", "--broker", broker, "--prefix", prefix]);
                command
            }
            Client::Kcat => {
                let mut command = house.command(scripts.join("kcat/run.sh"));
                command.args([broker, prefix]);
                command
            }
            Client::Java => {
                let mut command = house.command("java");
                let logging = scripts.join("java/log4j2.properties");
                let classes = setup::java_classes(house);
                command
                    .arg("-Xmx256m")
                    .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
                    .arg("-cp")
                    .arg(format!("{}:{}/*", classes.display(), libs.display()))
                    .args(["Driver", broker, prefix]);
                command
            }
            Client::Tools => {
                let mut command = house.command(scripts.join("tools/run.sh"));
                command.args([broker, prefix]).arg(libs);
                command
            }
            Client::Go => {
                let mut command = house.command(setup::go_program(house));
                command.args([broker, prefix]);
                command
            }
            Client::Python => {
                let mut command = house.command(setup::python_program(house));
                command.arg(scripts.join("python/driver.py")).args([broker, prefix]);
                command
            }
        }
    }
}
