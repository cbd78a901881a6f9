//! Everything that can be said about the source without running the broker.

use crate::house::{self, Failure, House, step};
use crate::setup;

pub fn run(house: &House) -> Result<(), Failure> {
    setup::for_checks(house)?;
    step("formatting");
    run_cargo(house, &["fmt", "--all", "--check"])?;
    step("lints");
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_cargo(house, &lints)?;
    // A workspace of its own, which only a campaign builds.
    let targets = house.path("tools/fuzz/Cargo.toml");
    let mut fuzz = house.cargo(&["check", "--quiet", "--target-dir"]);
    fuzz.arg(house.target("fuzz-targets")).arg("--manifest-path").arg(targets);
    house::run(&mut fuzz)?;
    step("tidy: floors, sizes, routes");
    let tidy = ["test", "--quiet", "--workspace", "--test", "tidy", "--", "--nocapture"];
    run_cargo(house, &tidy)?;
    step("licences, bans and sources of dependencies");
    run_cargo(house, &["deny", "--all-features", "check", "bans", "licenses", "sources"])?;
    step("unused dependencies");
    house::run(house.command("cargo-machete").arg("--skip-target-dir"))?;
    step("spelling");
    house::run(&mut house.command("typos"))?;
    step("documentation");
    let mut doc = house.cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    house::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn run_cargo(house: &House, words: &[&str]) -> Result<(), Failure> {
    house::run(&mut house.cargo(words))
}
