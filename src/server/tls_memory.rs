//! The memory of a TLS connection for bytes that its client has sent and that are not plaintext yet: unfinished handshake
//! messages and records. rustls collects up to 64 KiB of a handshake message, also after the handshake. Here they are
//! limited to less, and charged.
//!
//! Two layers, below and above rustls: [`Received`] counts what goes in, and learns from [`Decrypted`] that plaintext came
//! out. rustls decrypts all complete records at once, reads on only when all plaintext was taken, and allows nothing between
//! the parts of a handshake message; so once plaintext has come out, it holds no more than an incomplete record.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::delegate::delegate_to_inner;
use crate::memory::MemoryCharge;

/// Most bytes without plaintext. A record has up to 18 KiB (RFC 5246, section 6.2.3), and all that a client sends for a
/// handshake has below 8 KiB, with post-quantum keys.
const HELD_BYTES_MAX: usize = 24 * 1_024;
/// Bytes that are not charged: every connection may have as many. Handshakes and most requests need no more.
const FREE_BYTES: usize = 4 * 1_024;
/// What rustls makes room for before it reads.
const READ_BYTES: usize = 4 * 1_024;
/// Bytes of the header of a record (RFC 8446, section 5.1).
const HEADER_BYTES: usize = 5;

/// Wraps the stream of a TLS connection. Returns what rustls has to read, and what has to wrap its plaintext.
pub(super) fn meter(stream: Stream, charge: MemoryCharge) -> (Received, Decrypted<()>) {
    let progress = Arc::new(Progress::default());
    let received = Received {
        inner: stream,
        records: RecordMeter::default(),
        held_bytes: 0,
        charge,
        progress: Arc::clone(&progress),
    };
    (received, Decrypted { inner: (), progress })
}

/// What the layers know of each other. Both belong to one task, so there is nothing to synchronize.
#[derive(Debug, Default)]
struct Progress {
    /// Plaintext was read since the last bytes were received.
    has_plaintext: AtomicBool,
    /// Bytes were received, and plaintext may have come out, which only the layer above can see. tokio-rustls alternates
    /// between the two until its caller's buffer is full.
    has_received: AtomicBool,
    /// The handshake is complete.
    is_established: AtomicBool,
}

/// Finds the ends of records.
#[derive(Debug, Default)]
struct RecordMeter {
    /// The last bytes of the header, of which the length is the end.
    length: [u8; 2],
    header_bytes: usize,
    /// Bytes of the record's content that are missing.
    missing: usize,
    /// Bytes of the last record, if it is not complete.
    incomplete: usize,
}

impl RecordMeter {
    fn observe(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.header_bytes < HEADER_BYTES {
                self.length = [self.length[1], byte];
                self.header_bytes += 1;
                self.incomplete += 1;
                self.missing = usize::from(u16::from_be_bytes(self.length));
                bytes = rest;
            } else {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                self.incomplete += taken;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            if self.header_bytes == HEADER_BYTES && self.missing == 0 {
                (self.header_bytes, self.incomplete) = (0, 0);
            }
        }
    }
}

/// The bytes of a TLS client.
#[derive(Debug)]
pub(super) struct Received {
    inner: Stream,
    records: RecordMeter,
    /// Most bytes that rustls holds.
    held_bytes: usize,
    charge: MemoryCharge,
    progress: Arc<Progress>,
}

impl Received {
    /// Returns the capacity of a buffer that rustls has doubled until it holds `held_bytes` and the next read.
    fn charged_bytes(&self) -> usize {
        if self.held_bytes <= FREE_BYTES { 0 } else { (self.held_bytes + READ_BYTES).next_power_of_two() }
    }
}

impl AsyncRead for Received {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.progress.has_received.load(Relaxed) {
            // The layer above asks again.
            return Poll::Pending;
        }
        if this.progress.has_plaintext.load(Relaxed) {
            this.progress.has_plaintext.store(false, Relaxed);
            this.held_bytes = this.records.incomplete;
            this.charge.shrink_to(this.charged_bytes());
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, out))?;
        this.progress.has_received.store(this.progress.is_established.load(Relaxed), Relaxed);
        let arrived = out.filled().get(before..).unwrap_or_default();
        this.records.observe(arrived);
        this.held_bytes += arrived.len();
        if this.held_bytes > HELD_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other("too many bytes of TLS without plaintext")));
        }
        let charged_bytes = this.charged_bytes();
        if this.charge.try_grow_to(charged_bytes) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::other("no memory for a TLS record")))
    }
}

delegate_to_inner!(Received);

/// The plaintext of a TLS client.
#[derive(Debug)]
pub(super) struct Decrypted<S = Stream> {
    inner: S,
    progress: Arc<Progress>,
}

