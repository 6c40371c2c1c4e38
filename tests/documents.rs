//! Generated and complete documents. `CAPGATE_BLESS=1 cargo test documents` writes the generated ones.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use capgate::config::Config;
use capgate::http::{Inbound, Verb};
use capgate::legacy::{self, Script};
use capgate::methods::{Certainty, Kind, Method, Need, Param, Solution, Table};

use crate::support::process::Process;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const HEAD: &str = "# Method table

Generated from `src/methods/`; `CAPGATE_BLESS=1 cargo test documents` regenerates it.

**Bold** parameters are required; the others are optional.
Additional names in a cell are aliases that clients send.
`names` gives the confidence in the native names.
**Seen** names appear in uCaptcha's documentation.
*Inferred* names are 2captcha's v2 names, which uCaptcha's documentation follows wherever it names any.
*Guessed* names are 2captcha's v2 names for a method that uCaptcha's documentation does not mention.
If a row turns out to be wrong, the configuration can override it: `[methods.<row>]` with `proxyless`, `proxied` and `fields`.

All methods also accept `key`, `method`, `json`, `header_acao`, `proxy` and `proxytype` (if the row has a task type with a proxy), and uCaptcha's own `selectionMode` and `provider`.
`soft_id`, `lang`, `language` and `debug_dump` are accepted but not forwarded; `pingback` is stored with the task.
All other parameters are ignored and counted.

";

