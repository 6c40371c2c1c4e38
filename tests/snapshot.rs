//! Snapshots of tasks, and their restoration in another process.

use std::sync::Arc;

use capgate::config::Config;
use capgate::domain::{Account, Failure, LegacyId, Moment, NativeId, Outcome, Solved, UpstreamId, Verdict};
use capgate::ledger::{
    Admit, FlightTicket, NextPrefetch, NotOpened, Options, PollReply, PollResult, PollSource, Table,
};
use capgate::methods::{self, METHODS, Method, Payload, Value};
use capgate::store::snapshot::{RestoreError, StateSnapshot, TaskSnapshot, UnixOrigin};
use proptest::prelude::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const ID: LegacyId = LegacyId(123_456_789_012);
const NATIVE: &str = "0b0e7a1c-6f52-4f8e-9d4b-3b1f6f1c2d3e";
/// Unix time at which the first process starts.
const START_MS: u64 = 1_700_000_000_000;

fn options() -> Options {
    Config::default().ledger_options()
}

fn account() -> Account {
    Account::new(KEY).expect("a key")
}

fn row() -> &'static Method {
    METHODS[0][0]
}

/// A row that lists extras.
fn row_with_extras() -> &'static Method {
    METHODS.concat().into_iter().find(|row| !row.extras.is_empty()).expect("a row with extras")
}

fn solved(payload: Payload, extras: Vec<(&'static str, String)>) -> Outcome {
    let (cost, took_ms) = (Some("0.00299".to_owned()), Some(12_345));
    Outcome::Solved(Arc::new(Solved { payload, extras, cost, took_ms }))
}

fn text(text: &str) -> Outcome {
    solved(Payload::Text(text.to_owned()), Vec::new())
}

/// A process: its table, and the conversion of its moments.
struct Process {
    table: Table,
    origin: UnixOrigin,
}

impl Process {
    fn start(start_unix_ms: u64) -> Self {
        Self::with(options(), start_unix_ms)
    }

    fn with(options: Options, start_unix_ms: u64) -> Self {
        Self { table: Table::new(options), origin: UnixOrigin::new(Moment(0), start_unix_ms) }
    }

    fn submit(&self, method: &'static Method, now: Moment) {
        self.table.open(ID, &account(), method, now).expect("room");
    }

    fn bind(&self, now: Moment) {
        self.submit(row(), now);
        self.table.bind(ID, NativeId::new(NATIVE), now);
    }

    fn poll(&self, now: Moment) -> Admit {
        self.table.admit(&account(), ID, now)
    }

    fn lead(&self, now: Moment) -> FlightTicket {
        match self.poll(now) {
            Admit::Lead(ticket) | Admit::Refresh(ticket) => ticket,
            other => panic!("no flight at {now:?}: {other:?}"),
        }
    }

    fn settle(&self, outcome: &Outcome, now: Moment) {
        self.table.settle(ID, Some(NativeId::new(NATIVE)), outcome, now);
    }

    /// The snapshot, written and read as JSON.
    fn save(&self) -> TaskSnapshot {
        let snapshot = self.table.snapshot(ID, self.origin).expect("a task");
        let json = serde_json::to_string(&snapshot).expect("serialisable");
        let read: TaskSnapshot = serde_json::from_str(&json).expect("deserialisable");
        assert_eq!(read, snapshot);
        read
    }

    fn restore(&self, snapshot: TaskSnapshot, now: Moment) -> Result<(), RestoreError> {
        let restored = self.table.restore(snapshot, &methods::Table::default(), self.origin, now);
        self.check();
        restored
    }

    fn check(&self) {
        let (stats, recount) = (self.table.stats(), self.table.recount());
        assert_eq!(
            (stats.records, stats.bytes, stats.flights, stats.accounts),
            (recount.records, recount.bytes, recount.flights, recount.accounts)
        );
    }
}

fn answer(admit: Admit) -> (PollResult, PollSource) {
    match admit {
        Admit::Reply(PollReply::Answer(result, source)) => (result, source),
        other => panic!("not an answer: {other:?}"),
    }
}

/// Saves the task at a moment of a first process, and restores it in a second that starts `downtime_ms` later.
fn replace(first: &Process, now: Moment, downtime_ms: u64) -> (Process, TaskSnapshot) {
    let snapshot = first.save();
    let second = Process::start(first.origin.to_unix_ms(now) + downtime_ms);
    second.restore(snapshot.clone(), Moment(0)).expect("a live task");
    (second, snapshot)
}

/// Checks that the second process has the same facts.
fn assert_unchanged(second: &Process, snapshot: &TaskSnapshot) {
    assert_eq!(second.save(), *snapshot);
}

#[test]
fn an_unbound_task_survives_and_can_still_be_bound() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(10));
    first.table.set_pingback(ID, "https://example.com/done".into());
    let (second, snapshot) = replace(&first, Moment(20), 1_000);
    assert_unchanged(&second, &snapshot);
    assert_eq!(second.table.pingback(ID).as_deref(), Some("https://example.com/done"));
    assert_eq!(answer(second.poll(Moment(0))), (Ok(Outcome::NotReady), PollSource::Hit));
    second.table.bind(ID, NativeId::new(NATIVE), Moment(5));
    assert_eq!(second.lead(Moment(5)).task.native, NativeId::new(NATIVE));
}

