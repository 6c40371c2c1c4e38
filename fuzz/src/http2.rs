//! Sends frames on an HTTP/2 connection after a valid preface. The server must neither panic nor hang, nor hold more memory
//! than its limit. Input: records of type, flags, stream, repetitions and the length of the payload (two bytes), followed by
//! the payload. Type 255 sends the payload without a frame header.

use std::iter;

use capgate::server::pipe::Protocol;

use super::pipe::exchange;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Type of a record that is no frame.
const RAW: u8 = 255;

/// Type of a HEADERS frame. Repetitions are for new streams.
const HEADERS: u8 = 1;

/// Most bytes of a connection.
const BYTES_MAX: usize = 1 << 20;

/// Runs one input.
///
/// # Panics
/// If a check fails.
pub fn run(data: &[u8]) {
    let records = records(data);
    let mut left = BYTES_MAX;
    let pieces = records.iter().map(Vec::as_slice).take_while(|piece| {
        left = left.saturating_sub(piece.len());
        left > 0
    });
    exchange(Protocol::Http2, iter::once(PREFACE).chain(pieces));
}

/// Builds the bytes of each record.
fn records(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(([kind, flags, stream, repetitions, high, low], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        data = rest;
        let mut record = Vec::new();
        for repetition in 0..=u32::from(*repetitions) {
            if *kind != RAW {
                let step = if *kind == HEADERS { 2 * repetition } else { 0 };
                record.extend_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes()[1..]);
                record.extend_from_slice(&[*kind, *flags]);
                record.extend_from_slice(&(u32::from(*stream) + step).to_be_bytes());
            }
            record.extend_from_slice(payload);
        }
        records.push(record);
    }
    records
}
