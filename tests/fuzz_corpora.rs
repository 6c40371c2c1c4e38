//! Runs the kept corpora of `fuzz/` through the targets, without libFuzzer.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::fuzz::{configuration, form, http1, http2, ledger, multipart, native_answer};

/// Runs the inputs of `fuzz/corpus/TARGET.txt`: one a line, in base64.
fn replay(target: &str, run: fn(&[u8])) {
    let path = format!("{}/fuzz/corpus/{target}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (at, line) in text.lines().enumerate() {
        let input = BASE64_STANDARD.decode(line).expect("base64");
        assert!(std::panic::catch_unwind(|| run(&input)).is_ok(), "{path}, line {}", at + 1);
    }
}

macro_rules! replay {
    ($($target:ident)*) => {
        /// Names of all targets.
        const TARGETS: &[&str] = &[$(stringify!($target)),*];

        $(#[test]
        fn $target() {
            replay(stringify!($target), $target::run);
        })*
    };
}

replay! { configuration form http1 http2 ledger multipart native_answer }

#[test]
fn every_target_is_replayed() {
    let folder = format!("{}/fuzz/src/bin", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".rs", ""))
        .filter(|name| name != "seeds")
        .collect();
    files.sort();
    assert_eq!(files, TARGETS);
}