fn methods() -> String {
    let mut text = HEAD.to_owned();
    for method in Table::default().rows() {
        let _ = write!(text, "## {}\n\n", method.name);
        let conditions: Vec<String> = method.when.iter().map(|(name, value)| format!(", `{name}={value}`")).collect();
        let others = method.also_when.iter().map(|(name, value)| match *value {
            "*" => format!(", or `{name}`"),
            value => format!(", or `{name}={value}`"),
        });
        let conditions: Vec<String> = conditions.into_iter().chain(others).collect();
        let legacy: Vec<String> = method.legacy.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "- `method=` {}{}", legacy.join(" or "), conditions.concat());
        let types = match (method.task_type.proxyless, method.task_type.proxied) {
            (Some(without), Some(with)) => format!("`{without}`, or `{with}` with a proxy"),
            (Some(without), None) => format!("`{without}`; a proxy is ignored"),
            (None, Some(with)) => format!("`{with}`; a proxy is required"),
            (None, None) => String::new(),
        };
        let certainty = match method.certainty {
            Certainty::Seen => "**seen**",
            Certainty::Inferred => "*inferred*",
            Certainty::Guessed => "*guessed*",
        };
        let _ = writeln!(text, "- native type {types}; names {certainty}");
        let _ = write!(text, "- answer: {}\n\n", answer(method));
        text.push_str("| legacy parameter | native field | type |\n|---|---|---|\n");
        for param in method.params {
            let _ = writeln!(text, "| {} | `{}` | {} |", legacy_names(param), param.native, read_as(param));
        }
        for group in method.any_of {
            let names: Vec<String> = group.iter().map(|native| format!("`{native}`")).collect();
            let _ = write!(text, "\nAt least one of {} is required.\n", names.join(", "));
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn legacy_names(param: &Param) -> String {
    let names: Vec<String> = param.legacy.iter().map(|name| format!("`{name}`")).collect();
    match param.need {
        _ if names.is_empty() => "(constant)".to_owned(),
        Need::Required => format!("**{}**", names.join(", ")),
        Need::Optional | Need::Default(_) => names.join(", "),
    }
}

fn read_as(param: &Param) -> String {
    let kind = match param.kind {
        Kind::Text => "text",
        Kind::Flag => "boolean",
        Kind::Integer => "integer",
        Kind::Decimal => "number",
        Kind::PageUrl | Kind::Url => "http(s) URL",
        Kind::Host => "host, or host and port of a URL",
        Kind::GoogleKey => "site key",
        Kind::Cookies => "cookies",
        Kind::Record => "`name[member]=…` or JSON; sent as JSON text",
        Kind::Image => "image: file or base64",
        Kind::Images => "image, and `file_1` to `file_9`: one task each, answers joined",
        Kind::ImageList => "all images, in base64",
        Kind::ImageArray => "images: JSON array of base64 strings",
        Kind::PreviousTask => "id of an earlier task; sent as its native id, `0` or unknown: omitted",
        Kind::Audio => "audio: file or base64",
    };
    match param.need {
        Need::Default(text) => format!("{kind}; default `{text}`"),
        Need::Required | Need::Optional => kind.to_owned(),
    }
}

fn answer(method: &Method) -> String {
    let mut text = match method.solution {
        Solution::Text(keys) => format!("text, from {}", list(keys)),
        Solution::Object(&[]) => "the native object, unchanged".to_owned(),
        Solution::Object(members) => {
            format!("object: {}", list(&members.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
        }
        Solution::Composed(_) => "composed (`src/methods/clicks.rs`)".to_owned(),
    };
    if !method.extras.is_empty() {
        let names: Vec<&str> = method.extras.iter().map(|(_, name)| *name).collect();
        let _ = write!(text, "; in JSON also {}", list(&names));
    }
    text
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Asserts that a document, or its part between `<!-- marker -->` and `<!-- /marker -->`, equals the generated text.
/// With `CAPGATE_BLESS` in the environment, writes it instead.
pub(crate) fn assert_generated(name: &str, marker: &str, generated: &str) {
    let path = root().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let (open, close) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
    let around = text.split_once(&open).and_then(|(before, rest)| Some((before, rest.split_once(&close)?.1)));
    let new = match (marker, around) {
        ("", _) => generated.to_owned(),
        (_, Some((before, after))) => format!("{before}{open}{generated}{close}{after}"),
        (_, None) => panic!("{name} lacks {open}"),
    };
    if std::env::var_os("CAPGATE_BLESS").is_some() {
        std::fs::write(&path, &new).expect("written");
        return;
    }
    assert!(text == new, "{name} is stale: CAPGATE_BLESS=1 cargo test --test suite");
}

#[test]
fn the_method_table_is_documented() {
    assert_generated("docs/methods.md", "", &methods());
}

#[test]
fn every_sandbox_trigger_is_documented() {
    use capgate::sandbox::triggers::{KEYS, SITE_KEYS, SOLVE_MS_PREFIX};
    let text = std::fs::read_to_string(root().join("docs/sandbox.md")).expect("docs/sandbox.md");
    for name in KEYS.iter().map(|(name, _)| name).chain(SITE_KEYS.iter().map(|(name, _)| name)) {
        assert!(text.contains(&format!("`{name}`")), "docs/sandbox.md lacks {name}");
    }
    assert!(text.contains(&format!("`{SOLVE_MS_PREFIX}<milliseconds>`")), "docs/sandbox.md lacks {SOLVE_MS_PREFIX}");
}

/// A list of `docs/openapi.yaml`. The marker that ends it is a comment at the same indentation.
fn assert_listed(marker: &str, indentation: usize, lines: impl Iterator<Item = String>) {
    let indentation = " ".repeat(indentation);
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{indentation}{line}");
    }
    assert_generated("docs/openapi.yaml", marker, &format!("{text}{indentation}# "));
}

/// The description of the API has the names that the code has.
#[test]
fn the_description_of_the_api_is_complete() {
    let table = Table::default();
    let mut names: BTreeSet<&str> = legacy::COMMON_PARAMETERS.iter().copied().collect();
    names.extend(table.rows().iter().flat_map(|row| row.params).flat_map(|param| param.legacy).copied());
    for known in ["key", "method"] {
        names.remove(known);
    }
    let mut methods: BTreeSet<&str> = table.rows().iter().flat_map(|row| row.legacy).copied().collect();
    methods.insert("get_server_errors");
    let enumeration = |values: &mut dyn Iterator<Item = &str>| {
        let values = values.map(|value| format!("  - {value}"));
        std::iter::once("enum:".to_owned()).chain(values).collect::<Vec<_>>().into_iter()
    };
    // YAML reads none of the names as anything but a text.
    assert_listed("parameters", 8, names.iter().map(|name| format!("{name}: {{type: string}}")));
    assert_listed("methods", 6, enumeration(&mut methods.iter().copied()));
    assert_listed("codes", 6, enumeration(&mut legacy::codes::ALL.iter().copied()));
    assert_listed("actions", 6, enumeration(&mut ACTIONS.iter().copied()));
}

const ACTIONS: [&str; 5] = ["get", "get2", "reportgood", "reportbad", "getbalance"];

/// Every documented action is decoded, and every context that a reply can have is reached by one.
#[test]
fn the_documented_actions_are_those_that_are_decoded() {
    let context = |script, query: &str| {
        let inbound = Inbound {
            client: None,
            verb: Verb::Get,
            path: String::new(),
            query: Bytes::copy_from_slice(query.as_bytes()),
            content_type: Bytes::new(),
            body: Bytes::new(),
        };
        legacy::decode(script, &inbound, &Config::default().legacy_limits()).style.context.label()
    };
    let mut labels: BTreeSet<&str> =
        ACTIONS.iter().map(|action| context(Script::Res, &format!("key=K&id=1&action={action}"))).collect();
    assert!(!labels.contains("none"), "{labels:?}");
    labels.extend([
        context(Script::In, ""),
        context(Script::Res, "action=get&ids=1"),
        context(Script::Res, "action=x"),
    ]);
    assert_eq!(labels, BTreeSet::from(["submit", "get", "get2", "ids", "report", "getbalance", "none"]));
}

#[tokio::test]
async fn every_metric_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).expect("docs/operations.md");
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store").display().to_string();
    let mut process = Process::start("run", &[("CAPGATE_STORE_PATH".to_owned(), store)]).await;
    let metrics = process.metrics().await;
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(text.contains(&format!("`{name}`")), "docs/operations.md lacks {name}");
    }
    for name in ["capgate_requests_total", "capgate_store_bytes"] {
        assert!(metrics.contains(&format!("# TYPE {name}")), "{metrics}");
    }
    process.stop().await;
}

/// Returns the text of all files below a folder with one of these extensions.
fn read_all(folder: &Path, extensions: &[&str], texts: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, extensions, texts);
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            texts.push((name, std::fs::read_to_string(&path).expect("readable")));
        }
    }
}

/// Each promise names tests that exist.
#[test]
fn every_promise_of_the_security_document_has_its_test() {
    let mut files = Vec::new();
    for (folder, extensions) in [("src", &["rs"][..]), ("tests", &["rs", "py"]), ("fuzz/src", &["rs"])] {
        read_all(&root().join(folder), extensions, &mut files);
    }
    let document = std::fs::read_to_string(root().join("docs/security.md")).expect("the document");
    let (_, text) = document.split_once("\n## Promises\n").expect("the promises");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 2);
    let mut promises = 0;
    for row in rows.filter(|row| !row.starts_with("| p")) {
        let names: Vec<&str> = row.rsplit(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
        let is_tested = |name: &&str| {
            let last = name.rsplit("::").next().unwrap_or_default();
            let function = format!("fn {last}(");
            name.starts_with("make ")
                || root().join(name).is_file()
                || files.iter().any(|(file, text)| file == last || text.contains(&function))
        };
        for name in &names {
            assert!(is_tested(name), "docs/security.md names {name}, which does not exist");
        }
        assert!(!names.is_empty() || row.ends_with("| the compiler |"), "no test: {row}");
        promises += usize::from(!names.is_empty());
    }
    assert!(promises > 20, "{promises} promises");
}