#[test]
fn a_native_id_keeps_its_json_type() {
    let text = |native_id: &str| serde_json::json!({ "text": native_id });
    let ids = [
        (NativeId::new(NATIVE), text(NATIVE)),
        (NativeId::new("72345678901"), text("72345678901")),
        (NativeId::from_number(72_345_678_901), serde_json::json!({ "number": 72_345_678_901_u64 })),
    ];
    for (native, json) in ids {
        let first = Process::start(START_MS);
        first.submit(row(), Moment(0));
        first.table.bind(ID, native.clone(), Moment(0));
        let (second, snapshot) = replace(&first, Moment(10), 1_000);
        assert_eq!(serde_json::to_value(&snapshot).expect("serialisable")["native_id"], json);
        assert_unchanged(&second, &snapshot);
        assert_eq!(second.lead(Moment(options().pacing.ceiling_ms)).task.native, native);
    }
}

#[test]
fn an_unbound_task_that_expires_during_the_downtime_is_unsolvable() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    let ttl_ms = options().unbound_ttl_ms;
    let snapshot = first.save();
    let second = Process::start(START_MS + ttl_ms + 1);
    second.restore(snapshot.clone(), Moment(0)).expect("a task that its client may still poll");
    assert_eq!(answer(second.poll(Moment(0))).0, Ok(Outcome::Failed(Failure::Unsolvable)));
    let third = Process::start(START_MS + ttl_ms + options().answer_ttl_ms);
    assert_eq!(third.restore(snapshot, Moment(0)), Err(RestoreError::Expired));
}

#[test]
fn an_open_task_is_polled_and_expires_at_the_same_time() {
    let first = Process::start(START_MS);
    first.bind(Moment(100));
    for poll in 0..3 {
        let now = Moment(100 + poll * 20_000);
        let ticket = first.lead(now);
        assert_eq!((ticket.task.upstream, ticket.task.method.name), (UpstreamId::DEFAULT, row().name));
        first.table.complete_flight(ID, ticket.flight, Ok(Outcome::NotReady), now);
    }
    let (second, snapshot) = replace(&first, Moment(50_000), 7_000);
    assert_unchanged(&second, &snapshot);
    let StateSnapshot::Open { accepted_unix_ms, not_ready_age_ms, polls_used } = &snapshot.state else {
        panic!("not open: {snapshot:?}")
    };
    assert_eq!((*accepted_unix_ms, *not_ready_age_ms, *polls_used), (START_MS + 100, 40_000, 3));
    assert_eq!(snapshot.expires_unix_ms, START_MS + 100 + options().open_ttl_ms);

    let now = Moment(options().pacing.ceiling_ms);
    let ticket = second.lead(now);
    assert_eq!((ticket.task.account, ticket.task.native), (account(), NativeId::new(NATIVE)));
    assert_eq!(ticket.task.upstream, UpstreamId::DEFAULT);
    second.table.complete_flight(ID, ticket.flight, Ok(Outcome::NotReady), now);
    let StateSnapshot::Open { polls_used, not_ready_age_ms, .. } = second.save().state else { panic!("not open") };
    // The age counts from the submit in the first process.
    assert_eq!((polls_used, u64::from(not_ready_age_ms)), (4, 50_000 + 7_000 - 100 + now.0));

    let expires = second.origin.to_moment(snapshot.expires_unix_ms);
    second.lead(Moment(expires.0 - 1));
    assert_eq!(answer(second.poll(expires)), (Err(Failure::TaskUnknown), PollSource::Unknown));
    while second.table.sweep(expires, 10) {}
    assert_eq!(second.table.stats().records, 0);
}

