//! The ledger's table under a seeded storm, beside a model that is too simple to be wrong.
//!
//! Each seed runs some thousand steps: submits, answers, polls, landings that come late, twice or never, reports, time.
//! After every step the table must agree with the model, and its counters with a recount. A failure names seed and step;
//! `CAPGATE_SEEDS=1000` widens the run.

use std::collections::HashMap;
use std::sync::Arc;

use capgate::domain::{Account, Failure, LegacyId, NativeId, Outcome, Solved, Verdict};
use capgate::ledger::table::{Admit, Moment, NextPrefetch, NotOpened, Options, Pacing, PollResult, Table};
use capgate::methods::{METHODS, Method, Payload};

const OPTIONS: Options = Options {
    // A fixed interval, so that the model need not know better; tests/pacing.rs is about the rest.
    pacing: Pacing { floor_ms: 50, ceiling_ms: 50, poll_cost_ms: 100, polls_max: u16::MAX, life_ms: 5_000 },
    trouble_ttl_ms: 70,
    stale_ms: 100,
    recent_ms: 40,
    open_ttl_ms: 5_000,
    answer_ttl_ms: 3_000,
    unbound_ttl_ms: 1_000,
    records_max: 12,
    account_records_max: 8,
    bytes_max: 4_500,
    flights_max: 5,
    followers_max: 3,
};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.next(items.len().max(1) as u64);
        items.get(usize::try_from(at).expect("small"))
    }
}

/// What must be true of one task.
#[derive(Clone, Debug)]
struct Model {
    account: usize,
    bound: bool,
    expires: u64,
    settled: Option<Outcome>,
    flight: Option<u64>,
    fresh_until: u64,
    asked_last: Option<u64>,
    refused: Option<Failure>,
}

impl Model {
    fn was_asked_recently(&self, now: u64) -> bool {
        self.asked_last.is_some_and(|last| now - last < OPTIONS.recent_ms)
    }
}

struct World {
    table: Table,
    accounts: Vec<Account>,
    model: HashMap<LegacyId, Model>,
    /// Every flight that ever began, landed or not: they land in any order, some twice.
    flights: Vec<(LegacyId, u64)>,
    leads: HashMap<LegacyId, u64>,
    now: u64,
    next_id: u64,
}

fn row() -> &'static Method {
    METHODS[0][0]
}

fn solved(text: &str) -> Outcome {
    Outcome::Solved(Arc::new(Solved {
        payload: Payload::Text(text.to_owned()),
        extras: Vec::new(),
        cost: None,
        took_ms: None,
    }))
}

impl World {
    fn new() -> Self {
        let accounts = ["A", "B", "C"].map(|key| Account::new(key).expect("a key")).to_vec();
        Self {
            table: Table::new(OPTIONS),
            accounts,
            model: HashMap::new(),
            flights: Vec::new(),
            leads: HashMap::new(),
            now: 0,
            next_id: 100,
        }
    }

    fn now(&self) -> Moment {
        Moment(self.now)
    }

    fn some_id(&self, random: &mut Random) -> LegacyId {
        LegacyId(100 + random.next(self.next_id - 100 + 2))
    }

    fn step(&mut self, random: &mut Random) {
        match random.next(100) {
            0..15 => self.open(random),
            15..25 => self.answer_submit(random),
            25..65 => self.poll(random),
            65..79 => self.land(random),
            79..82 => self.ahead(),
            82..88 => self.report(random),
            88..97 => self.now += random.next(200),
            97 => self.now += random.next(4_000),
            _ => self.sweep_and_compare(),
        }
        self.check();
    }

