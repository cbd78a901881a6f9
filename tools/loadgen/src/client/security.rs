//! The flags of TLS and SASL, and what is loaded for them before a run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::Serialize;

use super::sasl::{Credentials, Mechanism};

/// Where the password comes from if no file is named.
pub const PASSWORD_VARIABLE: &str = "THALWEG_BENCH_SASL_PASSWORD";

/// How connections are secured.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub struct SecurityArgs {
    /// Connect under TLS.
    #[arg(long)]
    pub tls: bool,
    /// PEM file with the certificates of the authorities to trust. Default: those that this machine
    /// trusts.
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with the client's certificate and its chain.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the client's private key, not encrypted.
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The name that the brokers' certificates are for. Default: the name that each is reached by.
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub tls_server_name: Option<String>,
    /// Take any certificate of anybody: encrypted, but to whom is not known.
    #[arg(long, requires = "tls", conflicts_with = "tls_ca")]
    pub tls_insecure: bool,
    /// Authenticate with SASL.
    #[arg(long, value_name = "NAME", requires = "sasl_user")]
    pub sasl_mechanism: Option<Mechanism>,
    /// User to authenticate as. The password is in the environment variable
    /// THALWEG_BENCH_SASL_PASSWORD, or in the file of --sasl-password-file.
    #[arg(long, value_name = "NAME", requires = "sasl_mechanism")]
    pub sasl_user: Option<String>,
    /// File with the password (a newline at its end is no part of it).
    #[arg(long, value_name = "FILE", requires = "sasl_mechanism")]
    #[serde(skip)]
    pub sasl_password_file: Option<PathBuf>,
}

/// Keys, certificates, passwords: loaded.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// For connections under TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The name to expect of every broker.
    pub server_name: Option<ServerName<'static>>,
    /// For SASL.
    pub credentials: Option<Credentials>,
}

impl SecurityArgs {
    /// The name of the protocol in Kafka's configuration.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match (self.tls, self.sasl_mechanism) {
            (false, None) => "PLAINTEXT",
            (true, None) => "SSL",
            (false, Some(_)) => "SASL_PLAINTEXT",
            (true, Some(_)) => "SASL_SSL",
        }
    }

    /// Reads the files and the environment.
    ///
    /// # Errors
    /// Which file or name, and what is wrong with it.
    pub fn load(&self) -> Result<Security, String> {
        let tls = if self.tls { Some(Arc::new(self.client_config()?)) } else { None };
        let server_name = match &self.tls_server_name {
            None => None,
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("--tls-server-name: `{name}` is no host name"))?,
            ),
        };
        let credentials = match (self.sasl_mechanism, &self.sasl_user) {
            (Some(mechanism), Some(user)) => {
                Some(Credentials::new(mechanism, user.clone(), &self.password()?))
            }
            _ => None,
        };
        Ok(Security { tls, server_name, credentials })
    }

    fn password(&self) -> Result<String, String> {
        let Some(path) = &self.sasl_password_file else {
            return std::env::var(PASSWORD_VARIABLE).map_err(|_| {
                format!(
                    "--sasl-user needs a password: --sasl-password-file, or {PASSWORD_VARIABLE}"
                )
            });
        };
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--sasl-password-file {}: {error}", path.display()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }

    fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("--tls: {error}"))?;
        let builder = if self.tls_insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(self.authorities()?)
        };
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("--tls-cert", cert)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                    format!("--tls-key {}: no private key in PEM: {error}", key.display())
                })?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| format!("--tls-cert {}: {error}", cert.display()))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.tls_ca else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "--tls: this machine trusts no authority; name one with --tls-ca".into()
                );
            }
            return Ok(roots);
        };
        for certificate in certificates("--tls-ca", path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("--tls-ca {}: {error}", path.display()))?;
        }
        Ok(roots)
    }
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |why: &dyn fmt::Display| format!("{flag} {}: {why}", path.display());
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?.collect();
    let found = found.map_err(|error| failed(&error))?;
    if found.is_empty() { Err(failed(&"no certificate in PEM")) } else { Ok(found) }
}

/// Takes every certificate, as `--tls-insecure` asks; signatures are checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_loaded_is_named_with_its_flag_and_file() {
        let missing = PathBuf::from("/nowhere/x.pem");
        let tls = SecurityArgs { tls: true, ..SecurityArgs::default() };
        let ca = SecurityArgs { tls_ca: Some(missing.clone()), ..tls.clone() };
        let error = ca.load().expect_err("there is no such file");
        assert!(error.starts_with("--tls-ca /nowhere/x.pem: "), "{error}");

        let empty = tempfile::NamedTempFile::new().expect("a file");
        let ca = SecurityArgs { tls_ca: Some(empty.path().to_owned()), ..tls };
        let error = ca.load().expect_err("nothing is in it");
        assert!(error.contains("no certificate in PEM"), "{error}");

        let sasl = SecurityArgs {
            sasl_mechanism: Some(Mechanism::Plain),
            sasl_user: Some("alice".to_owned()),
            sasl_password_file: Some(missing),
            ..SecurityArgs::default()
        };
        let error = sasl.load().expect_err("there is no such file");
        assert!(error.starts_with("--sasl-password-file /nowhere/x.pem: "), "{error}");
    }

    #[test]
    fn the_password_comes_from_its_file_without_the_newline_and_is_never_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "pass word \r\n").expect("written");
        let args = SecurityArgs {
            sasl_mechanism: Some(Mechanism::ScramSha512),
            sasl_user: Some("alice".to_owned()),
            sasl_password_file: Some(file.path().to_owned()),
            ..SecurityArgs::default()
        };
        assert_eq!(args.password().as_deref(), Ok("pass word "));
        let shown = format!("{:?} {:?}", args, args.load().expect("loads"));
        assert!(!shown.contains("pass word"), "{shown}");
    }
}
