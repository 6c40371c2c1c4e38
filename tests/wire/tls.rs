//! TLS and HTTP/2, downstream and upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::sandbox;
use crate::support::http::{get, read_response};
use crate::support::process::Process;

/// A self-signed certificate for localhost, in files that live as long as this value.
pub(super) struct Certificate {
    pub(super) cert_path: String,
    pub(super) key_path: String,
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    _folder: tempfile::TempDir,
}

impl Certificate {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let write = |name: &str, pem: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).expect("written");
            path.display().to_string()
        };
        let cert_path = write("cert.pem", certified.cert.pem());
        let key_path = write("key.pem", certified.signing_key.serialize_pem());
        Self { cert_path, key_path, certified, _folder: folder }
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.certified.cert.der().clone()
    }

    /// The environment of a gateway with this certificate and the embedded sandbox.
    pub(super) fn sandbox(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let tls = [("CAPGATE_TLS_CERT", self.cert_path.as_str()), ("CAPGATE_TLS_KEY", self.key_path.as_str())];
        sandbox(&[&tls, settings].concat())
    }
}

#[tokio::test]
async fn cleartext_http2_is_accepted() {
    let mut process = Process::start("run", &sandbox(&[])).await;
    let stream = TcpStream::connect(process.http).await.expect("a connection");
    assert_eq!(h2_get(stream, "http").await, (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));
    process.stop().await;
}

#[tokio::test]
async fn https_serves_http1_and_http2() {
    let certificate = Certificate::new();
    let mut process = Process::start("run", &certificate.sandbox(&[])).await;
    let https = process.https.expect("an HTTPS listener");

    let mut stream = tls_connect(https, certificate.der(), b"http/1.1").await;
    let request = b"GET /res.php?key=K&action=get&id=x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("written");
    let response = read_response(&mut stream).await.expect("a response");
    assert_eq!((response.status, response.body), (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));

    let stream = tls_connect(https, certificate.der(), b"h2").await;
    assert_eq!(h2_get(stream, "https").await, (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));
    process.stop().await;
}

/// A second gateway serves as the upstream. It has no native endpoints, so its 404 proves a verified connection and a
/// call that was not accepted. Without the certificate there is no connection.
#[tokio::test]
async fn the_upstream_certificate_is_verified() {
    let certificate = Certificate::new();
    let mut upstream = Process::start("run", &certificate.sandbox(&[])).await;
    let url = format!("https://localhost:{}", upstream.https.expect("an HTTPS listener").port());
    for (ca_file, result) in [(certificate.cert_path.as_str(), "unusable"), ("", "connect")] {
        let settings = [("CAPGATE_UPSTREAM_URL", url.as_str()), ("CAPGATE_UPSTREAM_CA_FILE", ca_file)];
        let mut gateway = Process::start("run", &certificate.sandbox(&settings)).await;
        let response = get(gateway.http, "/res.php?key=K&action=getbalance").await;
        assert_eq!(response.body, b"ERROR_NO_SLOT_AVAILABLE");
        let metrics = gateway.metrics().await;
        let line = format!("capgate_upstream_calls_total{{endpoint=\"getBalance\",result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
        gateway.stop().await;
    }
    upstream.stop().await;
}

pub(super) async fn h2_get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
) -> (u16, Vec<u8>) {
    let (send_request, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let mut send_request = send_request.ready().await.expect("a connection");
    let target = format!("{scheme}://localhost/res.php?key=K&action=get&id=x");
    let request = http::Request::get(target).body(()).expect("a request");
    let (response, _) = send_request.send_request(request, true).expect("sent");
    let response = response.await.expect("a response");
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        bytes.extend_from_slice(&chunk.expect("a chunk"));
    }
    (status, bytes)
}

/// Returns the first message of a TLS client.
pub(super) async fn client_hello(trusted: CertificateDer<'static>) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let connected = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let client = tokio::spawn(tls_handshake(connected, trusted, b"http/1.1"));
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut hello = vec![0; 4_096];
    let length = stream.read(&mut hello).await.expect("a message");
    client.abort();
    hello.truncate(length);
    hello
}

/// Connects with this ALPN protocol and asserts that the server selects it.
pub(super) async fn tls_connect(
    address: SocketAddr,
    trusted: CertificateDer<'static>,
    alpn: &[u8],
) -> TlsStream<TcpStream> {
    tls_handshake(TcpStream::connect(address).await.expect("a connection"), trusted, alpn).await
}

/// The same on a connection.
pub(super) async fn tls_handshake(
    stream: TcpStream,
    trusted: CertificateDer<'static>,
    alpn: &[u8],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = connector.connect(name, stream).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
    stream
}
