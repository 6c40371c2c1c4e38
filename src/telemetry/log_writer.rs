//! Writes the lines of the log, and counts those that are lost. Nothing that happens to the output ends the process.

use std::io::{ErrorKind, Write};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use prometheus::IntCounter;

use super::access_log::AccessFormatter;
use super::log_queue::Entry;
use super::options::LogFormat;

/// Bytes that are collected before they are written.
const CHUNK_BYTES: usize = 64 * 1024;

/// Pause before writing again to an output that is full and does not block, such as a terminal that another program has
/// changed.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The writer of one output.
pub(super) struct LogWriter<W> {
    out: W,
    formatter: AccessFormatter,
    /// Complete lines that wait to be written.
    chunk: Vec<u8>,
    chunk_lines: u64,
    /// Number of lines that are neither written nor counted as lost.
    pending: u64,
    /// Whether an error cut off the last line.
    is_line_cut: bool,
    lost: IntCounter,
}

impl<W: Write> LogWriter<W> {
    /// Creates a writer. `lost` counts the lines that are not written to their end.
    pub(super) fn new(out: W, format: LogFormat, lost: IntCounter) -> Self {
        let (formatter, chunk) = (AccessFormatter::new(format), Vec::with_capacity(2 * CHUNK_BYTES));
        Self { out, formatter, chunk, chunk_lines: 0, pending: 0, is_line_cut: false, lost }
    }

    /// Writes all entries and removes them. A panic costs these entries and not the log.
    pub(super) fn write(&mut self, entries: &mut Vec<Entry>) {
        self.pending = entries.len() as u64;
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.write_entries(entries))).is_err() {
            self.lost.inc_by(self.pending);
            self.chunk.clear();
            self.chunk_lines = 0;
        }
    }

    fn write_entries(&mut self, entries: &mut Vec<Entry>) {
        for entry in entries.drain(..) {
            match entry {
                Entry::Event(line) => {
                    self.chunk.extend_from_slice(line.as_bytes());
                    self.chunk.push(b'\n');
                }
                Entry::Access(at, entry) => self.chunk.extend_from_slice(self.formatter.line(at, &entry)),
            }
            self.chunk_lines += 1;
            if self.chunk.len() >= CHUNK_BYTES {
                self.write_chunk();
            }
        }
        self.write_chunk();
    }

    fn write_chunk(&mut self) {
        // The rest of a line that was cut off must not become part of the next.
        if self.is_line_cut && self.write_all(b"\n") == 1 {
            self.is_line_cut = false;
        }
        let chunk = std::mem::take(&mut self.chunk);
        let written = self.write_all(&chunk);
        let (written, rest) = chunk.split_at(written);
        self.is_line_cut |= written.last().is_some_and(|byte| *byte != b'\n');
        self.lost.inc_by(count_lines(rest));
        self.pending = self.pending.saturating_sub(self.chunk_lines);
        self.chunk_lines = 0;
        self.chunk = chunk;
        self.chunk.clear();
    }

    /// Writes bytes up to the first error. Returns how many were written.
    #[expect(clippy::disallowed_methods, reason = "called by the log's own thread, which serves no request")]
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
                Err(_) => break,
            }
        }
        bytes.len() - rest.len()
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// An output with room for some bytes, which panics at the write with this number.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        writes: usize,
        panics_at: Option<usize>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            assert_ne!(Some(self.writes), self.panics_at);
            let fitting = bytes.len().min(self.room);
            if fitting == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..fitting]);
            self.room -= fitting;
            Ok(fitting)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(disk: Disk) -> (LogWriter<Disk>, IntCounter) {
        let lost = IntCounter::new("lost", "Lost.").expect("a counter");
        (LogWriter::new(disk, LogFormat::Text, lost.clone()), lost)
    }

    fn write(writer: &mut LogWriter<Disk>, lines: &[&str]) {
        let mut entries = lines.iter().map(|line| Entry::Event((*line).to_owned())).collect();
        writer.write(&mut entries);
        assert!(entries.is_empty());
    }

    #[test]
    fn a_full_disk_loses_the_lines_that_do_not_fit_and_no_others() {
        let (mut writer, lost) = writer(Disk { room: 9, ..Disk::default() });
        write(&mut writer, &["1111", "2222", "3333"]);
        assert_eq!(lost.get(), 2);
        write(&mut writer, &["4444"]);
        assert_eq!(lost.get(), 3);
        writer.out.room = 100;
        write(&mut writer, &["5555"]);
        assert_eq!((lost.get(), String::from_utf8_lossy(&writer.out.bytes).as_ref()), (3, "1111\n2222\n5555\n"));
    }

    #[test]
    fn a_panic_loses_one_batch() {
        let (mut writer, lost) = writer(Disk { room: 100, panics_at: Some(1), ..Disk::default() });
        write(&mut writer, &["1111", "2222"]);
        assert_eq!(lost.get(), 2);
        write(&mut writer, &["3333"]);
        assert_eq!((lost.get(), writer.out.bytes.as_slice()), (2, b"3333\n".as_slice()));
    }
}
