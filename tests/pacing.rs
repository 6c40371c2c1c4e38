//! The adaptive not-ready TTL beside fixed ones, in a simulation: polls of the upstream against the delay from ready to
//! seen. Writes the table and the figure of `docs/polling.md` (`CAPGATE_BLESS=1 cargo test pacing`), and holds it to its
//! promises.
//!
//! Simulated is the table itself, by its own methods, with one client that polls every 250 ms: what a poll finds, what is
//! asked ahead, and flights that take 50 ms. Time is a number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use capgate::domain::{Account, LegacyId, NativeId, Outcome, Solved};
use capgate::ledger::table::{Admit, FlightTicket, Moment, NextPrefetch, Options, Pacing, Table};
use capgate::methods::{METHODS, Payload};

use crate::documents::bless;

/// As in `conf/capgate.toml`.
const ADAPTIVE: Pacing =
    Pacing { floor_ms: 250, ceiling_ms: 5_000, poll_cost_ms: 30, polls_max: 100, life_ms: 1_800_000 };

const CLIENT_EVERY_MS: u64 = 250;
const FLIGHT_MS: u64 = 50;
/// Tasks before those that are measured: what a gateway has seen after a minute of work.
const WARM_UP: u64 = 100;
const TASKS: u64 = 400;

/// How long tasks take.
struct Shape {
    name: &'static str,
    median_ms: f64,
    /// Sigma of the log-normal distribution.
    spread: f64,
}

const SHAPES: &[Shape] = &[
    Shape { name: "0.4 s", median_ms: 400.0, spread: 0.25 },
    Shape { name: "15 s, ±25 %", median_ms: 15_000.0, spread: 0.25 },
    Shape { name: "15 s, ±15 %", median_ms: 15_000.0, spread: 0.15 },
    Shape { name: "20 s, ±5 %", median_ms: 20_000.0, spread: 0.05 },
    Shape { name: "60 s, long tail", median_ms: 60_000.0, spread: 0.8 },
];

fn fixed(ms: u64) -> Pacing {
    Pacing { floor_ms: ms, ceiling_ms: ms, polls_max: u16::MAX, ..ADAPTIVE }
}

/// splitmix64, as a number from 0 to 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A log-normal number (Box and Muller).
fn draw(shape: &Shape, state: &mut u64) -> u64 {
    let (u, v) = (random(state).max(1e-12), random(state));
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    (shape.median_ms * (shape.spread * normal).exp()) as u64
}

/// One task: polls of the upstream, and milliseconds from ready to seen.
fn run(table: &Table, account: &Account, id: u64, began: u64, takes_ms: u64, phase_ms: u64) -> (u64, u64) {
    let legacy = LegacyId(id);
    table.open(legacy, account, METHODS[0][0], Moment(began)).expect("room");
    table.bind(legacy, NativeId::new("n"), Moment(began));
    let ready_at = began + takes_ms;
    let mut polls = 0;
    // Flights under way, by the moment at which they land; the upstream looks half-way.
    let mut landing: BTreeMap<u64, u64> = BTreeMap::new();
    let mut client_at = began + phase_ms;
    let mut now = began;
    loop {
        let take_off = |lead: FlightTicket, polls: &mut u64, landing: &mut BTreeMap<u64, u64>| {
            *polls += 1;
            assert!(landing.insert(now + FLIGHT_MS, lead.flight).is_none(), "one flight at a time");
        };
        while let Some((at, flight)) = landing.first_key_value().map(|(at, flight)| (*at, *flight))
            && at <= now
        {
            landing.pop_first();
            let solved =
                Solved { payload: Payload::Text("T".into()), extras: Vec::new(), cost: None, took_ms: Some(takes_ms) };
            let is_ready = ready_at + FLIGHT_MS / 2 <= at;
            let outcome = if is_ready { Outcome::Solved(Arc::new(solved)) } else { Outcome::NotReady };
            table.land(legacy, flight, Ok(outcome), Moment(now));
        }
        let ahead = loop {
            match table.ahead(Moment(now)) {
                NextPrefetch::Start(_, lead) => take_off(lead, &mut polls, &mut landing),
                NextPrefetch::At(moment) => break Some(moment.0),
                NextPrefetch::Idle => break None,
            }
        };
        if now >= client_at {
            match table.admit(account, legacy, Moment(now)) {
                Admit::Settled(_) => return (polls, now - ready_at),
                Admit::Lead(lead) | Admit::Refresh(lead) => take_off(lead, &mut polls, &mut landing),
                Admit::Recent(_) | Admit::Stale | Admit::Follow(_) => {}
                other => panic!("{other:?}"),
            }
            client_at += CLIENT_EVERY_MS;
        }
        let events = [Some(client_at), ahead, landing.keys().next().copied()];
        now = events.into_iter().flatten().min().expect("the client asks again").max(now + 1);
    }
}

