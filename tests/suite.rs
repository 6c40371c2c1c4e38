//! All integration tests, in one binary. `tests/README.md` lists the files.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and may read the clock and the environment"
)]

mod architecture;
mod config;
mod documents;
mod durability;
#[allow(dead_code, missing_docs, unreachable_pub, reason = "a library of its own, with its own lints")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
mod fuzz_corpora;
mod key_refusals;
mod ledger;
mod lifecycle;
mod pacing;
mod panics;
mod properties;
mod secrecy;
mod snapshot;
mod store;
mod storm;
mod support;
mod transcripts;
mod translate;
mod upstream_faults;
mod wire;
