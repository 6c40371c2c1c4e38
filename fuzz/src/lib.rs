//! The fuzz targets: each is a function that panics if an input shows a fault. `src/bin` runs them with libFuzzer, and
//! `tests/fuzz_corpora.rs` of the main package runs them over the kept corpora, without libFuzzer.

pub mod checks;
pub mod configuration;
pub mod form;
pub mod http1;
pub mod http2;
pub mod ledger;
pub mod ledger_model;
pub mod multipart;
pub mod native_answer;
pub mod pipe;
