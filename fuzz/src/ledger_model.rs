//! A model of the ledger's table that is too simple to be wrong, and the steps that compare both: submits, answers, polls,
//! flights that end late, twice or never, reports, restarts, time. Shared by the target `ledger` and `tests/ledger.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use capgate::domain::{Account, Failure, LegacyId, Moment, NativeId, Outcome, Solved, Verdict};
use capgate::ledger::{Admit, NextPrefetch, NotOpened, Options, Pacing, PollReply, PollResult, PollSource, Table};
use capgate::methods::{self, METHODS, Method, Payload};
use capgate::store::snapshot::{RestoreError, UnixOrigin};

/// Options of the table.
pub const OPTIONS: Options = Options {
    // A fixed interval, which keeps the model simple; `tests/pacing.rs` covers the adaptive one.
    pacing: Pacing { floor_ms: 50, ceiling_ms: 50, poll_cost_ms: 100, polls_max: u16::MAX, life_ms: 5_000 },
    trouble_ttl_ms: 70,
    unknown_after_ms: 0,
    stale_ms: 100,
    recent_ms: 40,
    open_ttl_ms: 5_000,
    answer_ttl_ms: 3_000,
    unbound_ttl_ms: 1_000,
    records_max: 12,
    account_records_max: 8,
    bytes_max: 4_500,
    flights_max: 5,
    report_window_ms: u64::MAX,
    followers_max: 3,
};

/// The choices of a run: a seeded generator, or the bytes of a fuzz input.
pub trait Choices {
    /// Chooses a number below `below`.
    fn next(&mut self, below: u64) -> u64;

    /// Chooses one of the items.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.next(items.len().max(1) as u64);
        items.get(usize::try_from(at).expect("small"))
    }
}

/// The expected state of one task.
#[derive(Clone, Debug)]
struct Model {
    account: usize,
    bound: bool,
    expires: u64,
    settled: Option<Outcome>,
    flight: Option<u64>,
    polls_used: u16,
    fresh_until: u64,
    last_poll: Option<u64>,
}

impl Model {
    fn was_polled_recently(&self, now: u64) -> bool {
        self.last_poll.is_some_and(|last| now - last < OPTIONS.recent_ms)
    }
}

/// A table and its model.
pub struct World {
    /// The table under test.
    pub table: Table,
    accounts: Vec<Account>,
    model: HashMap<LegacyId, Model>,
    /// Every flight that this process started, completed or not: flights end in any order, some twice.
    flights: Vec<(LegacyId, u64)>,
    last_leads: HashMap<LegacyId, u64>,
    /// Milliseconds since the start of the first process.
    pub now: u64,
    /// When the current process started; the table's moments are relative to it.
    process_start: u64,
    next_id: u64,
}

/// Whether a poll was answered with an unknown id.
pub fn is_unknown(admit: &Admit) -> bool {
    matches!(admit, Admit::Reply(PollReply::Answer(Err(Failure::TaskUnknown), PollSource::Unknown)))
}

