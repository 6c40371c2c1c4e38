//! Simulates the adaptive not-ready TTL and fixed ones: upstream polls against the delay from ready to seen. Generates
//! the table and figure of `docs/polling.md` (`CAPGATE_BLESS=1 cargo test pacing`) and asserts the documented limits.
//!
//! The simulation drives the ledger's real table with one client that polls every 250 ms, prefetches, and flights of
//! 50 ms. Time is a plain number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use capgate::domain::{Account, LegacyId, Moment, NativeId, Outcome, Solved};
use capgate::ledger::{Admit, FlightTicket, NextPrefetch, Options, Pacing, PollReply, PollSource, Table};
use capgate::methods::{METHODS, Payload};
use capgate::storm::random::Random;

use crate::documents::assert_generated;

/// The defaults of `conf/capgate.toml`.
const ADAPTIVE: Pacing =
    Pacing { floor_ms: 250, ceiling_ms: 5_000, poll_cost_ms: 30, polls_max: 100, life_ms: 1_800_000 };

const CLIENT_EVERY_MS: u64 = 250;
const FLIGHT_MS: u64 = 50;
/// Tasks before the measured ones, from which the gateway learns: about a minute of work.
const WARM_UP: u64 = 100;
const TASKS: u64 = 400;

/// A log-normal distribution of solve times.
struct Shape {
    name: &'static str,
    median_ms: f64,
    /// Sigma.
    spread: f64,
}

const SHAPES: &[Shape] = &[
    Shape { name: "0.4 s", median_ms: 400.0, spread: 0.25 },
    Shape { name: "15 s, ±25%", median_ms: 15_000.0, spread: 0.25 },
    Shape { name: "15 s, ±15%", median_ms: 15_000.0, spread: 0.15 },
    Shape { name: "20 s, ±5%", median_ms: 20_000.0, spread: 0.05 },
    Shape { name: "60 s, long tail", median_ms: 60_000.0, spread: 0.8 },
];

fn fixed(ms: u64) -> Pacing {
    Pacing { floor_ms: ms, ceiling_ms: ms, polls_max: u16::MAX, ..ADAPTIVE }
}

/// Simulates one task. Returns the upstream polls, and the milliseconds from ready to seen.
fn run_task(table: &Table, account: &Account, id: u64, began: u64, solve_ms: u64, phase_ms: u64) -> (u64, u64) {
    let legacy = LegacyId(id);
    table.open(legacy, account, METHODS[0][0], Moment(began)).expect("room");
    table.bind(legacy, NativeId::new("n"), Moment(began));
    let ready_at = began + solve_ms;
    let mut polls = 0;
    // Flights by the time at which they land. The upstream evaluates a poll half-way through its flight.
    let mut landings: BTreeMap<u64, u64> = BTreeMap::new();
    let mut client_at = began + phase_ms;
    let mut now = began;
    loop {
        let start_flight = |ticket: FlightTicket, polls: &mut u64, landings: &mut BTreeMap<u64, u64>| {
            *polls += 1;
            assert!(landings.insert(now + FLIGHT_MS, ticket.flight).is_none(), "two flights at a time");
        };
        while let Some((at, flight)) = landings.first_key_value().map(|(at, flight)| (*at, *flight))
            && at <= now
        {
            landings.pop_first();
            let solved =
                Solved { payload: Payload::Text("T".into()), extras: Vec::new(), cost: None, took_ms: Some(solve_ms) };
            let is_ready = ready_at + FLIGHT_MS / 2 <= at;
            let outcome = if is_ready { Outcome::Solved(Arc::new(solved)) } else { Outcome::NotReady };
            table.complete_flight(legacy, flight, Ok(outcome), Moment(now));
        }
        let prefetch_at = loop {
            match table.next_prefetch(Moment(now)) {
                NextPrefetch::Start(_, ticket) => start_flight(ticket, &mut polls, &mut landings),
                NextPrefetch::At(moment) => break Some(moment.0),
                NextPrefetch::Idle => break None,
            }
        };
        if now >= client_at {
            match table.admit(account, legacy, Moment(now)) {
                Admit::Reply(PollReply::Answer(Ok(Outcome::Solved(_)), PollSource::Hit)) => {
                    return (polls, now - ready_at);
                }
                Admit::Lead(ticket) | Admit::Refresh(ticket) => start_flight(ticket, &mut polls, &mut landings),
                Admit::Reply(PollReply::Answer(Ok(Outcome::NotReady), PollSource::Hit | PollSource::Stale))
                | Admit::Follow(_) => {}
                other @ Admit::Reply(_) => panic!("{other:?}"),
            }
            client_at += CLIENT_EVERY_MS;
        }
        let events = [Some(client_at), prefetch_at, landings.keys().next().copied()];
        now = events.into_iter().flatten().min().expect("the client's next poll").max(now + 1);
    }
}

struct Measurement {
    polls: f64,
    median_ms: u64,
    p90_ms: u64,
}