#[test]
fn polls_used_before_the_restart_count_against_the_bound() {
    let mut options = options();
    // Affordable after 47 s, 310 s and at the end of life.
    options.pacing.polls_max = 3;
    let first = Process::with(options.clone(), START_MS);
    first.bind(Moment(0));
    for now in [Moment(options.open_ttl_ms / 4), Moment(options.open_ttl_ms / 2)] {
        let ticket = first.lead(now);
        first.table.complete_flight(ID, ticket.flight, Ok(Outcome::NotReady), now);
    }
    let second = Process::with(options.clone(), START_MS + options.open_ttl_ms - 2);
    let snapshot = first.save();
    second.restore(snapshot.clone(), Moment(0)).expect("a live task");
    for now in [Moment(0), Moment(1)] {
        assert_eq!(answer(second.poll(now)), (Ok(Outcome::NotReady), PollSource::Hit));
    }

    // The same task without used polls is polled.
    let StateSnapshot::Open { accepted_unix_ms, not_ready_age_ms, .. } = snapshot.state else { panic!("not open") };
    let state = StateSnapshot::Open { accepted_unix_ms, not_ready_age_ms, polls_used: 0 };
    let third = Process::with(options.clone(), START_MS + options.open_ttl_ms - 2);
    third.restore(TaskSnapshot { state, ..snapshot }, Moment(0)).expect("a live task");
    third.lead(Moment(0));
}

#[test]
fn a_restored_task_of_a_frequent_client_is_prefetched() {
    let first = Process::start(START_MS);
    first.bind(Moment(0));
    let ticket = first.lead(Moment(0));
    first.table.complete_flight(ID, ticket.flight, Ok(Outcome::NotReady), Moment(0));
    let (second, _) = replace(&first, Moment(1_000), 0);
    let NextPrefetch::At(moment) = second.table.next_prefetch(Moment(0)) else { panic!("nothing is scheduled") };
    assert_eq!(answer(second.poll(Moment(moment.0 - 1))), (Ok(Outcome::NotReady), PollSource::Hit));
    assert!(matches!(second.table.next_prefetch(moment), NextPrefetch::Start(ID, _)));
}

#[test]
fn a_group_survives() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    let members: Arc<[LegacyId]> = [LegacyId(1), LegacyId(2)].into();
    first.table.set_members(ID, Arc::clone(&members), Moment(0));
    let (second, snapshot) = replace(&first, Moment(1), 1);
    assert_unchanged(&second, &snapshot);
    assert_eq!(second.table.members(&account(), ID, Moment(0)), Some(members));
}

#[test]
fn every_final_outcome_survives() {
    let digits = Value::Number("1.50000000000000000001".to_owned());
    let record = Value::Record(vec![
        ("z".to_owned(), Value::List(vec![Value::Null, Value::Flag(true), digits])),
        ("a".to_owned(), Value::Text("ä\"\n".to_owned())),
    ]);
    let extra = row_with_extras().extras[0].1;
    let outcomes = [
        text("token"),
        solved(Payload::Structure(record.clone()), Vec::new()),
        solved(Payload::Composed { text: "x=1".to_owned(), json: record }, vec![(extra, "agent".to_owned())]),
        Outcome::Failed(Failure::Unsolvable),
        Outcome::Failed(Failure::Other("ERROR_PASSED_THROUGH".into())),
    ];
    for outcome in outcomes {
        let first = Process::start(START_MS);
        first.submit(row_with_extras(), Moment(0));
        first.settle(&outcome, Moment(3));
        let (second, snapshot) = replace(&first, Moment(10), 5);
        assert_unchanged(&second, &snapshot);
        assert_eq!(answer(second.poll(Moment(0))), (Ok(outcome), PollSource::Hit));
    }
}

#[test]
fn an_expired_task_is_not_restored() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    first.settle(&text("token"), Moment(0));
    let snapshot = first.save();
    let expires_ms = START_MS + options().answer_ttl_ms;
    let early = Process::start(expires_ms - 1);
    early.restore(snapshot.clone(), Moment(0)).expect("a live task");
    let late = Process::start(expires_ms);
    assert_eq!(late.restore(snapshot, Moment(0)), Err(RestoreError::Expired));
    assert_eq!((late.table.stats().records, late.table.stats().bytes, late.table.stats().accounts), (0, 0, 0));
}

