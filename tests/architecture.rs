//! Rules that the compiler does not know: who may use whom, what must be pure, how long a file may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each module may use of the crate. `main` may use what it likes.
const MAY_USE: &[(&str, &[&str])] = &[
    ("methods", &[]),
    ("http", &[]),
    ("domain", &["methods"]),
    ("legacy", &["methods", "domain", "http"]),
    ("native", &["methods", "domain"]),
    ("clock", &["domain"]),
    ("budget", &["native", "domain", "telemetry"]),
    ("ledger", &["clock", "methods", "domain", "telemetry"]),
    ("sandbox", &[]),
    ("telemetry", &["http"]),
    ("gateway", &["budget", "clock", "domain", "http", "legacy", "ledger", "methods", "native", "telemetry"]),
    (
        "config",
        &["budget", "domain", "gateway", "ledger", "legacy", "methods", "sandbox", "server", "telemetry", "upstream"],
    ),
    ("translate", &["http", "legacy", "methods", "native", "domain"]),
    ("process", &[]),
    ("storm", &["domain", "legacy", "process", "sandbox", "upstream"]),
    ("upstream", &["gateway", "native"]),
    ("server", &["http", "process", "telemetry"]),
    ("apps", &["budget", "clock", "domain", "gateway", "http", "ledger", "legacy", "sandbox", "server", "telemetry"]),
    (
        "wiring",
        &[
            "apps",
            "budget",
            "clock",
            "config",
            "gateway",
            "ledger",
            "process",
            "sandbox",
            "server",
            "telemetry",
            "upstream",
        ],
    ),
    ("cli", &["config", "native", "server", "storm", "translate", "wiring"]),
];

/// Words that would mean I/O, a clock or chance, and the modules that must be without them.
const PURE: &[&str] = &[
    "methods/",
    "domain.rs",
    "legacy/",
    "native/",
    "ledger/facts.rs",
    "ledger/pacing.rs",
    "ledger/poll_state.rs",
    "ledger/queue.rs",
    "ledger/record.rs",
    "ledger/snapshot.rs",
    "ledger/table.rs",
    "ledger/types.rs",
    "budget.rs",
    "sandbox/",
    "storm/delays.rs",
    "storm/guard.rs",
    "storm/mod.rs",
    "storm/plan.rs",
    "storm/random.rs",
    "storm/reply.rs",
    "storm/schedule.rs",
    "storm/summary.rs",
    "storm/tally.rs",
    "storm/upstream_calls.rs",
    "translate.rs",
];
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::io::",
    "tokio::net",
    "tokio::time",
    "tokio::spawn",
    "tokio::task",
    "Instant::now",
    "SystemTime",
    "Utc::now",
    "RandomState",
    "thread::",
    "println!",
    "log::",
    "tracing::",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let name = entry.strip_prefix(root().join("src")).expect("a source").display().to_string();
                sources.insert(name, std::fs::read_to_string(&entry).expect("a text"));
            }
        }
    }
    sources
}

/// The lines of a source that are code: no comments, and nothing from the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_only_what_the_map_allows() {
    for (name, text) in sources() {
        let module = name.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == module) else {
            assert!(name == "lib.rs" || name == "main.rs", "{name} is not on the map");
            continue;
        };
        let code = code(&text);
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(used == module || allowed.contains(&used.as_str()), "{name} uses crate::{used}");
        }
        let uses_pingora = code.contains("pingora");
        let may_use_pingora = ["server", "upstream", "wiring"].contains(&module) || name.starts_with("storm/net/");
        assert!(may_use_pingora || !uses_pingora, "{name} uses Pingora");
        let uses_serde = module == "domain" && code.contains("serde");
        assert!(!uses_serde, "domain knows no wire format");
    }
}

#[test]
fn the_core_does_no_io_and_reads_no_clock() {
    for (name, text) in sources() {
        if PURE.iter().any(|pure| name.starts_with(pure)) {
            let code = code(&text);
            for word in IMPURE {
                assert!(!code.contains(word), "{name} must be pure and says {word}");
            }
        }
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for (name, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(lines <= 400, "{name} has {lines} lines of code: it has two subjects");
    }
}

#[test]
fn every_row_of_the_method_table_has_a_transcript() {
    let transcripts: String =
        crate::support::transcript::files().iter().map(|file| std::fs::read_to_string(file).expect("a text")).collect();
    for method in capgate::methods::Table::default().rows() {
        let names = [method.task_type.proxyless, method.task_type.proxied];
        for name in names.into_iter().flatten() {
            assert!(transcripts.contains(&format!("\"type\":\"{name}\"")), "no transcript submits {name}");
        }
        for legacy in method.legacy {
            let says = [format!("method={legacy}&"), format!("method={legacy}\n"), format!("\"method\":\"{legacy}\"")];
            let parts = format!("name=\"method\"\\r\\n\\r\\n{legacy}\\r");
            let is_said = says.iter().chain([&parts]).any(|say| transcripts.contains(say));
            assert!(is_said, "no transcript says method={legacy}");
        }
        // Names that go with the file parts of several images are said once for all.
        for alias in method.params.iter().flat_map(|param| param.legacy) {
            let says = [
                format!("{alias}="),
                format!("\"{alias}\":"),
                format!("{alias}["),
                format!("name=\"{alias}\""),
                format!("name={alias}"),
            ];
            assert!(says.iter().any(|say| transcripts.contains(say)), "{}: no transcript says {alias}", method.name);
        }
    }
}
