//! Checks the file with the CA certificates that verify the upstream, because Pingora panics if it cannot use one.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};

/// Checks that a file holds certificates in PEM and nothing else.
///
/// # Errors
/// If it cannot be read, or Pingora cannot use it.
pub(super) fn check(file: &str) -> Result<(), String> {
    let refuse = |why: &str| format!("upstream.ca_file {file}: {why}");
    let pem = std::fs::read(file).map_err(|error| refuse(&error.to_string()))?;
    let mut store = RootCertStore::empty();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem) {
        let (kind, der) = section.map_err(|error| refuse(&error.to_string()))?;
        if kind != SectionKind::Certificate {
            return Err(refuse("holds more than certificates, for example a private key, which has no business there"));
        }
        store.add(CertificateDer::from(der)).map_err(|error| refuse(&error.to_string()))?;
    }
    if store.is_empty() { Err(refuse("no certificate in PEM")) } else { Ok(()) }
}