    fn open(&mut self, random: &mut Random) {
        let account = usize::try_from(random.next(3)).expect("small");
        let id = if random.next(10) == 0 { self.some_id(random) } else { LegacyId(self.next_id) };
        let opened = self.table.open(id, &self.accounts[account], row(), self.now());
        let stats = self.table.stats();
        match opened {
            Ok(()) => {
                self.next_id = self.next_id.max(id.0 + 1);
                let expires = self.now + OPTIONS.unbound_ttl_ms;
                let model = Model {
                    account,
                    bound: false,
                    expires,
                    settled: None,
                    flight: None,
                    fresh_until: 0,
                    asked_last: None,
                    refused: None,
                };
                self.model.insert(id, model);
                self.leads.remove(&id);
            }
            Err(NotOpened::Taken) => assert!(id.0 < self.next_id, "a new id is said to be taken"),
            Err(NotOpened::Full) => {
                let of_account = self.model.values().filter(|model| model.account == account).count();
                let full = stats.records >= OPTIONS.records_max
                    || stats.bytes >= OPTIONS.bytes_max
                    || of_account >= OPTIONS.account_records_max;
                assert!(full, "full without being full: {stats:?}");
            }
        }
    }

    /// The upstream's word on a submit: an id, an answer, or a refusal that takes the record back.
    fn answer_submit(&mut self, random: &mut Random) {
        let id = self.some_id(random);
        let now = self.now();
        let waits = self.model.get(&id).is_some_and(|model| !model.bound && model.settled.is_none());
        match random.next(4) {
            0 if waits => {
                self.table.withdraw(id);
                self.model.remove(&id);
            }
            1 => {
                let outcome = solved("at once");
                self.table.settle(id, None, &outcome, now);
                if waits && let Some(model) = self.model.get_mut(&id) {
                    model.settled = Some(outcome);
                    model.expires = now.0 + OPTIONS.answer_ttl_ms;
                }
            }
            _ => {
                self.table.bind(id, NativeId::new(&format!("native {id}")), now);
                if waits && let Some(model) = self.model.get_mut(&id) {
                    model.bound = true;
                    model.expires = now.0 + OPTIONS.open_ttl_ms;
                    model.fresh_until = now.0;
                }
            }
        }
    }

    fn poll(&mut self, random: &mut Random) {
        let id = self.some_id(random);
        let asks = usize::try_from(random.next(3)).expect("small");
        let flights = self.table.stats().flights;
        let admit = self.table.admit(&self.accounts[asks], id, self.now());
        let Some(model) = self.model.get_mut(&id).filter(|model| model.account == asks) else {
            assert!(matches!(admit, Admit::Unknown), "a stranger or an unknown id got {admit:?}");
            return;
        };
        if model.expires <= self.now {
            if model.bound || model.settled.is_some() {
                assert!(matches!(admit, Admit::Unknown), "an expired record answers {admit:?}");
                return;
            }
            model.settled = Some(Outcome::Failed(Failure::Unsolvable));
            model.expires = self.now + OPTIONS.answer_ttl_ms;
        }
        let may_be_stale = model.bound
            && model.refused.is_none()
            && model.was_asked_recently(self.now)
            && self.now < model.fresh_until + OPTIONS.stale_ms;
        if model.bound && model.settled.is_none() {
            model.asked_last = Some(self.now);
        }
        match (&admit, &model.settled) {
            (Admit::Settled(outcome), Some(expected)) => assert_eq!(outcome, expected),
            (other, Some(_)) => panic!("a settled record answers {other:?}"),
            (Admit::Recent(landing), None) if !model.bound => assert_eq!(*landing, Ok(Outcome::NotReady)),
            (Admit::Follow(_), None) => {
                assert!(model.flight.is_some() && !may_be_stale, "followed without need, or what is not there");
            }
            (Admit::Recent(landing), None) if model.flight.is_none() && self.now < model.fresh_until => {
                assert_eq!(*landing, model.refused.clone().map_or(Ok(Outcome::NotReady), Err));
            }
            (Admit::Recent(landing), None) => {
                assert_eq!(*landing, Ok(Outcome::NotReady));
                assert!(flights >= OPTIONS.flights_max || model.flight.is_some(), "shed without need");
            }
            (Admit::Stale, None) => assert!(may_be_stale && model.flight.is_some(), "stale without need"),
            (Admit::Lead(lead) | Admit::Refresh(lead), None) => {
                assert_eq!(matches!(admit, Admit::Refresh(_)), may_be_stale, "who waits, and who does not");
                assert!(model.bound && model.flight.is_none(), "two flights for one task");
                assert!(self.now >= model.fresh_until, "led inside the pause");
                assert_eq!(lead.task.account, self.accounts[asks]);
                assert_eq!(lead.task.native.to_string(), format!("native {id}"));
                if let Some(last) = self.leads.insert(id, self.now) {
                    assert!(self.now >= last, "time runs backwards");
                }
                model.flight = Some(lead.flight);
                self.flights.push((id, lead.flight));
            }
            (other, None) => panic!("an open record answers {other:?}"),
        }
    }

