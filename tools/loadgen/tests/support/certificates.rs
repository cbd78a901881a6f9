//! Certificates for tests, made where they are needed: none is kept, so none expires.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Writes `ca.pem`, `server.pem`, `client.pem`, `client.key` and `other-ca.pem`.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let put = |name: &str, text: String| fs::write(folder.join(name), text);
    let ca = authority("thalweg-bench tests")?;
    put("ca.pem", ca.pem())?;
    put("other-ca.pem", authority("somebody else")?.pem())?;

    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let (cert, key) = signed(&ca, "broker", names, ExtendedKeyUsagePurpose::ServerAuth)?;
    put("server.pem", key + &cert)?;
    let (cert, key) = signed(&ca, "client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
    put("client.pem", cert)?;
    put("client.key", key)?;
    Ok(())
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Certificate and key, in PEM.
fn signed(
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, ca)?;
    Ok((cert.pem(), key.serialize_pem()))
}
