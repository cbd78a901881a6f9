//! Installs what a fresh Debian machine lacks: packages with apt (as root; otherwise it says what
//! to install), everything else into the cache folder, at pinned versions.

use std::fs;
use std::path::PathBuf;

use crate::house::{During, Failure, House, run, step};
use crate::versions::{
    BROWSER_PACKAGES, BUILD_PACKAGES, CARGO_DENY, CARGO_FUZZ, CARGO_MACHETE, CHECK_PACKAGES,
    CLIENT_PACKAGES, CargoTool, EXT4_PACKAGES, GO_TOOLCHAIN, KAFKA, Package, TYPOS, XFS_PACKAGES,
};

pub fn everything(house: &House) -> Result<(), Failure> {
    for_checks(house)?;
    for_clients(house)?;
    for_pages(house)?;
    for_fuzzing(house)
}

/// What `cargo dev check` needs.
pub fn for_checks(house: &House) -> Result<(), Failure> {
    step("setup for the checks");
    packages(house, &[&BUILD_PACKAGES, &CHECK_PACKAGES])?;
    cargo_tool(house, &CARGO_DENY)?;
    cargo_tool(house, &CARGO_MACHETE)?;
    python(house)
}

/// What the real clients and Apache Kafka need.
pub fn for_clients(house: &House) -> Result<(), Failure> {
    step("setup for the real clients");
    packages(house, &[&BUILD_PACKAGES, &CLIENT_PACKAGES])?;
    kafka_jars(house)?;
    java_driver(house)?;
    go_driver(house)?;
    python(house)
}

/// What the test of the load generator's pages needs: a browser. `BENCH_BROWSER` names another one,
/// `BENCH_SKIP_BROWSER=1` goes without (tools/loadgen/tests/browser).
pub fn for_pages(house: &House) -> Result<(), Failure> {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if is_set("BENCH_BROWSER") || is_set("BENCH_SKIP_BROWSER") {
        return Ok(());
    }
    step("setup for the pages");
    packages(house, &[&BROWSER_PACKAGES])
}

/// What power cuts on ext4 need.
pub fn for_ext4(house: &House) -> Result<(), Failure> {
    packages(house, &[&EXT4_PACKAGES])
}

/// What power cuts on XFS need.
pub fn for_xfs(house: &House) -> Result<(), Failure> {
    packages(house, &[&XFS_PACKAGES])
}

/// What fuzzing needs.
pub fn for_fuzzing(house: &House) -> Result<(), Failure> {
    step("setup for fuzzing");
    packages(house, &[&BUILD_PACKAGES])?;
    cargo_tool(house, &CARGO_FUZZ)
}

/// Only what Apache Kafka itself needs.
pub fn for_kafka(house: &House) -> Result<(), Failure> {
    packages(house, &[&CLIENT_PACKAGES[1..3]])?;
    kafka_jars(house)
}

