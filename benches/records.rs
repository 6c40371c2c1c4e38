//! Measures the memory of ledger records, and checks that polls of unknown ids use none.
//!
//! `cargo bench --profile dev --bench records` uses a million records and ten million polls of unknown ids; `-- 100000`
//! uses fewer records, `-- --quick` fewer polls. The sizes do not depend on the profile.
//!
//! Measures both the bytes that the table requests from the allocator and the resident memory of the process; the
//! allocator's overhead per block is the difference. Fails if a figure is out of bounds.
#![expect(clippy::print_stdout, reason = "prints the results")]

use std::alloc::System;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use capgate::config::Config;
use capgate::domain::{Account, LegacyId, Moment, NativeId, Outcome, Solved};
use capgate::ledger::{Admit, NextPrefetch, Options, PollReply, PollSource, Table};
use capgate::methods::{METHODS, Method, Payload};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RECORDS: usize = 1_000_000;
const ACCOUNTS: usize = 100;
const POLLS: usize = 10_000_000;
const POLLS_QUICK: usize = 1_000_000;
/// Submits per millisecond: a million records take 100 s, so the first ones have aged when the last is submitted.
const PER_MS: usize = 10;
/// Bytes of an answer; a reCAPTCHA token is slightly longer.
const ANSWER_BYTES: usize = 500;
/// Maximum bytes that stay allocated per removed record: the map keeps its slots.
const KEPT_BYTES_MAX: f64 = 40.0;
/// Maximum relative error of the ledger's charge; the load factor of the map depends on the number of records.
const CHARGE_ERROR_MAX: f64 = 0.15;

type BenchError = Box<dyn Error>;

/// Memory usage of the process.
#[derive(Clone, Copy)]
struct Memory {
    bytes: usize,
    blocks: usize,
    resident: usize,
}

impl Memory {
    fn now() -> Result<Self, BenchError> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let resident = 1024 * line.trim().trim_end_matches(" kB").parse::<usize>()?;
        drop(status);
        let counted = ALLOCATOR.stats();
        let bytes = counted.bytes_allocated.wrapping_sub(counted.bytes_deallocated);
        Ok(Self { bytes, blocks: counted.allocations.wrapping_sub(counted.deallocations), resident })
    }
}

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Twelve digits, like the ledger's ids.
    fn legacy_id(&mut self) -> LegacyId {
        LegacyId(100_000_000_000 + self.next() % 900_000_000_000)
    }

    fn native_id(&mut self) -> NativeId {
        NativeId::new(&Uuid::from_u64_pair(self.next(), self.next()).to_string())
    }
}

/// A table under test. All other data is allocated first, so the growth in memory belongs to the table.
struct Fixture {
    table: Table,
    options: Options,
    accounts: Vec<Account>,
    /// Sorted, to recognise unknown ids.
    ids: Vec<LegacyId>,
    random: Random,
    now: Moment,
    baseline: Memory,
}

/// Memory per record at one stage.
struct Figures {
    bytes: f64,
    resident: f64,
    charged: f64,
}

impl Fixture {
    fn new(records: usize) -> Result<Self, BenchError> {
        let options = Options {
            records_max: records,
            account_records_max: records,
            bytes_max: usize::MAX,
            ..Config::default().ledger_options()
        };
        let accounts = (0..ACCOUNTS).map(|number| Account::new(&format!("{number:032x}")));
        let accounts = accounts.collect::<Result<_, _>>().map_err(|_| "invalid key")?;
        let mut random = Random(1);
        let mut ids = Vec::with_capacity(records);
        while ids.len() < records {
            ids.extend(std::iter::repeat_with(|| random.legacy_id()).take(records - ids.len()));
            ids.sort_unstable();
            ids.dedup();
        }
        let (table, now) = (Table::new(options.clone()), Moment(0));
        let baseline = Memory::now()?;
        Ok(Self { table, options, accounts, ids, random, now, baseline })
    }

    fn account(&self, index: usize) -> Result<&Account, BenchError> {
        Ok(self.accounts.get(index % ACCOUNTS).ok_or("no account")?)
    }

    /// Opens and binds all records in random order, and runs the ledger's background work meanwhile.
    fn open_all(&mut self, method: &'static Method) -> Result<(), BenchError> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|index| Random(*index as u64).next());
        for (done, index) in order.into_iter().enumerate() {
            self.now = Moment((done / PER_MS) as u64);
            let id = *self.ids.get(index).ok_or("no id")?;
            self.table.open(id, self.account(index)?, method, self.now).map_err(|error| format!("{error:?}"))?;
            self.table.bind(id, self.random.native_id(), self.now);
            if done % (1_000 * PER_MS) == 0 {
                self.run_background_work()?;
            }
        }
        Ok(())
    }

    /// Sweeps and prefetches, as the ledger's background tasks do.
    fn run_background_work(&self) -> Result<(), BenchError> {
        while self.table.sweep(self.now, 1_000) {}
        loop {
            match self.table.next_prefetch(self.now) {
                NextPrefetch::Start(id, ticket) => {
                    self.table.complete_flight(id, ticket.flight, Ok(Outcome::NotReady), self.now);
                }
                NextPrefetch::At(moment) if moment <= self.now => {}
                NextPrefetch::At(_) | NextPrefetch::Idle => return Ok(()),
            }
        }
    }

