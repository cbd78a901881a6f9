//! The versions of all that `cargo dev setup` brings. Libraries of the client drivers are pinned
//! where their own tools want it: tests/clients/java/pom.xml (Apache Kafka itself too), go/go.mod
//! with go.sum, python/requirements.txt, and Cargo.lock for librdkafka. What comes from Debian has
//! the version of the Debian release.

/// A tool from crates.io: crate and version.
pub struct CargoTool {
    pub krate: &'static str,
    pub program: &'static str,
    pub version: &'static str,
}

/// Licences, sources and bans of dependencies.
pub const CARGO_DENY: CargoTool =
    CargoTool { krate: "cargo-deny", program: "cargo-deny", version: "0.20.2" };
/// Dependencies that nothing uses.
pub const CARGO_MACHETE: CargoTool =
    CargoTool { krate: "cargo-machete", program: "cargo-machete", version: "0.9.2" };
/// Runs the fuzz targets.
pub const CARGO_FUZZ: CargoTool =
    CargoTool { krate: "cargo-fuzz", program: "cargo-fuzz", version: "0.13.2" };

/// Spelling, from PyPI: the same program as the crate `typos-cli`, already built.
pub const TYPOS: &str = "typos==1.52.0";

/// Apache Kafka, as in tests/clients/java/pom.xml.
pub const KAFKA: &str = "4.3.0";

/// The Go that the driver is built with where the installed one is older; the Go module proxy
/// serves it as a module.
pub const GO_TOOLCHAIN: &str = "go1.26.0";

/// A Debian package and what shows that it is there.
pub struct Package {
    pub name: &'static str,
    pub probe: &'static [&'static str],
}

const fn package(name: &'static str, probe: &'static [&'static str]) -> Package {
    Package { name, probe }
}

/// For the broker and everything in Rust; cmake and make for librdkafka and zstd.
pub const BUILD_PACKAGES: [Package; 3] = [
    package("build-essential", &["c++", "--version"]),
    package("pkg-config", &["pkg-config", "--version"]),
    package("cmake", &["cmake", "--version"]),
];

/// For the real clients and for Apache Kafka.
pub const CLIENT_PACKAGES: [Package; 5] = [
    package("kcat", &["kcat", "-V"]),
    package("default-jdk-headless", &["javac", "-version"]),
    package("maven", &["mvn", "--version"]),
    package("golang-go", &["go", "version"]),
    package("python3-venv", &["python3", "-c", "import venv, ensurepip"]),
];

/// For the checks.
pub const CHECK_PACKAGES: [Package; 1] =
    [package("python3-venv", &["python3", "-c", "import venv, ensurepip"])];

/// For opening the load generator's pages: the smallest browser that Debian has (100 MB to fetch).
pub const BROWSER_PACKAGES: [Package; 1] =
    [package("chromium-headless-shell", &["chromium-headless-shell", "--version"])];

/// For power cuts on ext4.
pub const EXT4_PACKAGES: [Package; 1] = [package("e2fsprogs", &["mkfs.ext4", "-V"])];

/// For power cuts on XFS.
pub const XFS_PACKAGES: [Package; 1] = [package("xfsprogs", &["mkfs.xfs", "-V"])];
