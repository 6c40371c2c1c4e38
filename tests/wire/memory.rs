//! The memory budget: addresses that take all they get do not shut out others, and what TLS holds is charged.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::abuse::connect_from;
use super::sandbox;
use super::tls::{Certificate, client_hello, h2_get, tls_connect};
use crate::support::http::read_response;
use crate::support::process::Process;
use crate::support::samples::png;

const CHARGED: &str = "capgate_memory_charged_bytes ";
const OVERLOADED: &str = "capgate_rejected_requests_total{reason=\"overloaded\"} ";

/// Returns the value of a metric.
async fn read_metric(process: &Process, name: &str) -> u64 {
    let metrics = process.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.parse().ok()).expect("a metric")
}

/// Sends unfinished bodies of so many bytes from an address, until one is refused.
async fn fill(process: &Process, address: u8, body_bytes: usize, streams: &mut Vec<TcpStream>) {
    let head = "POST /in.php?key=K&method=base64 HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n";
    let unfinished = [head.as_bytes(), &vec![b'a'; body_bytes]].concat();
    let refused = read_metric(process, OVERLOADED).await;
    for _ in 0..300 {
        let before = read_metric(process, CHARGED).await;
        let mut stream = connect_from(address, process.http).await;
        let _ = stream.write_all(&unfinished).await;
        streams.push(stream);
        // Until the body has arrived, or was refused.
        while read_metric(process, CHARGED).await < before + body_bytes as u64 {
            if read_metric(process, OVERLOADED).await > refused {
                return;
            }
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn two_addresses_that_take_all_memory_they_get_do_not_shut_out_another() {
    let settings = [
        ("CAPGATE_LIMITS_BODIES_BYTES_MAX", "16777216"),
        ("CAPGATE_LIMITS_ADDRESS_BYTES_MAX", "8388608"),
        ("CAPGATE_LIMITS_BODY_BYTES_MAX", "524288"),
    ];
    let mut process = Process::start("run", &sandbox(&settings)).await;
    let mut streams = Vec::new();
    for body_bytes in [400_000, 1_000] {
        for address in [11, 12] {
            fill(&process, address, body_bytes, &mut streams).await;
        }
    }
    let mut image = png();
    image.resize(200_000, 7);
    let image = BASE64_STANDARD.encode(image).replace('+', "%2B").replace('/', "%2F");
    let body = format!("key=K&method=base64&body={image}");
    let head = format!(
        "POST /in.php HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut honest = connect_from(3, process.http).await;
    for _ in 0..5 {
        honest.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await.expect("written");
        let response = read_response(&mut honest).await.expect("a response");
        assert!(response.body.starts_with(b"OK|"), "{}", String::from_utf8_lossy(&response.body));
        let http2 = connect_from(3, process.http).await;
        assert_eq!(h2_get(http2, "http").await, (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));
    }
    drop((streams, honest));
    process.wait_for_metric("capgate_memory_charged_bytes 0").await;
    process.stop().await;
}

/// Cuts a handshake message into records.
fn to_records(message: &[u8], record_bytes: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for part in message.chunks(record_bytes) {
        let [high, low] = u16::try_from(part.len()).expect("a record").to_be_bytes();
        records.extend_from_slice(&[22, 3, 1, high, low]);
        records.extend_from_slice(part);
    }
    records
}

/// rustls collects 64 KiB of a message that is announced to be longer.
#[tokio::test]
async fn a_client_hello_without_an_end_is_charged_and_ends_its_connection() {
    let certificate = Certificate::new();
    let settings = [("CAPGATE_LIMITS_HANDSHAKE_TIMEOUT_MS", "60000")];
    let mut process = Process::start("run", &certificate.sandbox(&settings)).await;
    let https = process.https.expect("an HTTPS listener");
    let hello = [&[1, 0, 0xfd, 0xe8, 3, 3][..], &vec![0; 30_000]].concat();
    let mut streams = connect_from(1, https).await;
    streams.write_all(&to_records(&hello[..14_000], 7_000)).await.expect("written");
    process.wait_for_metric("capgate_memory_charged_bytes 32768").await;
    for record_bytes in [100, 16_000] {
        let mut stream = connect_from(1, https).await;
        // The end of it is not read.
        let _ = stream.write_all(&to_records(&hello, record_bytes)).await;
        drop(std::mem::replace(&mut streams, stream));
    }
    process.wait_for_metric("capgate_connections_refused_total{reason=\"handshake_failed\"} 3").await;
    process.wait_for_metric("capgate_memory_charged_bytes 0").await;
    drop(streams);
    process.stop().await;
}

#[tokio::test]
async fn unfinished_tls_records_are_charged_until_they_are_read() {
    let certificate = Certificate::new();
    let mut process = Process::start("run", &certificate.sandbox(&[])).await;
    let https = process.https.expect("an HTTPS listener");
    assert!(client_hello(certificate.der()).await.len() < 4_096, "a handshake is not charged");
    let mut stream = tls_connect(https, certificate.der(), b"http/1.1").await;
    stream.write_all(b"GET /res.php?key=K&action=get&id=x HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    assert_eq!(read_response(&mut stream).await.expect("a response").body, b"ERROR_WRONG_ID_FORMAT");
    // A complete record of data that is not encrypted would end the connection.
    let [high, low] = 16_000_u16.to_be_bytes();
    let record = [&[23, 3, 3, high, low][..], &vec![0; 15_000]].concat();
    stream.get_mut().0.write_all(&record).await.expect("written");
    process.wait_for_metric("capgate_memory_charged_bytes 32768").await;
    drop(stream);
    process.wait_for_metric("capgate_memory_charged_bytes 0").await;
    // A body of many records.
    let mut stream = tls_connect(https, certificate.der(), b"http/1.1").await;
    let body = format!("key=K&method=base64&body={}", "A".repeat(1_000_000));
    let head = format!("POST /in.php HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..2 {
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await.expect("written");
        assert_eq!(read_response(&mut stream).await.expect("a response").status, 200);
        process.wait_for_metric("capgate_memory_charged_bytes 0").await;
    }
    process.stop().await;
}