    /// Polls each record from its own account, and lands the flights that this starts.
    fn poll_all(&self, outcome: impl Fn(usize) -> Outcome) -> Result<(), BenchError> {
        for (index, id) in self.ids.iter().enumerate() {
            match self.table.admit(self.account(index)?, *id, self.now) {
                Admit::Lead(ticket) | Admit::Refresh(ticket) => {
                    self.table.complete_flight(*id, ticket.flight, Ok(outcome(index)), self.now);
                }
                admit if is_unknown(&admit) => return Err(format!("record {id} is missing").into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Polls this number of unknown ids.
    fn poll_unknown(&mut self, polls: usize) -> Result<(), BenchError> {
        let account = self.account(0)?.clone();
        for _ in 0..polls {
            let id = self.random.legacy_id();
            if self.ids.binary_search(&id).is_err() && !is_unknown(&self.table.admit(&account, id, self.now)) {
                return Err(format!("unknown id {id} was found").into());
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    fn figures(&self, stage: &str) -> Result<Figures, BenchError> {
        let now = Memory::now()?;
        let per_record = |total: usize| total as f64 / self.ids.len() as f64;
        let bytes = per_record(now.bytes.saturating_sub(self.baseline.bytes));
        let resident = per_record(now.resident.saturating_sub(self.baseline.resident));
        let stats = self.table.stats();
        let charged = per_record(stats.bytes);
        let blocks = per_record(now.blocks.saturating_sub(self.baseline.blocks));
        println!(
            "{stage:28} {:9} records {bytes:7.1} bytes {blocks:5.2} blocks {resident:7.1} resident {charged:7.1} charged",
            stats.records
        );
        Ok(Figures { bytes, resident, charged })
    }
}

fn is_unknown(admit: &Admit) -> bool {
    matches!(admit, Admit::Reply(PollReply::Answer(_, PollSource::Unknown)))
}

fn answer() -> Outcome {
    Outcome::Solved(Arc::new(Solved {
        payload: Payload::Text("t".repeat(ANSWER_BYTES)),
        extras: Vec::new(),
        cost: None,
        took_ms: None,
    }))
}

fn ensure(condition: bool, message: &str) -> Result<(), BenchError> {
    if condition { Ok(()) } else { Err(message.into()) }
}

fn main() -> Result<(), BenchError> {
    let (mut records, mut polls) = (RECORDS, POLLS);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => polls = POLLS_QUICK,
            number => records = number.parse().map_err(|_| "usage: records [--quick] [RECORDS]")?,
        }
    }
    let method = METHODS.iter().flat_map(|rows| rows.iter()).next().ok_or("no method")?;
    println!("per record:");
    let mut fixture = Fixture::new(records)?;
    fixture.open_all(method)?;
    fixture.figures("submitted")?;
    fixture.now = fixture.now.after_ms(fixture.options.pacing.ceiling_ms);
    fixture.run_background_work()?;
    let quiet = fixture.figures("open, not polled")?;

    let (memory, stats) = (Memory::now()?, fixture.table.stats());
    fixture.poll_unknown(polls)?;
    fixture.figures(&format!("after {polls} unknown ids"))?;
    ensure(Memory::now()?.bytes == memory.bytes, "polls of unknown ids allocate memory")?;
    ensure(
        (fixture.table.stats(), fixture.table.recount()) == (stats, stats),
        "polls of unknown ids change the table",
    )?;

    fixture.poll_all(|_| Outcome::NotReady)?;
    let polled = fixture.figures("all polled")?;
    fixture.now = fixture.now.after_ms(2 * fixture.options.pacing.ceiling_ms);
    fixture.run_background_work()?;
    fixture.figures("polled, then idle")?;

    // Solve half of the records and leave the others open.
    fixture.poll_all(|index| if index % 2 == 0 { answer() } else { Outcome::NotReady })?;
    fixture.figures("half of them solved")?;
    fixture.now = fixture.now.after_ms(fixture.options.open_ttl_ms + fixture.options.answer_ttl_ms);
    fixture.run_background_work()?;
    let swept = fixture.figures("swept")?;
    let stats = fixture.table.stats();
    ensure((stats.records, stats.bytes, stats.accounts) == (0, 0, 0), "records remain after sweeping")?;
    ensure(swept.bytes <= KEPT_BYTES_MAX, "sweeping does not free the memory")?;

    let error = polled.charged / polled.bytes - 1.0;
    println!("an open record takes at most {:.0} bytes; the charge differs by {:+.1} %", polled.bytes, 100.0 * error);
    ensure(error.abs() <= CHARGE_ERROR_MAX, "the charge per record differs from its memory")?;
    if records == RECORDS {
        let results = serde_json::json!({
            "bytes_per_record": polled.bytes,
            "rss_per_record": polled.resident,
            "charged_per_record": polled.charged,
            "bytes_per_quiet_record": quiet.bytes,
            "bytes_kept_per_record": swept.bytes,
        });
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("records.json"), format!("{results:#}\n"))?;
    }
    Ok(())
}
