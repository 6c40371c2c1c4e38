//! Creates a certificate authority and a certificate for localhost, used by `make run TLS=1`.
//!
//! Writes `ca.pem`, `cert.pem` and `key.pem` to the given directory. Not for production: anyone who can read the
//! directory can impersonate this gateway.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: self_signed DIRECTORY")?);
    std::fs::create_dir_all(&directory)?;

    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name.push(DnType::CommonName, "capgate self-signed CA");
    std::fs::write(directory.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;

    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let cert = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    std::fs::write(directory.join("cert.pem"), cert.pem())?;
    std::fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}
