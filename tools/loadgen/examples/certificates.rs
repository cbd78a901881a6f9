//! Makes the certificates for tests with TLS, in PEM, in the folder that is named:
//!
//! `ca.pem` signs `server.pem` (key and certificate in one file, as Kafka reads it; for 127.0.0.1
//! and localhost) and `client.pem` with `client.key`; `other-ca.pem` signs nothing.

use std::error::Error;
use std::path::Path;

#[path = "../tests/support/certificates.rs"]
mod certificates;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: certificates FOLDER")?;
    certificates::write(Path::new(&folder))
}