/// The row of all tasks.
pub fn row() -> &'static Method {
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
    /// Creates an empty table.
    pub fn new() -> Self {
        let accounts = ["A", "B", "C"].map(|key| Account::new(key).expect("a key")).to_vec();
        Self {
            table: Table::new(OPTIONS),
            accounts,
            model: HashMap::new(),
            flights: Vec::new(),
            last_leads: HashMap::new(),
            now: 0,
            process_start: 0,
            next_id: 100,
        }
    }

    fn now(&self) -> Moment {
        Moment(self.now - self.process_start)
    }

    fn some_id(&self, choices: &mut impl Choices) -> LegacyId {
        LegacyId(100 + choices.next(self.next_id - 100 + 2))
    }

    /// Takes one step, and checks that table and model agree.
    ///
    /// # Panics
    /// If they do not.
    pub fn step(&mut self, choices: &mut impl Choices) {
        match choices.next(100) {
            0..15 => self.open(choices),
            15..25 => self.answer_submit(choices),
            25..65 => self.poll(choices),
            65..79 => self.complete_flight(choices),
            79..82 => self.prefetch(),
            82..88 => self.report(choices),
            88 => self.restart(choices),
            89..97 => self.now += choices.next(200),
            97 => self.now += choices.next(4_000),
            _ => self.sweep_and_compare(),
        }
        self.check();
    }

    fn open(&mut self, choices: &mut impl Choices) {
        let account = usize::try_from(choices.next(3)).expect("small");
        let id = if choices.next(10) == 0 { self.some_id(choices) } else { LegacyId(self.next_id) };
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
                    polls_used: 0,
                    fresh_until: 0,
                    last_poll: None,
                };
                self.model.insert(id, model);
                self.last_leads.remove(&id);
            }
            Err(NotOpened::Taken) => assert!(id.0 < self.next_id, "a new id is taken"),
            Err(NotOpened::Full) => {
                let of_account = self.model.values().filter(|model| model.account == account).count();
                let full = stats.records >= OPTIONS.records_max
                    || stats.bytes >= OPTIONS.bytes_max
                    || of_account >= OPTIONS.account_records_max;
                assert!(full, "full without being full: {stats:?}");
            }
        }
    }

    /// Ends a submit with an id, an answer, or a refusal that withdraws the record.
    fn answer_submit(&mut self, choices: &mut impl Choices) {
        let id = self.some_id(choices);
        let (now, moment) = (self.now, self.now());
        let is_unbound = self.model.get(&id).is_some_and(|model| !model.bound && model.settled.is_none());
        match choices.next(4) {
            0 if is_unbound => {
                self.table.withdraw(id);
                self.model.remove(&id);
            }
            1 => {
                let outcome = solved("at once");
                self.table.settle(id, None, &outcome, moment);
                if is_unbound && let Some(model) = self.model.get_mut(&id) {
                    model.settled = Some(outcome);
                    model.expires = now + OPTIONS.answer_ttl_ms;
                }
            }
            _ => {
                self.table.bind(id, NativeId::new(&format!("native {id}")), moment);
                if is_unbound && let Some(model) = self.model.get_mut(&id) {
                    model.bound = true;
                    model.expires = now + OPTIONS.open_ttl_ms;
                    model.fresh_until = now;
                }
            }
        }
    }

    fn poll(&mut self, choices: &mut impl Choices) {
        let id = self.some_id(choices);
        let poller = usize::try_from(choices.next(3)).expect("small");
        let flights = self.table.stats().flights;
        let fast = self.table.try_answer(&self.accounts[poller], id, self.now());
        let admit = self.table.admit(&self.accounts[poller], id, self.now());
        match (&fast, &admit) {
            (None, _) => {}
            (Some(fast), Admit::Reply(reply)) => assert_eq!(format!("{fast:?}"), format!("{reply:?}")),
            (Some(fast), other) => panic!("the fast path answers {fast:?}, the slow path {other:?}"),
        }
        let Some(model) = self.model.get_mut(&id).filter(|model| model.account == poller) else {
            assert!(is_unknown(&admit), "another account or an unknown id gets {admit:?}");
            return;
        };
        if model.expires <= self.now {
            assert!(fast.is_none(), "the fast path answers from an expired record: {fast:?}");
            if model.bound || model.settled.is_some() {
                assert!(is_unknown(&admit), "an expired record answers {admit:?}");
                return;
            }
            model.settled = Some(Outcome::Failed(Failure::Unsolvable));
            model.expires = self.now + OPTIONS.answer_ttl_ms;
        }
        let may_be_stale =
            model.bound && model.was_polled_recently(self.now) && self.now < model.fresh_until + OPTIONS.stale_ms;
        if model.bound && model.settled.is_none() {
            model.last_poll = Some(self.now);
        }
        match (&admit, &model.settled) {
            (Admit::Reply(PollReply::Answer(result, PollSource::Hit)), Some(expected)) => {
                assert_eq!(result.as_ref(), Ok(expected));
            }
            (other, Some(_)) => panic!("a settled record answers {other:?}"),
            (Admit::Reply(PollReply::Answer(result, PollSource::Hit)), None) if !model.bound => {
                assert_eq!(*result, Ok(Outcome::NotReady));
            }
            (Admit::Follow(_), None) => {
                assert!(model.flight.is_some() && !may_be_stale, "follows no flight, or without need");
            }
            (Admit::Reply(PollReply::Answer(result, PollSource::Hit)), None)
                if model.flight.is_none() && self.now < model.fresh_until =>
            {
                assert_eq!(*result, Ok(Outcome::NotReady), "a failed flight is no answer");
            }
            (Admit::Reply(PollReply::Answer(result, PollSource::Hit)), None) => {
                assert_eq!(*result, Ok(Outcome::NotReady));
                assert!(flights >= OPTIONS.flights_max || model.flight.is_some(), "shed without need");
            }
            (Admit::Reply(PollReply::Answer(result, PollSource::Stale)), None) => {
                assert_eq!(*result, Ok(Outcome::NotReady));
                assert!(may_be_stale && model.flight.is_some(), "stale without need");
            }
            (Admit::Lead(ticket) | Admit::Refresh(ticket), None) => {
                assert_eq!(matches!(admit, Admit::Refresh(_)), may_be_stale, "only a frequent client does not wait");
                assert!(model.bound && model.flight.is_none(), "two flights for one task");
                assert!(self.now >= model.fresh_until, "a flight starts inside the pause");
                assert_eq!(ticket.task.account, self.accounts[poller]);
                assert_eq!(ticket.task.native.to_string(), format!("native {id}"));
                if let Some(last) = self.last_leads.insert(id, self.now) {
                    assert!(self.now >= last, "time runs backwards");
                }
                model.flight = Some(ticket.flight);
                self.flights.push((id, ticket.flight));
            }
            (other, None) => panic!("an open record answers {other:?}"),
        }
    }

    /// Tasks of frequent clients are prefetched, and no others.
    fn prefetch(&mut self) {
        while let NextPrefetch::Start(id, ticket) = self.table.next_prefetch(self.now()) {
            let model = self.model.get_mut(&id).expect("a task of the model");
            assert!(
                model.bound && model.settled.is_none() && model.flight.is_none(),
                "prefetches a task that is not open"
            );
            assert!(model.fresh_until <= self.now && model.was_polled_recently(self.now), "prefetches without need");
            model.flight = Some(ticket.flight);
            self.flights.push((id, ticket.flight));
        }
    }

    fn complete_flight(&mut self, choices: &mut impl Choices) {
        let Some((id, flight)) = choices.pick(&self.flights).copied() else { return };
        let result: PollResult = match choices.next(6) {
            0 => Ok(solved(&format!("answer of {id}"))),
            1 => Ok(Outcome::Failed(Failure::Unsolvable)),
            2 => Err(Failure::Unavailable),
            3 => Err(Failure::ZeroBalance),
            _ => Ok(Outcome::NotReady),
        };
        let waiting = self.table.recount().waiting;
        self.table.complete_flight(id, flight, result.clone(), self.now());
        let Some(model) = self.model.get_mut(&id).filter(|model| model.flight == Some(flight)) else {
            assert_eq!(self.table.recount().waiting, waiting, "an overtaken flight wakes a request");
            return;
        };
        model.flight = None;
        model.polls_used += 1;
        let is_not_ready = result == Ok(Outcome::NotReady);
        model.fresh_until = self.now + if is_not_ready { OPTIONS.pacing.floor_ms } else { OPTIONS.trouble_ttl_ms };
        match result {
            Ok(Outcome::NotReady) | Err(_) => {}
            Ok(outcome) => {
                model.settled = Some(outcome);
                model.expires = self.now + OPTIONS.answer_ttl_ms;
            }
        }
    }

    /// Replaces the process: its table is restored from snapshots, and only persistent facts survive.
    fn restart(&mut self, choices: &mut impl Choices) {
        const UNIX_MS: u64 = 1_700_000_000_000;
        let origin = UnixOrigin::new(self.now(), UNIX_MS + self.now);
        let snapshots: Vec<_> =
            self.model.keys().map(|id| self.table.snapshot(*id, origin).expect("a task of the model")).collect();
        self.now += choices.next(300);
        self.process_start = self.now.saturating_sub(choices.next(20));
        self.table = Table::new(OPTIONS);
        self.flights.clear();
        let origin = UnixOrigin::new(self.now(), UNIX_MS + self.now);
        for snapshot in snapshots {
            let id = LegacyId(snapshot.legacy_id);
            let restored = self.table.restore(snapshot, &methods::Table::default(), origin, self.now());
            let model = self.model.get_mut(&id).expect("a task of the model");
            model.flight = None;
            model.last_poll = None;
            // The interval counts from now; a task that was never polled may be polled at once.
            model.fresh_until = self.now + if model.polls_used > 0 { OPTIONS.pacing.floor_ms } else { 0 };
            if model.expires <= self.now && !model.bound && model.settled.is_none() {
                model.settled = Some(Outcome::Failed(Failure::Unsolvable));
                model.expires += OPTIONS.answer_ttl_ms;
            }
            let is_live = model.expires > self.now;
            assert_eq!(restored, if is_live { Ok(()) } else { Err(RestoreError::Expired) }, "{model:?}");
            if !is_live {
                self.model.remove(&id);
            }
        }
    }

    fn report(&mut self, choices: &mut impl Choices) {
        let id = self.some_id(choices);
        let poller = usize::try_from(choices.next(3)).expect("small");
        let begun = self.table.begin_report(&self.accounts[poller], id, Verdict::Bad, false, self.now());
        match self.model.get(&id) {
            Some(model) if model.account == poller => {
                if let Ok(Some(task)) = begun {
                    assert_eq!(task.account, self.accounts[poller]);
                    let again = self.table.begin_report(&self.accounts[poller], id, Verdict::Bad, false, self.now());
                    assert_eq!(again.expect_err("one at a time"), Failure::ReportDuplicate);
                    let result = if choices.next(2) == 0 { Ok(()) } else { Err(Failure::OutcomeUnknown) };
                    self.table.end_report(id, Verdict::Bad, &result, self.now());
                    let again = self.table.begin_report(&self.accounts[poller], id, Verdict::Bad, false, self.now());
                    match result {
                        Ok(()) => assert!(matches!(again, Ok(None)), "a recorded report is sent twice"),
                        Err(_) => assert_eq!(again.expect_err("not again"), Failure::ReportRefused),
                    }
                }
            }
            _ => assert_eq!(begun.expect_err("another account"), Failure::TaskUnknown),
        }
        // A report settles an unbound record that has just expired, as a poll does.
        if let Some(model) = self.model.get_mut(&id).filter(|model| model.account == poller)
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

    /// A sweep removes every expired record and no other.
    ///
    /// # Panics
    /// If it does not.
    pub fn sweep_and_compare(&mut self) {
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

    /// Checks that nothing is left once all records have expired.
    ///
    /// # Panics
    /// If something is.
    pub fn drain(&mut self) {
        for _ in 0..2 {
            self.now += 100_000;
            self.sweep_and_compare();
        }
        let stats = self.table.stats();
        assert_eq!((stats.records, stats.bytes, stats.flights, stats.accounts), (0, 0, 0, 0), "not drained");
    }
}
