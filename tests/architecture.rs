//! Rules that the compiler does not check: who may import whom, what is pure, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::documents::assert_generated;
use crate::support::sources::{ImportGraph, Source, sources};

/// The parts of the program, and which parts each may import. [`COMPOSITION_ROOT`] may import any.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cli", &["config", "native", "process", "server", "store", "storm", "translate", "upgrade", "wiring"]),
    ("methods", &[]),
    ("domain", &["methods"]),
    ("http", &[]),
    ("json", &[]),
    ("memory", &[]),
    ("legacy", &["domain", "http", "json", "methods"]),
    ("native", &["domain", "json", "methods"]),
    ("sandbox", &[]),
    ("clock", &["domain"]),
    ("process", &[]),
    ("telemetry", &["http"]),
    ("budget", &["domain", "http", "native", "telemetry"]),
    ("store", &["domain", "methods", "telemetry"]),
    ("ledger", &["clock", "domain", "methods", "store", "telemetry"]),
    (
        "gateway",
        &["budget", "clock", "domain", "http", "ledger", "legacy", "memory", "methods", "native", "store", "telemetry"],
    ),
    ("upstream", &["clock", "domain", "gateway", "native", "telemetry"]),
    ("server", &["http", "memory", "process", "telemetry"]),
    ("apps", &["domain", "gateway", "http", "ledger", "legacy", "memory", "sandbox", "server", "telemetry"]),
    ("storm", &["domain", "legacy", "process", "sandbox", "upstream"]),
    ("translate", &["domain", "http", "legacy", "methods", "native"]),
    ("upgrade", &[]),
    (
        "config",
        &[
            "budget",
            "domain",
            "gateway",
            "ledger",
            "legacy",
            "memory",
            "methods",
            "sandbox",
            "server",
            "telemetry",
            "upstream",
        ],
    ),
];

/// The part that builds all others and connects them.
const COMPOSITION_ROOT: &str = "wiring";

/// Who may import Pingora.
const PINGORA: &[&str] = &["server", "storm::net", "upstream", "wiring"];

/// Files and folders that do no I/O, spawn nothing, and read no clock, environment or randomness.
const PURE: &[&str] = &[
    "budget/",
    "domain",
    "http.rs",
    "json.rs",
    "ledger/",
    "legacy/",
    "methods/",
    "native/",
    "sandbox/",
    "storm/",
    "translate.rs",
    "upstream/health.rs",
    "upstream/retry_budget.rs",
];

/// Exceptions from [`PURE`], each an asynchronous shell around pure parts.
const IMPURE: &[&str] = &["ledger/mod.rs", "ledger/ids.rs", "ledger/flights.rs", "ledger/saver.rs", "storm/net/"];

/// What would mean I/O, a task, a clock or randomness.
const SIDE_EFFECTS: &[&str] = &[
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

/// Lines above which a file has to give a reason in its head, as a sentence that begins with "Long because".
const LINES_MAX: usize = 500;

/// Whether a module is one of these modules, or inside one.
fn is_inside(module: &str, modules: &[&str]) -> bool {
    modules.iter().any(|known| module == *known || module.starts_with(&format!("{known}::")))
}

#[test]
fn modules_do_not_import_each_other_in_cycles() {
    if let Some(cycle) = ImportGraph::new(&sources()).cycle() {
        panic!("these modules import each other: {}", cycle.join(" → "));
    }
}

#[test]
fn a_cycle_is_found_however_it_is_spelled() {
    let cycle = |sources: &[(&str, &str)]| {
        let sources: Vec<Source> = sources.iter().map(|(file, text)| Source::new(file, text)).collect();
        ImportGraph::new(&sources).cycle().map(|cycle| cycle.join(" "))
    };
    let leaf = ("a/leaf.rs", "pub struct Leaf;");
    assert_eq!(cycle(&[leaf, ("a/mod.rs", "mod leaf;\npub use leaf::Leaf;"), ("b.rs", "use crate::a::Leaf;")]), None);
    for (parent, child) in [
        ("mod x;\npub use self::x::X;", "use super::Y;"),
        ("use self::x::X;", "use crate::a::{Y, Z};"),
        ("fn f() { x::g() }", "fn g() -> crate::a::Y { todo!() }"),
        ("use crate::{\n    a::{\n        x::{X, self},\n    },\n};", "use super::{\n    leaf::Leaf,\n    Y,\n};"),
    ] {
        let found = cycle(&[leaf, ("a/mod.rs", parent), ("a/x.rs", child)]);
        assert_eq!(found.as_deref(), Some("a a::x a"), "{parent} {child}");
    }
    let three = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
    assert_eq!(cycle(&three).as_deref(), Some("a b c a"));
    // Comments, visibilities and tests may name anything.
    let named = "// crate::a::Y\n/// [`super::Y`]\npub(in crate::a) struct X;\n#[cfg(test)]\nmod tests {\n    use crate::a::Y;\n}";
    assert_eq!(cycle(&[("a/mod.rs", "use self::x::X;"), ("a/x.rs", named)]), None);
}

#[test]
fn each_part_imports_only_the_parts_below_it() {
    let sources = sources();
    let graph = ImportGraph::new(&sources);
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let part = source.part();
        if part == COMPOSITION_ROOT {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == part) else {
            panic!("{} belongs to no known part", source.file);
        };
        for imported in graph.imports(&source.module) {
            let imported_part = imported.split("::").next().unwrap_or_default();
            let is_allowed = imported_part == part || allowed.contains(&imported_part);
            assert!(is_allowed, "{} imports {imported}", source.file);
        }
    }
}

