//! Reads the header of the PROXY protocol, version 1 or 2, with which a proxy names its client before the first byte of
//! the connection (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes of a header of version 1, with its line end.
const V1_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2 before its addresses.
const V2_FIXED_BYTES: usize = 16;
/// Most bytes of a header of version 2. The protocol allows 64 KiB; the extensions that proxies send, such as the name in
/// a client's certificate, take some hundred bytes.
const V2_BYTES_MAX: usize = 4_096;

/// A complete header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyHeader {
    /// The client; `None` if the proxy does not name one: it connected for itself, or the client's address is not an IP
    /// address.
    pub(super) client: Option<SocketAddr>,
    /// The bytes that arrived after the header.
    pub(super) rest: Vec<u8>,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyHeaderError {
    /// The connection was closed before its first byte, as checks of a load balancer do.
    Silent,
    /// The connection begins with other bytes, or ended within the header.
    Malformed,
}

/// Reads a header.
///
/// # Errors
/// See [`ProxyHeaderError`]. A connection without a valid header must not be served, because its client is unknown.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, ProxyHeaderError> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        if let Some(header_bytes) = header_length(&bytes)? {
            let (header, rest) = bytes.split_at_checked(header_bytes).ok_or(ProxyHeaderError::Malformed)?;
            return Ok(ProxyHeader { client: parse(header)?, rest: rest.to_vec() });
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Err(ProxyHeaderError::Silent),
            Ok(0) | Err(_) => return Err(ProxyHeaderError::Malformed),
            Ok(_) => {}
        }
    }
}

/// Returns the length of the header at the beginning of `bytes`, or `None` if it is not complete.
fn header_length(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let begins_with = |prefix: &[u8]| prefix.iter().zip(bytes).all(|(expected, byte)| expected == byte);
    if begins_with(v2::PROTOCOL_PREFIX) {
        let Some([high, low]) = bytes.get(V2_FIXED_BYTES - 2..V2_FIXED_BYTES) else { return Ok(None) };
        let header_bytes = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        return match bytes.len() {
            _ if header_bytes > V2_BYTES_MAX => Err(ProxyHeaderError::Malformed),
            arrived => Ok(Some(header_bytes).filter(|_| arrived >= header_bytes)),
        };
    }
    if !begins_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed);
    }
    let line = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    match memchr::memchr(b'\n', line) {
        Some(end) => Ok(Some(end + 1)),
        None if bytes.len() >= V1_BYTES_MAX => Err(ProxyHeaderError::Malformed),
        None => Ok(None),
    }
}

/// Parses a complete header. The parser treats some malformed headers as incomplete, which makes no difference here.
fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let (address, port): (IpAddr, u16) = if header.starts_with(b"PROXY ") {
        match v1::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?.addresses {
            v1::Addresses::Tcp4(addresses) => (addresses.source_address.into(), addresses.source_port),
            v1::Addresses::Tcp6(addresses) => (addresses.source_address.into(), addresses.source_port),
            v1::Addresses::Unknown => return Ok(None),
        }
    } else {
        let header = v2::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
        match header.addresses {
            _ if header.command == v2::Command::Local => return Ok(None),
            v2::Addresses::IPv4(addresses) => (addresses.source_address.into(), addresses.source_port),
            v2::Addresses::IPv6(addresses) => (addresses.source_address.into(), addresses.source_port),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => return Ok(None),
        }
    };
    Ok(Some(SocketAddr::new(address.to_canonical(), port)))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Sends bytes in pieces of this size, and reads the header.
    async fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<ProxyHeader, ProxyHeaderError> {
        let (mut client, mut server) = tokio::io::duplex(8_192);
        let sending = async move {
            for piece in bytes.chunks(piece) {
                client.write_all(piece).await.expect("written");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(sending, read(&mut server)).1
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, payload].concat()
    }

    #[tokio::test]
    async fn the_client_is_read_from_both_versions_however_the_bytes_are_cut() {
        let ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let with_extension = [&ipv4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let mut ipv6 = [0; 36];
        ipv6[..2].copy_from_slice(&[0x2a, 0x00]);
        ipv6[33] = 9;
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2a00::1 ::1 1 65535\r\n".to_vec(), Some("[2a00::1]:1")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n".to_vec(), Some("192.0.2.1:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &ipv4), Some("192.0.2.1:4660")),
            (v2(0x21, 0x11, &with_extension), Some("192.0.2.1:4660")),
            (v2(0x21, 0x21, &ipv6), Some("[2a00::]:9")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &ipv4), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x20, 0x00, &[4; V2_BYTES_MAX - V2_FIXED_BYTES]), None),
        ] {
            for rest in [&b""[..], b"GET / HTTP/1.1\r\n"] {
                let bytes = [&header, rest].concat();
                for piece in [1, 7, bytes.len()] {
                    let header = read_in_pieces(&bytes, piece).await.expect("a header");
                    assert_eq!(header.client.map(|client| client.to_string()).as_deref(), client, "{bytes:?}");
                    assert!(rest.starts_with(&header.rest), "nothing but what follows the header: {bytes:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn anything_else_is_malformed() {
        let mut signature_only = v2(0x21, 0x11, &[1; 12]);
        signature_only.truncate(20);
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80 \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY TCP4 2a00::1 ::1 1 1\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 1\r\n".to_vec(),
            b"proxy TCP4 192.0.2.1 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            v2(0x11, 0x11, &[1; 12]),
            v2(0x22, 0x11, &[1; 12]),
            v2(0x21, 0x41, &[1; 12]),
            v2(0x21, 0x13, &[1; 12]),
            v2(0x21, 0x11, &[1; 11]),
            v2(0x21, 0x21, &[1; 35]),
            v2(0x21, 0x31, &[1; 215]),
            v2(0x20, 0x00, &[4; V2_BYTES_MAX]),
            signature_only,
        ] {
            for piece in [1, bytes.len()] {
                let error = read_in_pieces(&bytes, piece).await.expect_err("malformed");
                assert_eq!(error, ProxyHeaderError::Malformed, "{bytes:?}");
            }
        }
        assert_eq!(read(&mut &b""[..]).await, Err(ProxyHeaderError::Silent));
    }
}
