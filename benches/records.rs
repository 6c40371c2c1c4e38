//! What a record of the ledger costs in memory, and that polls of ids that nobody was given cost nothing.
//!
//! `cargo bench --profile dev --bench records` takes a million records and ten million such polls; `-- 100000` takes
//! fewer records, `-- --quick` fewer polls. The sizes do not depend on the profile.
//!
//! What is counted is what the table asked the allocator for, and what the kernel gave the process for it; the two differ
//! by what the allocator adds to each block. Fails where memory is not what it should be.
#![expect(clippy::print_stdout, reason = "figures for whoever ran it")]

use std::alloc::System;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use capgate::config::Config;
use capgate::domain::{Account, LegacyId, NativeId, Outcome, Solved};
use capgate::ledger::table::{Admit, Moment, NextPrefetch, Options, Table};
use capgate::methods::{METHODS, Method, Payload};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RECORDS: usize = 1_000_000;
const ACCOUNTS: usize = 100;
const POLLS: usize = 10_000_000;
const POLLS_QUICK: usize = 1_000_000;
/// Submits in a millisecond: a million records in a hundred seconds, so that some are no longer new when the last comes.
const PER_MS: usize = 10;
/// Bytes of an answer; a token of reCAPTCHA has some more.
const ANSWER_BYTES: usize = 500;
/// Most bytes that may stay allocated for each record that was there: the map's slots, which it keeps for the next ones.
const KEPT_BYTES_MAX: f64 = 40.0;
/// How far what the ledger charges may be from what is allocated: the map is fuller or emptier as the count will have it.
const CHARGE_ERROR_MAX: f64 = 0.15;

type Failed = Box<dyn Error>;

/// What is allocated, and what the process has of the machine.
#[derive(Clone, Copy)]
struct Memory {
    bytes: usize,
    blocks: usize,
    resident: usize,
}

impl Memory {
    fn now() -> Result<Self, Failed> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let resident = 1024 * line.trim().trim_end_matches(" kB").parse::<usize>()?;
        drop(status);
        let counted = ALLOCATOR.stats();
        let bytes = counted.bytes_allocated.wrapping_sub(counted.bytes_deallocated);
        Ok(Self { bytes, blocks: counted.allocations.wrapping_sub(counted.deallocations), resident })
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Twelve digits, as the ledger makes them.
    fn id(&mut self) -> LegacyId {
        LegacyId(100_000_000_000 + self.next() % 900_000_000_000)
    }

    fn native(&mut self) -> NativeId {
        NativeId::new(&Uuid::from_u64_pair(self.next(), self.next()).to_string())
    }
}

/// A table under test. All that it needs besides is allocated before it, so that the difference is its own.
struct World {
    table: Table,
    options: Options,
    accounts: Vec<Account>,
    /// In order, so that an id can be told from one that nobody was given.
    ids: Vec<LegacyId>,
    random: Random,
    now: Moment,
    before: Memory,
}

/// What was measured of one stage, for each record.
struct Figures {
    bytes: f64,
    resident: f64,
    charged: f64,
}

impl World {
    fn new(records: usize) -> Result<Self, Failed> {
        let options = Options {
            records_max: records,
            account_records_max: records,
            bytes_max: usize::MAX,
            ..Config::default().ledger_options()
        };
        let accounts = (0..ACCOUNTS).map(|number| Account::new(&format!("{number:032x}")));
        let accounts = accounts.collect::<Result<_, _>>().map_err(|_| "a key")?;
        let mut random = Random(1);
        let mut ids = Vec::with_capacity(records);
        while ids.len() < records {
            ids.extend(std::iter::repeat_with(|| random.id()).take(records - ids.len()));
            ids.sort_unstable();
            ids.dedup();
        }
        let (table, now) = (Table::new(options.clone()), Moment(0));
        let before = Memory::now()?;
        Ok(Self { table, options, accounts, ids, random, now, before })
    }

    fn account(&self, place: usize) -> Result<&Account, Failed> {
        Ok(self.accounts.get(place % ACCOUNTS).ok_or("no account")?)
    }

    /// Submits them one after the other, while the ledger's own tasks do their work.
    fn open_all(&mut self, method: &'static Method) -> Result<(), Failed> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|place| Random(*place as u64).next());
        for (done, place) in order.into_iter().enumerate() {
            self.now = Moment((done / PER_MS) as u64);
            let id = *self.ids.get(place).ok_or("no id")?;
            self.table.open(id, self.account(place)?, method, self.now).map_err(|why| format!("{why:?}"))?;
            self.table.bind(id, self.random.native(), self.now);
            if done % (1_000 * PER_MS) == 0 {
                self.look_after()?;
            }
        }
        Ok(())
    }

