//! Whole runs under TLS: the null broker behind a TLS server of rustls, with good and bad
//! certificates.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use thalweg_bench::args::{Cli, Command, Idle};
use thalweg_bench::null_broker::{NullOptions, start};
use thalweg_bench::report::Report;
use thalweg_bench::run::{self, RunError, RunSpec};

#[path = "support/certificates.rs"]
mod certificates;

fn server_config(folder: &Path, mutual: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if mutual {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(folder.join("ca.pem")).expect("a certificate");
        roots.add(ca).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let server = folder.join("server.pem");
    let chain = vec![CertificateDer::from_pem_file(&server).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&server).expect("a key");
    builder.with_single_cert(chain, key).expect("a configuration")
}

/// A null broker that is met through TLS; it wants the client's certificate if `mutual`.
fn broker(folder: &Path, mutual: bool) -> SocketAddr {
    let config = Arc::new(server_config(folder, mutual));
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = listener.local_addr().expect("an address");
    let options = NullOptions { keep: true, advertise: Some(addr), ..NullOptions::default() };
    let behind = SocketAddr::from(([127, 0, 0, 1], 0));
    let behind = start(run::allowed_cpus()[0], behind, options).expect("the null broker starts");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let config = config.clone();
            // What one connection suffers is its client's to tell.
            std::thread::spawn(move || forward(client, config, behind));
        }
    });
    addr
}

/// Both directions in turns: good enough for a test's load, and one thread.
fn forward(client: TcpStream, config: Arc<ServerConfig>, to: SocketAddr) -> std::io::Result<()> {
    let mut plain = TcpStream::connect(to)?;
    let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(session, client);
    tls.conn.complete_io(&mut tls.sock)?;
    tls.sock.set_read_timeout(Some(Duration::from_millis(1)))?;
    plain.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut buf = vec![0; 1 << 16];
    loop {
        match tls.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(len) => plain.write_all(&buf[..len])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        match plain.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(len) => tls.write_all(&buf[..len])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        tls.flush()?;
    }
}

fn load(addr: SocketAddr, flags: &str) -> Result<Report, RunError> {
    let line = format!(
        "x run --bootstrap {addr} {flags} --producers 2 --consumers 2 --partitions 2 \
         --record-bytes 5000 --batch-records 20 --rate 1000records/s --warmup 200ms \
         --duration 1s --verify"
    );
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    let cpus = run::allowed_cpus();
    run::execute(&RunSpec {
        cores: vec![*cpus.last().expect("a CPU")],
        idle: Idle::Park, // tests share their machine
        quiet: true,
        ..run::spec_of(&args, args.workload.only().expect("one"))
    })
}

#[test]
fn a_run_under_tls_brings_every_record_back_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates::write(folder.path()).expect("certificates");
    let dir = folder.path().display();
    let plain = broker(folder.path(), false);
    let mutual = broker(folder.path(), true);
    for (addr, flags) in [
        (plain, format!("--tls --tls-ca {dir}/ca.pem")),
        (plain, format!("--tls --tls-ca {dir}/ca.pem --tls-server-name localhost")),
        (plain, "--tls --tls-insecure".to_owned()),
        (
            mutual,
            format!(
                "--tls --tls-ca {dir}/ca.pem --tls-cert {dir}/client.pem --tls-key {dir}/client.key"
            ),
        ),
    ] {
        let report = load(addr, &flags).expect("the run takes place");
        let found = report.verification.as_ref().expect("it was asked for");
        // 100 KB a batch: several TLS records each.
        assert!(!report.failed() && found.acked_records >= 900, "{flags}: {found:?}");
        assert_eq!(found.acked_records, found.seen_records, "{flags}");
        let security = &report.target.security;
        assert_eq!(security.protocol, "SSL");
        assert!(security.encryption.as_ref().is_some_and(|it| it.starts_with("TLSv1_3 TLS13_")));
    }
}

#[test]
fn a_peer_that_is_not_trusted_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates::write(folder.path()).expect("certificates");
    let dir = folder.path().display();
    let plain = broker(folder.path(), false);
    let mutual = broker(folder.path(), true);
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let bare = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        // What does not begin like a frame is not read to its end.
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4]);
        }
    });
    for (addr, flags, reason) in [
        (plain, format!("--tls --tls-ca {dir}/other-ca.pem"), "UnknownIssuer"),
        (
            plain,
            format!("--tls --tls-ca {dir}/ca.pem --tls-server-name example.org"),
            "--tls-server-name",
        ),
        (mutual, format!("--tls --tls-ca {dir}/ca.pem"), "CertificateRequired"),
        (bare, "--tls --tls-insecure".to_owned(), "does this listener speak TLS?"),
        (plain, String::new(), "--tls"),
        (plain, "--tls --tls-ca /nowhere".to_owned(), "--tls-ca /nowhere: "),
    ] {
        let error = load(addr, &flags).expect_err(&flags).to_string();
        assert!(error.contains(reason), "{flags}: {error}");
    }
}