#[test]
fn a_report_is_not_sent_again_after_a_restart() {
    type End = Option<Result<(), Failure>>;
    type Begun = Result<bool, Failure>;
    let cases: [(End, Begun, Begun); 4] = [
        // How the report ended before the restart; the same report again; the opposite one.
        (None, Err(Failure::ReportRefused), Err(Failure::ReportRefused)),
        (Some(Err(Failure::OutcomeUnknown)), Err(Failure::ReportRefused), Err(Failure::ReportRefused)),
        (Some(Ok(())), Ok(false), Err(Failure::ReportDuplicate)),
        (Some(Err(Failure::NotSent)), Ok(true), Err(Failure::ReportDuplicate)),
    ];
    for verdict in [Verdict::Good, Verdict::Bad] {
        for (end, again, opposite) in &cases {
            let first = Process::start(START_MS);
            first.submit(row(), Moment(0));
            first.settle(&text("token"), Moment(0));
            first.table.begin_report(&account(), ID, verdict, false, Moment(1)).expect("a first report");
            if let Some(result) = end {
                first.table.end_report(ID, verdict, result, Moment(1));
            }
            let (second, _) = replace(&first, Moment(2), 0);
            let other = if verdict == Verdict::Good { Verdict::Bad } else { Verdict::Good };
            let report = |verdict| {
                second.table.begin_report(&account(), ID, verdict, false, Moment(0)).map(|task| task.is_some())
            };
            assert_eq!((report(verdict), report(other)), (again.clone(), opposite.clone()), "{end:?}");
        }
    }
}

#[test]
fn no_bound_refuses_a_restored_task() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    first.settle(&text("token"), Moment(0));
    let snapshot = first.save();
    let bounds = Options { records_max: 1, account_records_max: 1, bytes_max: 1, ..options() };
    let second = Process::with(bounds, START_MS);
    for id in 1..=3 {
        second.restore(TaskSnapshot { legacy_id: id, ..snapshot.clone() }, Moment(0)).expect("paid for");
    }
    assert_eq!((second.table.stats().records, second.table.stats().accounts), (3, 1));
    assert_eq!(second.table.open(ID, &account(), row(), Moment(0)), Err(NotOpened::Full));
    second.check();
    for id in 1..=3 {
        second.table.withdraw(LegacyId(id));
    }
    assert_eq!((second.table.stats().records, second.table.stats().bytes, second.table.stats().accounts), (0, 0, 0));
}

#[test]
fn an_unreadable_snapshot_is_refused_and_changes_nothing() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    let snapshot = first.save();
    let second = Process::start(START_MS);

    let removed = TaskSnapshot { method: "removed_row".to_owned(), ..snapshot.clone() };
    let error = second.restore(removed, Moment(0)).expect_err("no such row");
    assert_eq!(error, RestoreError::UnknownMethod("removed_row".to_owned()));
    assert!(error.to_string().contains("removed_row"), "{error}");

    let keyless = TaskSnapshot { account_key: String::new(), ..snapshot.clone() };
    assert_eq!(second.restore(keyless, Moment(0)), Err(RestoreError::MalformedKey));
    assert_eq!((second.table.stats().records, second.table.stats().bytes, second.table.stats().accounts), (0, 0, 0));

    second.restore(snapshot.clone(), Moment(0)).expect("room");
    let stats = second.table.stats();
    assert_eq!(second.restore(snapshot, Moment(0)), Err(RestoreError::Taken(ID)));
    assert_eq!(second.table.stats(), stats);
}

#[test]
fn debug_shows_neither_key_nor_answer() {
    let first = Process::start(START_MS);
    first.submit(row(), Moment(0));
    first.table.set_pingback(ID, "https://example.com/?token=pingback-secret".into());
    first.settle(&text("the-answer"), Moment(0));
    let shown = format!("{:?}", first.save());
    assert!(shown.contains(&ID.to_string()) && shown.contains(row().name), "{shown}");
    for secret in [KEY, "the-answer", "pingback-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(|number| Value::Number(number.to_string())),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(Value::Record),
        ]
    })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        any::<String>().prop_map(Payload::Text),
        any_value().prop_map(Payload::Structure),
        (any::<String>(), any_value()).prop_map(|(text, json)| Payload::Composed { text, json }),
    ]
}

proptest! {
    #[test]
    fn any_answer_survives_any_downtime(payload in any_payload(), settled_ms in 0_u64..1 << 40, downtime_ms in 0_u64..1 << 32) {
        let outcome = solved(payload, Vec::new());
        let first = Process::start(START_MS);
        first.submit(row(), Moment(settled_ms));
        first.settle(&outcome, Moment(settled_ms));
        let snapshot = first.save();
        let second = Process::start(START_MS + settled_ms + downtime_ms);
        let restored = second.restore(snapshot.clone(), Moment(0));
        if downtime_ms < options().answer_ttl_ms {
            prop_assert_eq!(restored, Ok(()));
            prop_assert_eq!(second.save(), snapshot);
            prop_assert_eq!(answer(second.poll(Moment(0))), (Ok(outcome), PollSource::Hit));
        } else {
            prop_assert_eq!(restored, Err(RestoreError::Expired));
        }
    }
}
