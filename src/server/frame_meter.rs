//! Closes HTTP/2 connections that send many frames which cost work and carry nothing: pings, settings, resets, empty data.
//! The h2 crate answers any number of them, and reads from a connection for as long as bytes arrive, which keeps others
//! waiting for seconds. Pure but for the reading: frames are counted, not timed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::delegate::delegate_to_inner;

/// Frames without content that a connection may send before its first request, and the most that it can save up.
const CREDIT_MAX: u32 = 200;

/// What a request earns: a client may also send window updates, pings and acknowledgements.
const REQUEST_CREDIT: u32 = 4;

/// What a reset costs. A client that resets every request runs out of credit after some dozens (CVE-2023-44487).
const RESET_COST: u32 = 8;

/// Reads after which a connection lets others run. A header block ends them at once: the h2 crate decodes all that it can
/// read before the first stream is accepted, and charged.
const READS_IN_A_ROW: u32 = 16;

const FRAME_HEADER_BYTES: usize = 9;

/// Counts the frames of a client.
#[derive(Debug)]
struct FrameMeter {
    credit: u32,
    /// The beginning of the next frame's header.
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
    /// Bytes to skip until the next header.
    skipped: usize,
    /// Whether the bytes to skip end a header block.
    ends_block: bool,
}

/// What some bytes of a client contain.
#[derive(Debug, PartialEq, Eq)]
enum Observed {
    /// A header block ends after so many bytes.
    Block(usize),
    /// No header block ends.
    Nothing,
    /// The client has no credit.
    Flood,
}

impl FrameMeter {
    fn new(preface_bytes: usize) -> Self {
        Self {
            credit: CREDIT_MAX,
            header: [0; FRAME_HEADER_BYTES],
            header_bytes: 0,
            skipped: preface_bytes,
            ends_block: false,
        }
    }

    /// Counts the frames that begin in these bytes, up to the first that ends a header block.
    fn observe(&mut self, all: &[u8]) -> Observed {
        let mut bytes = all;
        loop {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.skipped == 0 && std::mem::take(&mut self.ends_block) {
                return Observed::Block(all.len() - bytes.len());
            }
            let Some((byte, rest)) = bytes.split_first() else { return Observed::Nothing };
            if let Some(slot) = self.header.get_mut(self.header_bytes) {
                *slot = *byte;
            }
            self.header_bytes += 1;
            bytes = rest;
            if self.header_bytes == FRAME_HEADER_BYTES {
                self.header_bytes = 0;
                if !self.count_frame() {
                    return Observed::Flood;
                }
            }
        }
    }

    /// Counts the frame whose header is complete (RFC 9113, section 4.1).
    fn count_frame(&mut self) -> bool {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 4;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skipped = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.ends_block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
        let cost = match kind {
            HEADERS => {
                self.credit = (self.credit + REQUEST_CREDIT).min(CREDIT_MAX);
                0
            }
            // Flow control limits data that has content.
            DATA if self.skipped > 0 => 0,
            RST_STREAM => RESET_COST,
            _ => 1,
        };
        let is_affordable = self.credit >= cost;
        self.credit = self.credit.saturating_sub(cost);
        is_affordable
    }
}

/// An HTTP/2 connection whose frames are counted.
#[derive(Debug)]
pub(super) struct MeteredStream {
    inner: Stream,
    meter: FrameMeter,
    reads_in_a_row: u32,
    /// Bytes that were read beyond a header block.
    held: BytesMut,
}

