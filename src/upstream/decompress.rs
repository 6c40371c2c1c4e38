//! Decompresses response bodies within a bound.

use std::io::Read;

use bytes::Bytes;

use super::http::ErrorKind;

/// Undoes a `Content-Encoding` that the server applied although the request accepts `identity` only.
///
/// # Errors
/// [`ErrorKind::Encoding`] if the encoding is unknown or the body corrupt, [`ErrorKind::TooBig`] above `bytes_max`.
pub(super) fn decompress(body: Bytes, encoding: Option<&str>, bytes_max: usize) -> Result<Bytes, ErrorKind> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut decompressed = Vec::new();
    let result = match encoding {
        None | Some("" | "identity") => return Ok(body),
        Some("gzip" | "x-gzip") => flate2::read::MultiGzDecoder::new(&*body).take(limit).read_to_end(&mut decompressed),
        Some("deflate") => flate2::read::ZlibDecoder::new(&*body).take(limit).read_to_end(&mut decompressed),
        Some(_) => return Err(ErrorKind::Encoding),
    };
    match result {
        Err(_) => Err(ErrorKind::Encoding),
        Ok(length) if length > bytes_max => Err(ErrorKind::TooBig),
        Ok(_) => Ok(Bytes::from(decompressed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory");
        Bytes::from(encoder.finish().expect("memory"))
    }

    #[test]
    fn decompression_is_bounded() {
        assert_eq!(decompress(gzip(b"{}"), Some("gzip"), 2), Ok(Bytes::from_static(b"{}")));
        assert_eq!(decompress(gzip(&vec![0; 100_000]), Some("gzip"), 99_999), Err(ErrorKind::TooBig));
        assert_eq!(decompress(Bytes::from_static(b"{}"), Some("gzip"), 10), Err(ErrorKind::Encoding));
        assert_eq!(decompress(Bytes::from_static(b"{}"), Some("br"), 10), Err(ErrorKind::Encoding));
        assert_eq!(decompress(Bytes::from_static(b"{}"), None, 10), Ok(Bytes::from_static(b"{}")));
    }
}