struct Result {
    polls: f64,
    median_ms: u64,
    p90_ms: u64,
}

fn simulate(pacing: Pacing, shape: &Shape) -> Result {
    let options = Options {
        pacing,
        trouble_ttl_ms: 2_000,
        stale_ms: 2_000,
        recent_ms: 2_000,
        open_ttl_ms: 1_800_000,
        answer_ttl_ms: 1_800_000,
        unbound_ttl_ms: 90_000,
        records_max: 10_000,
        account_records_max: 10_000,
        bytes_max: usize::MAX,
        flights_max: 100,
        followers_max: 100,
    };
    let table = Table::new(options);
    let account = Account::new("A").expect("a key");
    let (mut state, mut now, mut polls, mut delays) = (7, 0, 0, Vec::new());
    for task in 0..WARM_UP + TASKS {
        let takes_ms = draw(shape, &mut state);
        let phase_ms = (random(&mut state) * CLIENT_EVERY_MS as f64) as u64;
        let (asked, delay) = run(&table, &account, task, now, takes_ms, phase_ms);
        now += takes_ms + delay;
        if task >= WARM_UP {
            polls += asked;
            delays.push(delay);
        }
    }
    delays.sort_unstable();
    let at = |share: f64| delays[(delays.len() as f64 * share) as usize];
    Result { polls: polls as f64 / TASKS as f64, median_ms: at(0.5), p90_ms: at(0.9) }
}

const FIXED_MS: &[u64] = &[250, 500, 1_000, 2_000, 5_000];

#[test]
fn the_adaptive_ttl_beats_every_fixed_one() {
    let mut table =
        "| tasks take | TTL | polls for each task | ready → seen, median | 90 % |\n|---|---|---|---|---|\n".to_owned();
    let mut plots: Vec<Plot> = Vec::new();
    for shape in SHAPES {
        let adaptive = simulate(ADAPTIVE, shape);
        let fixed: Vec<(u64, Result)> = FIXED_MS.iter().map(|ms| (*ms, simulate(fixed(*ms), shape))).collect();
        let mut row = |ttl: &str, result: &Result| {
            let Result { polls, median_ms, p90_ms } = result;
            writeln!(table, "| {} | {ttl} | {polls:.1} | {median_ms} ms | {p90_ms} ms |", shape.name).expect("memory");
        };
        row("**adaptive**", &adaptive);
        for (ms, result) in &fixed {
            row(&format!("{ms} ms"), result);
        }
        plots.push((shape.name, adaptive, fixed));
    }
    bless("docs/polling.md", "simulation", &table);
    bless("docs/polling.svg", "", &figure(&plots));
    for (shape, adaptive, fixed) in &plots {
        // Whatever is seen as early costs more, and whatever costs as little is seen later.
        for (ms, result) in fixed {
            assert!(
                result.polls > adaptive.polls || result.median_ms > adaptive.median_ms,
                "{shape}: a fixed TTL of {ms} ms is as cheap and as early"
            );
        }
    }
    // The promise of docs/performance.md, as far as solve times can be foretold.
    for (name, adaptive, _) in plots.iter().filter(|(name, ..)| !name.contains("tail") && !name.contains("25")) {
        let Result { polls, median_ms, .. } = adaptive;
        assert!(*polls <= 12.0 && *median_ms <= 400, "{name}: {polls} polls, {median_ms} ms");
    }
}

/// A shape: its name, the adaptive TTL, and fixed ones.
type Plot = (&'static str, Result, Vec<(u64, Result)>);

/// Polls against delay, a panel for each shape.
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
        let place = |result: &Result| {
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
        writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"260\" text-anchor=\"middle\">polls for each task</text>",
            left + WIDTH / 2.0
        )
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