    /// Who asks often is asked for ahead, and nobody else.
    fn ahead(&mut self) {
        while let NextPrefetch::Start(id, lead) = self.table.ahead(self.now()) {
            let model = self.model.get_mut(&id).expect("a task that is there");
            assert!(model.bound && model.settled.is_none() && model.flight.is_none(), "ahead of what cannot be asked");
            assert!(model.fresh_until <= self.now && model.was_asked_recently(self.now), "ahead without need");
            model.flight = Some(lead.flight);
            self.flights.push((id, lead.flight));
        }
    }

    fn land(&mut self, random: &mut Random) {
        let Some((id, flight)) = random.pick(&self.flights).copied() else { return };
        let landing: PollResult = match random.next(6) {
            0 => Ok(solved(&format!("answer of {id}"))),
            1 => Ok(Outcome::Failed(Failure::Unsolvable)),
            2 => Err(Failure::Unavailable),
            3 => Err(Failure::ZeroBalance),
            _ => Ok(Outcome::NotReady),
        };
        let wakes_all = self.table.recount().waiting;
        self.table.land(id, flight, landing.clone(), self.now());
        let Some(model) = self.model.get_mut(&id).filter(|model| model.flight == Some(flight)) else {
            assert_eq!(self.table.recount().waiting, wakes_all, "a landing that nobody waited for woke somebody");
            return;
        };
        model.flight = None;
        let is_calm = landing == Ok(Outcome::NotReady);
        model.fresh_until = self.now + if is_calm { OPTIONS.pacing.floor_ms } else { OPTIONS.trouble_ttl_ms };
        model.refused = None;
        match landing {
            Ok(Outcome::NotReady) | Err(Failure::Unavailable) => {}
            Ok(outcome) => {
                model.settled = Some(outcome);
                model.expires = self.now + OPTIONS.answer_ttl_ms;
            }
            Err(failure) => model.refused = Some(failure),
        }
    }

    fn report(&mut self, random: &mut Random) {
        let id = self.some_id(random);
        let asks = usize::try_from(random.next(3)).expect("small");
        let begun = self.table.begin_report(&self.accounts[asks], id, Verdict::Bad, self.now());
        match self.model.get(&id) {
            Some(model) if model.account == asks => {
                if let Ok(Some(task)) = begun {
                    assert_eq!(task.account, self.accounts[asks]);
                    let again = self.table.begin_report(&self.accounts[asks], id, Verdict::Bad, self.now());
                    assert_eq!(again.expect_err("one at a time"), Failure::ReportDuplicate);
                    let result = if random.next(2) == 0 { Ok(()) } else { Err(Failure::OutcomeUnknown) };
                    self.table.end_report(id, Verdict::Bad, &result);
                    let again = self.table.begin_report(&self.accounts[asks], id, Verdict::Bad, self.now());
                    match result {
                        Ok(()) => assert!(matches!(again, Ok(None)), "a recorded report is sent again"),
                        Err(_) => assert_eq!(again.expect_err("not again"), Failure::ReportRefused),
                    }
                    // A report may settle an unbound record that has just expired; the model learns it by polling.
                }
            }
            _ => assert_eq!(begun.expect_err("a stranger"), Failure::TaskUnknown),
        }
        // Looking at an expired unbound record settles it, whoever looks first.
        if let Some(model) = self.model.get_mut(&id).filter(|model| model.account == asks)
            && model.expires <= self.now
            && !model.bound
            && model.settled.is_none()
        {
            model.settled = Some(Outcome::Failed(Failure::Unsolvable));
            model.expires = self.now + OPTIONS.answer_ttl_ms;
        }
    }

    fn check(&mut self) {
        let (stats, recount) = (self.table.stats(), self.table.recount());
        assert_eq!((stats.records, stats.bytes, stats.flights), (recount.records, recount.bytes, recount.flights));
        assert!(stats.records <= OPTIONS.records_max && stats.flights <= OPTIONS.flights_max, "{stats:?}");
        assert!(stats.accounts <= 3 && stats.accounts == recount.accounts, "{stats:?}");
    }