impl MeteredStream {
    /// Wraps a connection that begins with a preface of so many bytes.
    pub(super) fn new(inner: Stream, preface_bytes: usize) -> Self {
        Self { inner, meter: FrameMeter::new(preface_bytes), reads_in_a_row: 0, held: BytesMut::new() }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reads_in_a_row >= READS_IN_A_ROW {
            this.reads_in_a_row = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.held.is_empty() {
            let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(context, buffer) else {
                this.reads_in_a_row = 0;
                return Poll::Pending;
            };
            result?;
        } else {
            let held = this.held.split_to(this.held.len().min(buffer.remaining()));
            buffer.put_slice(&held);
            if this.held.is_empty() {
                this.held = BytesMut::new();
            }
        }
        this.reads_in_a_row += 1;
        let arrived = buffer.filled().get(before..).unwrap_or_default();
        match this.meter.observe(arrived) {
            Observed::Nothing => Poll::Ready(Ok(())),
            Observed::Block(bytes) => {
                let beyond = arrived.get(bytes..).unwrap_or_default();
                if !beyond.is_empty() {
                    let mut held = BytesMut::from(beyond);
                    held.unsplit(std::mem::take(&mut this.held));
                    this.held = held;
                }
                buffer.set_filled(before + bytes);
                this.reads_in_a_row = READS_IN_A_ROW;
                Poll::Ready(Ok(()))
            }
            Observed::Flood => Poll::Ready(Err(io::Error::other(FLOOD))),
        }
    }
}

/// The error of a connection whose client ran out of credit.
const FLOOD: &str = "too many frames without content";

delegate_to_inner!(MeteredStream);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short payload");
        [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], payload].concat()
    }

    /// Whether a client that sends these bytes keeps its credit.
    fn is_allowed(meter: &mut FrameMeter, mut bytes: &[u8]) -> bool {
        loop {
            match meter.observe(bytes) {
                Observed::Block(end) => bytes = &bytes[end..],
                Observed::Nothing => return true,
                Observed::Flood => return false,
            }
        }
    }

    /// Returns how many times a connection may send some frames, in pieces of a few bytes.
    fn rounds_of(frames: &[u8]) -> usize {
        let mut meter = FrameMeter::new(24);
        assert!(is_allowed(&mut meter, &[0; 24]));
        (0..10_000).take_while(|_| frames.chunks(7).all(|piece| is_allowed(&mut meter, piece))).count()
    }

    #[tokio::test]
    async fn one_header_block_is_read_at_a_time() {
        let block = |flags: u8| [0, 0, 2, 1, flags, 0, 0, 0, 1, 0x82, 0x86];
        let (mut client, server) = tokio::io::duplex(4096);
        let frames = [&block(4)[..], &block(0), &frame(6, b"12345678"), &block(5), b"rest"].concat();
        client.write_all(&frames).await.expect("written");
        drop(client);
        let mut stream = MeteredStream::new(Box::new(server), 0);
        let (mut reads, mut bytes) = (Vec::new(), [0; 16]);
        loop {
            let read = stream.read(&mut bytes).await.expect("no flood");
            reads.push(bytes[..read].to_vec());
            if read == 0 {
                break;
            }
        }
        assert_eq!(reads.concat(), frames);
        assert!(reads.contains(&block(4).to_vec()), "cut after the first block: {reads:?}");
        assert!(reads.contains(&b"rest".to_vec()), "cut after the second: {reads:?}");
    }

    #[test]
    fn frames_without_content_use_up_their_credit_and_requests_earn_some() {
        let (ping, settings, empty_data) = (frame(6, b"12345678"), frame(4, b""), frame(0, b""));
        for flood in [&ping, &settings, &empty_data] {
            assert_eq!(rounds_of(flood), 200);
        }
        let (headers, data, window_update) = (frame(1, b"\x82"), frame(0, b"x"), frame(8, b"\0\0\0\x01"));
        let poll = [headers.clone(), window_update.clone(), window_update.clone(), ping.clone()].concat();
        assert_eq!(rounds_of(&poll), 10_000, "an honest poll");
        assert_eq!(rounds_of(&[headers.clone(), data.repeat(20)].concat()), 10_000, "a body in small pieces");
        assert_eq!(rounds_of(&[headers, frame(3, b"\0\0\0\x08")].concat()), 49, "rapid reset");
    }
}