#[test]
fn only_some_parts_import_pingora() {
    for source in sources() {
        let imports_pingora = source.code().contains("pingora");
        assert!(!imports_pingora || is_inside(&source.module, PINGORA), "{} imports Pingora", source.file);
    }
}

#[test]
fn the_domain_knows_no_wire_format() {
    for source in sources().iter().filter(|source| source.part() == "domain") {
        let code = source.code();
        for format in ["serde", "json", "Json"] {
            assert!(!code.contains(format), "{} names {format}", source.file);
        }
    }
}

#[test]
fn only_config_reads_configuration_keys() {
    let sections = ["listen", "tls", "server", "upstream", "ledger", "limits", "log", "sandbox", "methods"];
    for source in sources().iter().filter(|source| source.part() != "config") {
        let code = source.code();
        for section in sections {
            let reads = format!("config.{section}.");
            assert!(!code.contains(&reads), "{} reads a key of [{section}]", source.file);
        }
    }
}

#[test]
fn pure_files_have_no_side_effects() {
    let starts_with = |file: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
    let mut pure = 0;
    for source in sources() {
        if !starts_with(&source.file, PURE) || starts_with(&source.file, IMPURE) {
            continue;
        }
        pure += 1;
        let code = source.code();
        for word in SIDE_EFFECTS {
            assert!(!code.contains(word), "{} must be pure and contains {word}", source.file);
        }
    }
    assert!(pure > 30, "only {pure} files are pure");
}

#[test]
fn predicates_take_no_mutable_receiver() {
    for source in sources() {
        for predicate in source.code().split("fn ").filter(|text| text.starts_with("is_") || text.starts_with("has_")) {
            let signature = predicate.split('{').next().unwrap_or_default();
            assert!(!signature.contains("&mut"), "{}: fn {} may mutate", source.file, signature.trim());
        }
    }
}

#[test]
fn a_long_file_gives_its_reason() {
    let mut lengths: Vec<(usize, String)> = Vec::new();
    let mut without_reason = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let head: String = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        if lines > LINES_MAX && !head.contains("Long because") {
            without_reason.push(source.file.clone());
        }
        lengths.push((lines, source.file));
    }
    lengths.sort_by(|a, b| b.cmp(a));
    let mut longest = "the longest files:\n".to_owned();
    for (lines, file) in lengths.iter().take(10) {
        let _ = writeln!(longest, "{lines:>5} {file}");
    }
    // `cargo test -- --nocapture` shows them.
    eprint!("{longest}");
    assert!(without_reason.is_empty(), "above {LINES_MAX} lines, without \"Long because …\": {without_reason:?}");
}

#[test]
fn the_map_of_modules_is_complete() {
    let sources = sources();
    let graph = ImportGraph::new(&sources);
    let mut parts: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        parts.entry(source.part()).or_default().push(source);
    }
    let mut map = "| module | subject | imports |\n|---|---|---|\n".to_owned();
    for (part, files) in parts {
        for source in files {
            let imports: BTreeSet<&str> = graph
                .imports(&source.module)
                .map(|imported| imported.strip_prefix(&format!("{part}::")).unwrap_or(imported))
                .collect();
            let imports: Vec<String> = imports.iter().map(|imported| format!("`{imported}`")).collect();
            let name = if source.module == part { format!("**`{part}`**") } else { format!("`{}`", source.module) };
            let subject = source.subject().replace('|', "\\|").replace("[`", "`").replace("`]", "`");
            assert!(!subject.is_empty(), "{} has no documentation", source.file);
            let _ = writeln!(map, "| {name} | {subject} | {} |", imports.join(", "));
        }
    }
    assert_generated("docs/ARCHITECTURE.md", "modules", &map);
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
            let forms = [format!("method={legacy}&"), format!("method={legacy}\n"), format!("\"method\":\"{legacy}\"")];
            let part = format!("name=\"method\"\\r\\n\\r\\n{legacy}\\r");
            let is_sent = forms.iter().chain([&part]).any(|form| transcripts.contains(form));
            assert!(is_sent, "no transcript sends method={legacy}");
        }
        // One transcript for the names of the file parts of several images is enough.
        for alias in method.params.iter().flat_map(|param| param.legacy) {
            let forms = [
                format!("{alias}="),
                format!("\"{alias}\":"),
                format!("{alias}["),
                format!("name=\"{alias}\""),
                format!("name={alias}"),
            ];
            assert!(
                forms.iter().any(|form| transcripts.contains(form)),
                "{}: no transcript sends {alias}",
                method.name
            );
        }
    }
}
