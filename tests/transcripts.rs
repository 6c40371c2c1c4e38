//! Every transcript, in process, with a scripted upstream and a clock that only the transcript moves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::play::Player;
use crate::support::transcript::{files, parse};

#[test]
fn every_transcript_is_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut failed = Vec::new();
    let files = files();
    assert!(files.len() >= 20, "the transcripts are gone");
    for file in &files {
        let name = file.strip_prefix(&folder).expect("a transcript").display().to_string();
        let text = std::fs::read_to_string(file).expect("a text");
        let played = catch_unwind(AssertUnwindSafe(|| play(&text)));
        if played.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "transcripts that are not as they say: {failed:#?}");
}

fn play(text: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let lines = parse(text);
        Player::in_process(&lines).play(&lines).await;
    });
}
