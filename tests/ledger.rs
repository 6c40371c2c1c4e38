//! Runs the ledger's table in a seeded simulation, and compares it with a model that is too simple to be wrong.
//!
//! Each seed runs some thousand steps: submits, answers, polls, flights that end late, twice or never, reports,
//! restarts, time. After every step the table must agree with the model, and its counters with a recount. A failure
//! names seed and step; `CAPGATE_SEEDS=1000` widens the run.

use std::collections::HashMap;
use std::sync::Arc;

use capgate::domain::{Account, LegacyId, Moment, NativeId, Outcome};
use capgate::ledger::{Admit, NotOpened, Options, Pacing, Table};

use crate::fuzz::ledger_model::{Choices, OPTIONS, World, is_unknown, row};

/// splitmix64.
struct Random(u64);

impl Choices for Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

#[test]
fn the_table_agrees_with_the_model() {
    let seeds = std::env::var("CAPGATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let mut random = Random(seed);
        let mut world = World::new();
        for step in 0..3_000 {
            let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                world.step(&mut random);
                if step % 50 == 0 {
                    world.sweep_and_compare();
                }
            }));
            assert!(stepped.is_ok(), "seed {seed}, step {step}");
        }
        world.drain();
    }
}

#[test]
fn a_pingback_is_kept_with_its_task_and_charged() {
    let table = Table::new(OPTIONS);
    let account = Account::new("A").expect("a key");
    table.open(LegacyId(7), &account, row(), Moment(0)).expect("room");
    let before = table.stats().bytes;
    table.set_pingback(LegacyId(7), "https://example.com/done".into());
    assert_eq!(table.pingback(LegacyId(7)).as_deref(), Some("https://example.com/done"));
    assert_eq!(table.pingback(LegacyId(8)), None);
    assert_eq!((table.stats().bytes - before, table.stats().bytes), (24, table.recount().bytes));
    table.withdraw(LegacyId(7));
    assert_eq!((table.stats().bytes, table.pingback(LegacyId(7))), (0, None));
}

/// Guessed ids cost no memory, and evict no record of a full table.
#[test]
fn guessed_ids_neither_grow_the_table_nor_evict_records() {
    const RECORDS: u64 = 1_000;
    let records = usize::try_from(RECORDS).expect("small");
    let table = Table::new(Options {
        records_max: records,
        account_records_max: records,
        bytes_max: usize::MAX,
        flights_max: records,
        ..OPTIONS
    });
    let accounts = ["A", "B", "C"].map(|key| Account::new(key).expect("a key"));
    let mut random = Random(1);
    let real: HashMap<LegacyId, &Account> =
        std::iter::repeat_with(|| LegacyId(100_000_000_000 + random.next(900_000_000_000)))
            .zip(accounts.iter().cycle())
            .take(records)
            .collect();
    assert_eq!(real.len(), records, "the seed repeats an id");
    for (id, account) in &real {
        table.open(*id, account, row(), Moment(0)).expect("room");
        table.bind(*id, NativeId::new(&format!("native {id}")), Moment(0));
    }
    let (stats, recount) = (table.stats(), table.recount());
    for step in 0..100 * RECORDS {
        // Also of other accounts, and of one without records.
        let account = accounts.get(usize::try_from(step % 4).expect("small")).cloned();
        let account = account.unwrap_or_else(|| Account::new("D").expect("a key"));
        let id = LegacyId(100_000_000_000 + random.next(900_000_000_000));
        if !real.contains_key(&id) {
            let moment = Moment(1 + step % 100);
            let reply = table.try_answer(&account, id, moment).map(Admit::Reply);
            assert!(reply.is_some_and(|reply| is_unknown(&reply)), "{id} was never issued");
            assert!(is_unknown(&table.admit(&account, id, moment)), "{id} was never issued");
        }
    }
    assert_eq!((table.stats(), table.recount()), (stats, recount));
    assert_eq!(table.open(LegacyId(1), &accounts[0], row(), Moment(100)), Err(NotOpened::Full));
    for (id, account) in real {
        assert!(!is_unknown(&table.admit(account, id, Moment(100))), "{id} was evicted");
    }
}

/// With real threads a task has one flight, and its end wakes every poll that waits.
#[test]
fn threads_share_one_flight() {
    let table = Arc::new(Table::new(Options {
        report_window_ms: u64::MAX,
        followers_max: 1_000,
        pacing: Pacing { floor_ms: 0, ceiling_ms: 0, ..OPTIONS.pacing },
        recent_ms: 0,
        ..OPTIONS
    }));
    let account = Account::new("A").expect("a key");
    let id = LegacyId(7);
    table.open(id, &account, row(), Moment(0)).expect("room");
    table.bind(id, NativeId::new("n"), Moment(0));
    for round in 0..200 {
        let barrier = Arc::new(std::sync::Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (table, account, barrier) = (Arc::clone(&table), account.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    table.admit(&account, id, Moment(round))
                })
            })
            .collect();
        let admits: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let flights: Vec<_> = admits
            .iter()
            .filter_map(|admit| match admit {
                Admit::Lead(ticket) => Some(ticket.flight),
                _ => None,
            })
            .collect();
        assert_eq!(flights.len(), 1, "round {round}: {admits:?}");
        assert_eq!(table.recount().waiting, 8);
        table.complete_flight(id, flights[0], Ok(Outcome::NotReady), Moment(round));
        for admit in admits {
            let receiver = match admit {
                Admit::Lead(ticket) => ticket.receiver,
                Admit::Follow(receiver) => receiver,
                other => panic!("round {round}: {other:?}"),
            };
            assert_eq!(*receiver.borrow(), Some(Ok(Outcome::NotReady)));
        }
    }
}
