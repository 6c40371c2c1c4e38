//! The measurements. Each prints a table; the candidates take turns, so that a slow minute of the machine hits all.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};

use crate::store::{self, KINDS, Result, Store};
use crate::workload::{Random, Workload};

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that this process has caused to be written to the disk.
fn written_bytes() -> u64 {
    fs::read_to_string("/proc/self/io")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
        .unwrap_or(0)
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = (quantile * (sorted.len() - 1) as f64).round() as usize;
    sorted[at]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mebi(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

fn fresh(root: &Path, name: &str) -> Result<PathBuf> {
    let dir = root.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    Ok(dir)
}

struct Candidate<'a> {
    kind: &'a str,
    store: Box<dyn Store>,
    workload: Workload,
    expiry: (Duration, usize),
}

impl<'a> Candidate<'a> {
    /// Opens a new store and fills it until as many records expire as are added.
    fn at_steady_state(kind: &'a str, dir: &Path, live: usize) -> Result<Self> {
        let store = store::open(kind, dir)?;
        let mut this = Self { kind, store, workload: Workload::new(live as u64), expiry: (Duration::ZERO, 0) };
        while this.workload.minute < 46 {
            this.workload.batch(&mut *this.store, 1_000)?;
            this.minute()?;
        }
        Ok(this)
    }

    fn minute(&mut self) -> Result<()> {
        let before = self.workload.live();
        if self.workload.advance() {
            let start = Instant::now();
            self.store.expire(self.workload.minute)?;
            self.expiry.0 += start.elapsed();
            self.expiry.1 += before - self.workload.live();
            self.store.reclaim()?;
        }
        Ok(())
    }
}

/// Durable operations per second and latencies by the size of the batch, at `live` records.
pub fn batches(root: &Path, live: usize, rounds: usize) -> Result<()> {
    let mut candidates = Vec::new();
    for kind in KINDS {
        candidates.push(Candidate::at_steady_state(kind, &fresh(root, kind)?, live)?);
    }
    // How long a sync of one appended page takes at the same moments, as a scale for the rest.
    let mut scale = Vec::new();
    let scale_file = File::create(root.join("scale"))?;
    let sizes = [(1, 200), (10, 100), (100, 50), (1_000, 20)];
    let mut latencies = vec![vec![Vec::new(); sizes.len()]; candidates.len()];
    let mut rates = vec![vec![Vec::new(); sizes.len()]; candidates.len()];
    let mut processor = vec![vec![Vec::new(); sizes.len()]; candidates.len()];
    let mut written = vec![vec![0; sizes.len()]; candidates.len()];
    for _ in 0..rounds {
        for (at_size, (size, repeats)) in sizes.iter().enumerate() {
            for _ in 0..20 {
                std::io::Write::write_all(&mut &scale_file, &[1; 4096])?;
                let start = Instant::now();
                scale_file.sync_data()?;
                scale.push(millis(start.elapsed()));
            }
            for (at, candidate) in candidates.iter_mut().enumerate() {
                let (mut time, mut processor_used) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..*repeats {
                    let (start, processor_start, written_start) = (Instant::now(), processor_time(), written_bytes());
                    candidate.workload.batch(&mut *candidate.store, *size)?;
                    let latency = start.elapsed();
                    processor_used += processor_time() - processor_start;
                    written[at][at_size] += written_bytes() - written_start;
                    time += latency;
                    latencies[at][at_size].push(millis(latency));
                    candidate.minute()?;
                }
                #[expect(clippy::cast_precision_loss, reason = "a count below 100,000")]
                let ops = (size * repeats) as f64;
                rates[at][at_size].push(ops / time.as_secs_f64());
                processor[at][at_size].push(processor_used.as_secs_f64() * 1e6 / ops);
            }
        }
    }
    scale.sort_by(f64::total_cmp);
    println!("sync of one appended page: p50 {:.2} ms, p99 {:.2} ms", quantile(&scale, 0.5), quantile(&scale, 0.99));
    println!("{live} live records, {rounds} rounds, median round; processor time includes the kernel's");
    println!("store         batch     ops/s   p50 ms   p99 ms   max ms  cpu us/op  written B/op");
    for (at, candidate) in candidates.iter_mut().enumerate() {
        for (at_size, (size, repeats)) in sizes.iter().enumerate() {
            let latencies = &mut latencies[at][at_size];
            latencies.sort_by(f64::total_cmp);
            rates[at][at_size].sort_by(f64::total_cmp);
            processor[at][at_size].sort_by(f64::total_cmp);
            println!(
                "{:13} {size:5} {:9.0} {:8.2} {:8.2} {:8.2} {:10.1} {:13}",
                candidate.kind,
                quantile(&rates[at][at_size], 0.5),
                quantile(latencies, 0.5),
                quantile(latencies, 0.99),
                quantile(latencies, 1.0),
                quantile(&processor[at][at_size], 0.5),
                written[at][at_size] / (size * repeats * rounds) as u64,
            );
        }
        candidate.workload.verify(&mut *candidate.store)?;
    }
    Ok(())
}

/// The size of the files against the live payload, over several turnovers, with expiry every minute.
pub fn turnover(root: &Path, live: usize, turnovers: u32, kinds: &[&str]) -> Result<()> {
    println!("{live} live records, batches of 1000, expiry and a bounded reclaim once a minute of model time");
    println!(
        "store         turnover  live MiB  files MiB  ratio: median  max  commit p50 ms  p99 ms  max ms  minute p50 ms  max ms"
    );
    for kind in kinds {
        let dir = fresh(root, kind)?;
        let mut candidate = Candidate {
            kind,
            store: store::open(kind, &dir)?,
            workload: Workload::new(live as u64),
            expiry: (Duration::ZERO, 0),
        };
        for turnover in 0..=turnovers {
            let (mut ratios, mut latencies, mut minutes) = (Vec::new(), Vec::new(), Vec::new());
            candidate.expiry = (Duration::ZERO, 0);
            while candidate.workload.minute < (turnover + 1) * 46 {
                let start = Instant::now();
                candidate.workload.batch(&mut *candidate.store, 1_000)?;
                latencies.push(millis(start.elapsed()));
                let minute = candidate.workload.minute;
                let start = Instant::now();
                candidate.minute()?;
                if candidate.workload.minute > minute {
                    minutes.push(millis(start.elapsed()));
                    ratios.push(mebi(store::bytes_on_disk(&dir)?) / mebi(candidate.workload.live_bytes));
                }
            }
            for values in [&mut ratios, &mut latencies, &mut minutes] {
                values.sort_by(f64::total_cmp);
            }
            let name = if turnover == 0 { "filling".to_owned() } else { turnover.to_string() };
            println!(
                "{kind:13} {name:>8} {:9.1} {:10.1} {:14.2} {:4.2} {:14.2} {:7.2} {:7.2} {:14.1} {:7.1}",
                mebi(candidate.workload.live_bytes),
                mebi(store::bytes_on_disk(&dir)?),
                quantile(&ratios, 0.5),
                quantile(&ratios, 1.0),
                quantile(&latencies, 0.5),
                quantile(&latencies, 0.99),
                quantile(&latencies, 1.0),
                quantile(&minutes, 0.5),
                quantile(&minutes, 1.0),
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "a count below 2^52")]
        let expired = candidate.expiry.1 as f64;
        println!(
            "{kind:13} expiry: {:.2} us per record ({} records in the last turnover)",
            candidate.expiry.0.as_secs_f64() * 1e6 / expired,
            candidate.expiry.1
        );
        candidate.workload.verify(&mut *candidate.store)?;
        let start = Instant::now();
        candidate.store.compact()?;
        let took = start.elapsed();
        println!(
            "{kind:13} compact at {:.1} MiB live: {:.0} ms, then {:.1} MiB",
            mebi(candidate.workload.live_bytes),
            millis(took),
            mebi(store::bytes_on_disk(&dir)?)
        );
        drop(candidate);
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// A burst on top of the steady state: how large the files become, and what it takes to bring them below twice the live
/// data once the burst has expired.
pub fn shrink(root: &Path, live: usize, records: usize, kinds: &[&str]) -> Result<()> {
    println!("{live} live records, and {records} open ones at once, which expire within 30 to 60 minutes");
    for kind in kinds {
        let dir = fresh(root, kind)?;
        let mut candidate = Candidate::at_steady_state(kind, &dir, live)?;
        let print_size = |name: &str, live_bytes: u64| -> Result<()> {
            let bytes = store::bytes_on_disk(&dir)?;
            println!(
                "{kind:13} {name}: {:.1} MiB live, {:.1} MiB on disk, ratio {:.2}",
                mebi(live_bytes),
                mebi(bytes),
                mebi(bytes) / mebi(live_bytes)
            );
            Ok(())
        };
        print_size("steady", candidate.workload.live_bytes)?;
        for _ in 0..records / 1_000 {
            candidate.workload.batch_of_open(&mut *candidate.store, 1_000, Some(records))?;
        }
        print_size("after the burst", candidate.workload.live_bytes)?;
        let until = candidate.workload.minute + 62;
        while candidate.workload.minute < until {
            candidate.workload.batch(&mut *candidate.store, 1_000)?;
            candidate.minute()?;
        }
        print_size("after its expiry", candidate.workload.live_bytes)?;
        let start = Instant::now();
        candidate.store.compact()?;
        println!("{kind:13} compact: {:.0} ms", millis(start.elapsed()));
        print_size("compacted", candidate.workload.live_bytes)?;
        candidate.workload.verify(&mut *candidate.store)?;
        drop(candidate);
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Drops the files of a store from the page cache, as after a restart of the machine.
pub fn forget_pages(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Stands in for decrypting and parsing a record: about a microsecond.
fn decode(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for _ in 0..6 {
        hasher.write(value);
    }
    hasher.finish()
}

fn scan_decoding(store: &mut dyn Store, threads: usize) -> Result<u64> {
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (chunk_tx, chunk_rx) = mpsc::sync_channel::<Vec<Vec<u8>>>(4);
            let worker = scope.spawn(move || chunk_rx.iter().flatten().map(|v| decode(&v)).fold(0, u64::wrapping_add));
            workers.push((chunk_tx, worker));
        }
        let (mut sum, mut chunk, mut turn) = (0_u64, Vec::new(), 0);
        store.scan(&mut |_, _, value| {
            if threads == 0 {
                sum = sum.wrapping_add(decode(value));
                return;
            }
            chunk.push(value.to_vec());
            if chunk.len() == 1_000 {
                let _ = workers[turn % threads].0.send(std::mem::take(&mut chunk));
                turn += 1;
            }
        })?;
        for (chunk_tx, worker) in workers {
            drop(chunk_tx);
            sum = sum.wrapping_add(worker.join().map_err(|_| "a worker panicked")?);
        }
        Ok(sum.wrapping_add(chunk.iter().map(|value| decode(value)).fold(0, u64::wrapping_add)))
    })
}

/// A million open records: the start with them, and what remains of the files when all have expired.
pub fn burst(root: &Path, records: usize, in_order: bool, kinds: &[&str]) -> Result<()> {
    let order = if in_order { "in the order of their ids" } else { "in random order" };
    println!("{records} open records of 220 bytes, which expire {order}");
    let in_order = in_order.then_some(records);
    for kind in kinds {
        let dir = fresh(root, kind)?;
        let mut workload = Workload::new(records as u64);
        let mut store = store::open(kind, &dir)?;
        let start = Instant::now();
        for _ in 0..records / 1_000 {
            workload.batch_of_open(&mut *store, 1_000, in_order)?;
        }
        println!("{kind:13} written in batches of 1000: {:.1} s", start.elapsed().as_secs_f64());
        let start = Instant::now();
        drop(store);
        let close = start.elapsed();
        let bytes = store::bytes_on_disk(&dir)?;
        println!(
            "{kind:13} closed in {:.0} ms; {:.1} MiB, {} bytes a record beyond its payload of 220",
            millis(close),
            mebi(bytes),
            (bytes - workload.live_bytes) / records as u64
        );
        for pages in ["cold", "warm"] {
            if pages == "cold" {
                forget_pages(&dir)?;
            }
            let start = Instant::now();
            let mut store = store::open(kind, &dir)?;
            let opened = start.elapsed();
            let start = Instant::now();
            let mut count = 0;
            store.scan(&mut |_, _, _| count += 1)?;
            println!(
                "{kind:13} start, {pages} pages: open {:.0} ms + scan {:.0} ms ({count} records)",
                millis(opened),
                millis(start.elapsed())
            );
        }
        let mut store = store::open(kind, &dir)?;
        for threads in [0, 1, 2] {
            let start = Instant::now();
            std::hint::black_box(scan_decoding(&mut *store, threads)?);
            println!("{kind:13} scan, decoding on {threads} other threads: {:.0} ms", millis(start.elapsed()));
        }
        let keys = workload.keys();
        let mut random = Random(7);
        let start = Instant::now();
        for _ in 0..100_000 {
            let at = usize::try_from(random.below(keys.len() as u64))?;
            let (id, bucket) = keys[at];
            store.get(id, bucket)?.ok_or("a record is missing")?;
        }
        println!("{kind:13} random read: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 1e5);
        drop(store);
        crate::crash::kill_and_reopen(kind, &dir, records)?;

        let mut store = store::open(kind, &dir)?;
        let before = store::bytes_on_disk(&dir)?;
        let (start, written) = (Instant::now(), written_bytes());
        let mut slowest = Duration::ZERO;
        for minute in 30..=60 {
            let start = Instant::now();
            store.expire(minute)?;
            slowest = slowest.max(start.elapsed());
        }
        println!(
            "{kind:13} expired bucket by bucket in {:.0} ms, slowest {:.0} ms, {:.1} MiB written; files {:.1} -> {:.1} MiB",
            millis(start.elapsed()),
            millis(slowest),
            mebi(written_bytes() - written),
            mebi(before),
            mebi(store::bytes_on_disk(&dir)?)
        );
        // Keeps what is written from now on.
        workload.minute = 100;
        let mut slowest = Duration::ZERO;
        for minute in 0..60 {
            let start = Instant::now();
            workload.batch_of_open(&mut *store, 10, None)?;
            store.reclaim()?;
            slowest = slowest.max(start.elapsed());
            if minute == 9 || minute == 59 {
                println!(
                    "{kind:13} after {} small commits with a reclaim each: {:.1} MiB; slowest {:.1} ms",
                    minute + 1,
                    mebi(store::bytes_on_disk(&dir)?),
                    millis(slowest)
                );
            }
        }
        let start = Instant::now();
        store.compact()?;
        println!(
            "{kind:13} compact: {:.0} ms, then {:.1} MiB",
            millis(start.elapsed()),
            mebi(store::bytes_on_disk(&dir)?)
        );
        drop(store);
        println!("{kind:13} after closing: {:.1} MiB", mebi(store::bytes_on_disk(&dir)?));
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