fn simulate(pacing: Pacing, shape: &Shape) -> Measurement {
    let options = Options {
        pacing,
        trouble_ttl_ms: 2_000,
        unknown_after_ms: 0,
        stale_ms: 2_000,
        recent_ms: 2_000,
        open_ttl_ms: 1_800_000,
        answer_ttl_ms: 1_800_000,
        unbound_ttl_ms: 90_000,
        records_max: 10_000,
        account_records_max: 10_000,
        bytes_max: usize::MAX,
        flights_max: 100,
        report_window_ms: u64::MAX,
        followers_max: 100,
    };
    let table = Table::new(options);
    let account = Account::new("A").expect("a key");
    let mut random = Random::new(7, 0);
    let (mut now, mut polls, mut delays) = (0, 0, Vec::new());
    for task in 0..WARM_UP + TASKS {
        let solve_ms = random.log_normal(shape.median_ms, shape.spread) as u64;
        let phase_ms = (random.uniform() * CLIENT_EVERY_MS as f64) as u64;
        let (task_polls, delay) = run_task(&table, &account, task, now, solve_ms, phase_ms);
        now += solve_ms + delay;
        if task >= WARM_UP {
            polls += task_polls;
            delays.push(delay);
        }
    }
    delays.sort_unstable();
    let at = |share: f64| delays[(delays.len() as f64 * share) as usize];
    Measurement { polls: polls as f64 / TASKS as f64, median_ms: at(0.5), p90_ms: at(0.9) }
}

const FIXED_MS: &[u64] = &[250, 500, 1_000, 2_000, 5_000];

#[test]
fn no_fixed_ttl_beats_the_adaptive_one() {
    let mut table =
        "| solve time | TTL | polls per task | ready → seen, median | ready → seen, p90 |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut plots: Vec<Plot> = Vec::new();
    for shape in SHAPES {
        let adaptive = simulate(ADAPTIVE, shape);
        let fixed: Vec<(u64, Measurement)> = FIXED_MS.iter().map(|ms| (*ms, simulate(fixed(*ms), shape))).collect();
        let mut row = |ttl: &str, result: &Measurement| {
            let Measurement { polls, median_ms, p90_ms } = result;
            writeln!(table, "| {} | {ttl} | {polls:.1} | {median_ms} ms | {p90_ms} ms |", shape.name).expect("memory");
        };
        row("**adaptive**", &adaptive);
        for (ms, result) in &fixed {
            row(&format!("{ms} ms"), result);
        }
        plots.push((shape.name, adaptive, fixed));
    }
    assert_generated("docs/polling.md", "simulation", &table);
    assert_generated("docs/polling.svg", "", &figure(&plots));
    for (shape, adaptive, fixed) in &plots {
        // A fixed TTL either makes more polls or shows the answer later.
        for (ms, result) in fixed {
            assert!(
                result.polls > adaptive.polls || result.median_ms > adaptive.median_ms,
                "{shape}: a fixed TTL of {ms} ms makes no more polls and is no later"
            );
        }
    }
    // The target of docs/performance.md, for predictable solve times.
    for (name, adaptive, _) in plots.iter().filter(|(name, ..)| !name.contains("tail") && !name.contains("25")) {
        let Measurement { polls, median_ms, .. } = adaptive;
        assert!(*polls <= 12.0 && *median_ms <= 400, "{name}: {polls} polls, {median_ms} ms");
    }
}

/// Name of a distribution, result of the adaptive TTL, results of the fixed ones.
type Plot = (&'static str, Measurement, Vec<(u64, Measurement)>);

/// Renders polls against delay, one panel for each distribution.
fn figure(plots: &[Plot]) -> String {
    const WIDTH: f64 = 240.0;
    const HEIGHT: f64 = 200.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} 270\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        plots.len() as f64 * (WIDTH + 50.0) + 10.0
    );
    for (at, (name, adaptive, fixed)) in plots.iter().enumerate() {
        let left = 50.0 + at as f64 * (WIDTH + 50.0);
        let all = || fixed.iter().map(|(_, result)| result).chain([adaptive]);
        let most = all().map(|result| result.polls).fold(1.0, f64::max).log10().ceil();
        let latest = all().map(|result| result.median_ms as f64).fold(1.0, f64::max) * 1.1;
        // Polls on a logarithmic axis, from 1.
        let place = |result: &Measurement| {
            let x = left + WIDTH * (result.polls.max(1.0).log10() / most).min(1.0);
            (x, 230.0 - HEIGHT * result.median_ms as f64 / latest)
        };
        let (right, bottom) = (left + WIDTH, 230.0);
        writeln!(svg, "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{name}</text>").expect("memory");
        writeln!(svg, "<path d=\"M{left} 30V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>").expect("memory");
        for tick in 0..=most as i32 {
            let x = left + WIDTH * f64::from(tick) / most;
            writeln!(svg, "<text x=\"{x:.0}\" y=\"245\" text-anchor=\"middle\">{}</text>", 10_i32.pow(tick as u32))
                .expect("memory");
        }
        writeln!(svg, "<text x=\"{:.0}\" y=\"260\" text-anchor=\"middle\">polls per task</text>", left + WIDTH / 2.0)
            .expect("memory");
        writeln!(svg, "<text x=\"{:.0}\" y=\"38\" text-anchor=\"end\">{latest:.0} ms</text>", left - 4.0)
            .expect("memory");
        writeln!(svg, "<text x=\"{:.0}\" y=\"230\" text-anchor=\"end\">0</text>", left - 4.0).expect("memory");
        let line: Vec<String> =
            fixed.iter().map(|(_, result)| place(result)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#69c\"/>", line.join(" ")).expect("memory");
        for (ms, result) in fixed {
            let (x, y) = place(result);
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#69c\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#369\">{ms}</text>", x + 5.0, y - 4.0).expect("memory");
        }
        let (x, y) = place(adaptive);
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"#c30\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c30\">adaptive</text>", x - 12.0, y + 15.0).expect("memory");
    }
    svg.push_str("</svg>\n");
    svg
}