impl Decrypted<()> {
    /// Wraps a connection whose handshake is complete.
    pub(super) fn wrap(self, stream: Stream) -> Stream {
        self.progress.is_established.store(true, Relaxed);
        Box::new(Decrypted { inner: stream, progress: self.progress })
    }
}

impl AsyncRead for Decrypted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        // Ends, because bytes without plaintext are limited.
        loop {
            this.progress.has_received.store(false, Relaxed);
            let reading = Pin::new(&mut this.inner).poll_read(context, out);
            if reading.is_pending() && this.progress.has_received.load(Relaxed) {
                continue;
            }
            if out.filled().len() > before {
                this.progress.has_plaintext.store(true, Relaxed);
            }
            return reading;
        }
    }
}

delegate_to_inner!(Decrypted);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::memory::{MemoryBudget, MemoryLimits};

    const TOTAL_MAX: usize = 1 << 20;

    /// A client, and the layers of its connection. The test takes the place of rustls.
    struct Connection {
        client: DuplexStream,
        received: Received,
        plaintext: DuplexStream,
        decrypted: Stream,
        budget: Arc<MemoryBudget>,
    }

    impl Connection {
        fn new() -> Self {
            let limits = MemoryLimits { total_max: TOTAL_MAX, address_max: TOTAL_MAX, body_max: TOTAL_MAX };
            let budget = MemoryBudget::new(limits);
            let (client, stream) = tokio::io::duplex(1 << 20);
            let charge = budget.account(&Arc::new(AtomicUsize::new(0)), false);
            let (received, decrypted) = meter(Box::new(stream), charge);
            let (plaintext, stream) = tokio::io::duplex(1 << 20);
            Self { client, received, plaintext, decrypted: decrypted.wrap(Box::new(stream)), budget }
        }

        /// Sends bytes, and reads all of them below TLS.
        async fn receive(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.client.write_all(bytes).await.expect("room");
            let mut left = bytes.len();
            let mut buffer = [0; READ_BYTES];
            while left > 0 {
                self.received.progress.has_received.store(false, Relaxed);
                left -= self.received.read(&mut buffer).await?;
            }
            Ok(())
        }

        /// Takes a byte of plaintext, and asks for more bytes than there are.
        async fn decrypt(&mut self) {
            self.plaintext.write_all(b"a").await.expect("room");
            assert_eq!(self.decrypted.read_u8().await.expect("a byte"), b'a');
            let mut buffer = [0; 1];
            let reading = std::pin::pin!(self.received.read(&mut buffer));
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(Future::poll(reading, &mut context).is_pending());
        }
    }

    fn record(content_bytes: u16) -> Vec<u8> {
        let [high, low] = content_bytes.to_be_bytes();
        [&[23, 3, 3, high, low][..], &vec![0; usize::from(content_bytes)]].concat()
    }

    #[tokio::test]
    async fn bytes_are_charged_until_they_are_plaintext() {
        let mut connection = Connection::new();
        connection.receive(&record(4_000)).await.expect("received");
        assert_eq!(connection.budget.used(), 0, "every connection may have as much");
        connection.receive(&record(4_000)).await.expect("received");
        assert_eq!(connection.budget.used(), 16 << 10);
        connection.decrypt().await;
        assert_eq!(connection.budget.used(), 0);
        let next = record(16_384);
        connection.receive(&[&record(100), &next[..9_000]].concat()).await.expect("received");
        assert_eq!(connection.budget.used(), 16 << 10);
        connection.decrypt().await;
        assert_eq!(connection.budget.used(), 16 << 10, "a part of a record is no plaintext");
        connection.receive(&next[9_000..]).await.expect("received");
        assert_eq!(connection.budget.used(), 32 << 10);
        connection.decrypt().await;
        assert_eq!(connection.budget.used(), 0);
        for byte in record(5_000).chunks(1) {
            connection.receive(byte).await.expect("received");
        }
        assert_eq!(connection.budget.used(), 16 << 10);
        drop(connection.received);
        assert_eq!(connection.budget.used(), 0);
    }

    #[tokio::test]
    async fn messages_without_an_end_are_refused() {
        for content_bytes in [1, 100, 16_000] {
            let mut connection = Connection::new();
            connection.decrypt().await;
            let mut sent = 0;
            while connection.receive(&record(content_bytes)).await.is_ok() {
                sent += HEADER_BYTES + usize::from(content_bytes);
                assert!(sent <= HELD_BYTES_MAX);
            }
        }
    }

    #[tokio::test]
    async fn a_record_for_which_there_is_no_memory_is_refused() {
        let mut connection = Connection::new();
        let mut other = connection.budget.account(&Arc::default(), true);
        assert!(other.try_grow(TOTAL_MAX - 1));
        assert!(connection.receive(&record(2_000)).await.is_ok());
        assert!(connection.receive(&record(10_000)).await.is_err());
    }
}