    /// Everything that sweeping must have forgotten is forgotten, and nothing else.
    fn sweep_and_compare(&mut self) {
        while self.table.sweep(self.now(), 2) {}
        let now = self.now;
        for model in
            self.model.values_mut().filter(|model| model.expires <= now && !model.bound && model.settled.is_none())
        {
            model.settled = Some(Outcome::Failed(Failure::Unsolvable));
            model.expires = now + OPTIONS.answer_ttl_ms;
        }
        self.model.retain(|_, model| model.expires > now);
        assert_eq!(self.table.stats().records, self.model.len(), "swept too much or too little");
    }
}

#[test]
fn the_table_agrees_with_the_model_whatever_happens() {
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
        world.now += 100_000;
        world.sweep_and_compare();
        world.now += 100_000;
        world.sweep_and_compare();
        let stats = world.table.stats();
        assert_eq!(
            (stats.records, stats.bytes, stats.flights, stats.accounts),
            (0, 0, 0, 0),
            "seed {seed}: not drained"
        );
    }
}

#[test]
fn a_pingback_is_kept_with_its_task_and_charged() {
    let table = Table::new(OPTIONS);
    let account = Account::new("A").expect("a key");
    table.open(LegacyId(7), &account, row(), Moment(0)).expect("room");
    let before = table.stats().bytes;
    table.set_pingback(LegacyId(7), "https://example.com/told".into());
    assert_eq!(table.pingback(LegacyId(7)).as_deref(), Some("https://example.com/told"));
    assert_eq!(table.pingback(LegacyId(8)), None);
    assert_eq!((table.stats().bytes - before, table.stats().bytes), (24, table.recount().bytes));
    table.withdraw(LegacyId(7));
    assert_eq!((table.stats().bytes, table.pingback(LegacyId(7))), (0, None));
}

/// Whoever guesses ids costs no memory, and pushes nobody out of a table that is full.
#[test]
fn random_ids_neither_grow_the_table_nor_push_out_real_records() {
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
    assert_eq!(real.len(), records, "a seed that makes an id twice");
    for (id, account) in &real {
        table.open(*id, account, row(), Moment(0)).expect("room");
        table.bind(*id, NativeId::new(&format!("native {id}")), Moment(0));
    }
    let (stats, recount) = (table.stats(), table.recount());
    for step in 0..100 * RECORDS {
        // Of other accounts too, and of one that has no record at all.
        let asks = accounts.get(usize::try_from(step % 4).expect("small")).cloned();
        let asks = asks.unwrap_or_else(|| Account::new("D").expect("a key"));
        let id = LegacyId(100_000_000_000 + random.next(900_000_000_000));
        if !real.contains_key(&id) {
            assert!(matches!(table.admit(&asks, id, Moment(1 + step % 100)), Admit::Unknown), "{id} is nobody's");
        }
    }
    assert_eq!((table.stats(), table.recount()), (stats, recount));
    assert_eq!(table.open(LegacyId(1), &accounts[0], row(), Moment(100)), Err(NotOpened::Full));
    for (id, account) in real {
        assert!(!matches!(table.admit(account, id, Moment(100)), Admit::Unknown), "{id} was pushed out");
    }
}

/// Real threads: whatever they do, one flight per task, and every poll that waits is woken.
#[test]
fn threads_share_one_flight() {
    let table = Arc::new(Table::new(Options {
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
                Admit::Lead(lead) => Some(lead.flight),
                _ => None,
            })
            .collect();
        assert_eq!(flights.len(), 1, "round {round}: {admits:?}");
        assert_eq!(table.recount().waiting, 8);
        table.land(id, flights[0], Ok(Outcome::NotReady), Moment(round));
        for admit in admits {
            let wake = match admit {
                Admit::Lead(lead) => lead.wake,
                Admit::Follow(wake) => wake,
                other => panic!("round {round}: {other:?}"),
            };
            assert_eq!(*wake.borrow(), Some(Ok(Outcome::NotReady)));
        }
    }
}