fn packages(house: &House, lists: &[&[Package]]) -> Result<(), Failure> {
    let mut missing: Vec<&str> = lists
        .iter()
        .flat_map(|list| list.iter())
        .filter(|package| !house.probe(package.probe))
        .map(|package| package.name)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let uid = fs::metadata("/proc/self").during("reading /proc/self")?;
    if std::os::unix::fs::MetadataExt::uid(&uid) != 0 {
        return Err(Failure(format!(
            "not root, and these packages are missing. Install them, then try again:\n    \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        )));
    }
    run(house.command("apt-get").arg("-qq").arg("update"))?;
    run(house
        .command("apt-get")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn cargo_tool(house: &House, tool: &CargoTool) -> Result<(), Failure> {
    let root = house.cache("tools");
    let marker = root.join(format!("{}-{}", tool.krate, tool.version));
    if marker.exists() && root.join("bin").join(tool.program).exists() {
        return Ok(());
    }
    // Unoptimised: these tools run for a second or two and compile for minutes.
    run(house
        .cargo(&["install", "--quiet", "--locked", "--debug", "--force", "--root"])
        .arg(&root)
        .arg("--target-dir")
        .arg(house.cache("tools/target"))
        .arg(format!("{}@{}", tool.krate, tool.version))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("CARGO_TARGET_DIR"))?;
    done(marker)
}

/// The folder of Apache Kafka's jars, with the client's.
pub fn kafka_libs(house: &House) -> PathBuf {
    match std::env::var_os("KAFKA_LIBS") {
        Some(libs) => PathBuf::from(libs),
        None => house.cache(&format!("kafka-{KAFKA}")),
    }
}

fn kafka_jars(house: &House) -> Result<(), Failure> {
    let libs = kafka_libs(house);
    let pom = house.path("tests/clients/java/pom.xml");
    let text = fs::read_to_string(&pom).during("reading the pom")?;
    if !text.contains(&format!("<kafka.version>{KAFKA}<")) {
        return Err(Failure::new("tests/clients/java/pom.xml names another version of Kafka"));
    }
    if libs.join(format!("kafka_2.13-{KAFKA}.jar")).exists() && libs.join(".complete").exists() {
        return Ok(());
    }
    run(house
        .command("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-f"])
        .arg(pom)
        .arg(format!("-DoutputDirectory={}", libs.display())))?;
    done(libs.join(".complete"))
}

/// Where the Java driver's classes are.
pub fn java_classes(house: &House) -> PathBuf {
    house.cache("java-driver")
}

fn java_driver(house: &House) -> Result<(), Failure> {
    let folder = house.path("tests/clients/java");
    let mut sources = Vec::new();
    for entry in fs::read_dir(&folder).during("reading the Java driver")? {
        let path = entry.during("reading the Java driver")?.path();
        if path.extension().is_some_and(|extension| extension == "java") {
            sources.push(path);
        }
    }
    run(house
        .command("javac")
        .arg("-d")
        .arg(java_classes(house))
        .arg("-cp")
        .arg(format!("{}/*", kafka_libs(house).display()))
        .args(sources))
}

/// The Go driver's program.
pub fn go_program(house: &House) -> PathBuf {
    house.cache("go-driver")
}

fn go_driver(house: &House) -> Result<(), Failure> {
    let go = go_command(house)?;
    run(house
        .command(go)
        .args(["build", "-o"])
        .arg(go_program(house))
        .arg(".")
        .current_dir(house.path("tests/clients/go"))
        // `go.mod` names the version; a newer installed Go is taken as it is.
        .env("GOTOOLCHAIN", "auto")
        .env("GOFLAGS", "-mod=readonly"))
}

/// The installed Go, if it is new enough to fetch the toolchain that go.mod asks for (1.21);
/// otherwise that toolchain, fetched as the module that it is.
fn go_command(house: &House) -> Result<PathBuf, Failure> {
    let output = house.command("go").arg("version").output().during("go version")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let minor = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."))
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= 21) {
        return Ok(PathBuf::from("go"));
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let module = format!("golang.org/toolchain@v0.0.1-{GO_TOOLCHAIN}.linux-{architecture}");
    let modules = house.cache("go-toolchain");
    let program = modules.join(&module).join("bin/go");
    if !program.exists() {
        let fetch = ["mod", "download", module.as_str()];
        // The checksum database of such an old Go does not know toolchains by this name; go.sum
        // and the new toolchain check the driver's own modules.
        run(house
            .command("go")
            .args(fetch)
            .env("GOMODCACHE", &modules)
            .env("GOFLAGS", "-modcacherw")
            .current_dir(house.cache("")))?;
        let folder = modules.join(&module);
        run(house.command("chmod").args(["-R", "u+x"]).arg(folder.join("bin")))?;
        run(house.command("chmod").args(["-R", "u+x"]).arg(folder.join("pkg/tool")))?;
    }
    Ok(program)
}

/// The Python of the cache's virtual environment, with kafka-python and typos.
pub fn python_program(house: &House) -> PathBuf {
    house.cache("python/bin/python")
}

fn python(house: &House) -> Result<(), Failure> {
    let requirements = house.path("tests/clients/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements).during("reading requirements.txt")? + TYPOS;
    let marker = house.cache("python/installed.txt");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run(house.command("python3").args(["-m", "venv", "--clear"]).arg(house.cache("python")))?;
    run(house
        .command(python_program(house))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements)
        .arg(TYPOS))?;
    fs::write(marker, wanted).during("writing a marker")
}

fn done(marker: PathBuf) -> Result<(), Failure> {
    fs::write(marker, "").during("writing a marker")
}
