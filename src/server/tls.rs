//! TLS settings from a certificate and a key in PEM files.

use pingora::listeners::tls::TlsSettings;

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain in PEM.
    pub cert: String,
    /// Private key in PEM.
    pub key: String,
}

impl TlsFiles {
    /// Loads the settings of a listener: TLS 1.2 and 1.3, HTTP/2 by ALPN.
    ///
    /// # Errors
    /// If a file cannot be read or contains no PEM block of its type; the text names the files.
    pub fn load(&self) -> Result<TlsSettings, String> {
        let Self { cert, key } = self;
        let refuse = |why: &str| format!("tls.cert {cert} and tls.key {key}: {why}");
        check_pem(cert, "CERTIFICATE").and_then(|()| check_pem(key, "PRIVATE KEY")).map_err(|why| refuse(&why))?;
        let mut settings = TlsSettings::intermediate(cert, key).map_err(|error| refuse(error.etype().as_str()))?;
        settings.enable_h2();
        Ok(settings)
    }
}

/// Checks a PEM file, because Pingora panics on a file that it can read but not use.
fn check_pem(file: &str, label: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    if text.contains(&format!("{label}-----")) {
        Ok(())
    } else {
        Err(format!("{file} holds no {} in PEM", label.to_ascii_lowercase()))
    }
}
