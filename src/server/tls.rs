//! TLS settings from a certificate and a key in PEM files.

use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain in PEM.
    pub cert: String,
    /// Private key in PEM, not encrypted.
    pub key: String,
}

impl TlsFiles {
    /// Loads the settings of a listener: TLS 1.2 and 1.3, HTTP/2 by ALPN.
    ///
    /// # Errors
    /// If a file cannot be read or holds no PEM of its kind, or the key does not belong to the certificate. The text names
    /// the files.
    pub fn load(&self) -> Result<Acceptor, String> {
        let Self { cert, key } = self;
        let refuse = |why: String| format!("tls.cert {cert} and tls.key {key}: {why}");
        let chain = load_chain(cert).map_err(refuse)?;
        let private_key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| refuse(describe(&error, key, "private key")))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
            .map_err(|error| refuse(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor::from_server_config(Arc::new(config)))
    }
}

fn load_chain(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(chain) if chain.is_empty() => Err(format!("{file} holds no certificate in PEM")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(describe(&error, file, "certificate")),
    }
}

fn describe(error: &pem::Error, file: &str, kind: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("{file} holds no {kind} in PEM, or an encrypted one"),
        error => format!("{file}: {error}"),
    }
}