    /// What the ledger's tasks do meanwhile.
    fn look_after(&self) -> Result<(), Failed> {
        while self.table.sweep(self.now, 1_000) {}
        loop {
            match self.table.ahead(self.now) {
                NextPrefetch::Start(id, lead) => self.table.land(id, lead.flight, Ok(Outcome::NotReady), self.now),
                NextPrefetch::At(moment) if moment <= self.now => {}
                NextPrefetch::At(_) | NextPrefetch::Idle => return Ok(()),
            }
        }
    }

    /// Polls each record by its own account, and lands what that begins.
    fn poll_all(&self, outcome: impl Fn(usize) -> Outcome) -> Result<(), Failed> {
        for (place, id) in self.ids.iter().enumerate() {
            match self.table.admit(self.account(place)?, *id, self.now) {
                Admit::Lead(lead) | Admit::Refresh(lead) => {
                    self.table.land(*id, lead.flight, Ok(outcome(place)), self.now);
                }
                Admit::Unknown => return Err(format!("the record {id} is gone").into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Polls that many ids that nobody was given.
    fn poll_unknown(&mut self, polls: usize) -> Result<(), Failed> {
        let account = self.account(0)?.clone();
        for _ in 0..polls {
            let id = self.random.id();
            if self.ids.binary_search(&id).is_err()
                && !matches!(self.table.admit(&account, id, self.now), Admit::Unknown)
            {
                return Err(format!("{id} is nobody's, and is known").into());
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    fn figures(&self, stage: &str) -> Result<Figures, Failed> {
        let now = Memory::now()?;
        let each = |grown: usize| grown as f64 / self.ids.len() as f64;
        let bytes = each(now.bytes.saturating_sub(self.before.bytes));
        let resident = each(now.resident.saturating_sub(self.before.resident));
        let stats = self.table.stats();
        let charged = each(stats.bytes);
        let blocks = each(now.blocks.saturating_sub(self.before.blocks));
        println!(
            "{stage:28} {:9} records {bytes:7.1} bytes {blocks:5.2} blocks {resident:7.1} resident {charged:7.1} charged",
            stats.records
        );
        Ok(Figures { bytes, resident, charged })
    }
}

fn answer() -> Outcome {
    Outcome::Solved(Arc::new(Solved {
        payload: Payload::Text("t".repeat(ANSWER_BYTES)),
        extras: Vec::new(),
        cost: None,
        took_ms: None,
    }))
}

fn ensure(holds: bool, why: &str) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(why.into()) }
}

fn main() -> Result<(), Failed> {
    let (mut records, mut polls) = (RECORDS, POLLS);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => polls = POLLS_QUICK,
            number => records = number.parse().map_err(|_| "usage: records [--quick] [RECORDS]")?,
        }
    }
    let method = METHODS.iter().flat_map(|rows| rows.iter()).next().ok_or("no method")?;
    println!("for each record:");
    let mut world = World::new(records)?;
    world.open_all(method)?;
    world.figures("submitted")?;
    world.now = world.now.after_ms(world.options.pacing.ceiling_ms);
    world.look_after()?;
    let quiet = world.figures("open, nobody asks")?;

    let (memory, stats) = (Memory::now()?, world.table.stats());
    world.poll_unknown(polls)?;
    world.figures(&format!("{polls} unknown ids later"))?;
    ensure(Memory::now()?.bytes == memory.bytes, "unknown ids take memory")?;
    ensure((world.table.stats(), world.table.recount()) == (stats, stats), "unknown ids change the table")?;

    world.poll_all(|_| Outcome::NotReady)?;
    let polled = world.figures("all found, and polled")?;
    world.now = world.now.after_ms(2 * world.options.pacing.ceiling_ms);
    world.look_after()?;
    world.figures("polled, nobody asks")?;

    // Half of them are solved, the others are left to themselves.
    world.poll_all(|place| if place % 2 == 0 { answer() } else { Outcome::NotReady })?;
    world.figures("every second one solved")?;
    world.now = world.now.after_ms(world.options.open_ttl_ms + world.options.answer_ttl_ms);
    world.look_after()?;
    let swept = world.figures("swept")?;
    let stats = world.table.stats();
    ensure((stats.records, stats.bytes, stats.accounts) == (0, 0, 0), "not everything was forgotten")?;
    ensure(swept.bytes <= KEPT_BYTES_MAX, "sweeping does not give the memory back")?;

    let error = polled.charged / polled.bytes - 1.0;
    println!("an open record takes {:.0} bytes at most, and is charged {:+.1} %", polled.bytes, 100.0 * error);
    ensure(error.abs() <= CHARGE_ERROR_MAX, "a record is charged something else than it takes")?;
    if records == RECORDS {
        let told = serde_json::json!({
            "bytes_per_record": polled.bytes,
            "rss_per_record": polled.resident,
            "charged_per_record": polled.charged,
            "bytes_per_quiet_record": quiet.bytes,
            "bytes_kept_per_record": swept.bytes,
        });
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("records.json"), format!("{told:#}\n"))?;
    }
    Ok(())
}
