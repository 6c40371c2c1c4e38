//! The list of transcripts, and an in-process test for each, with a scripted upstream and a virtual clock.
//! `wire/transcripts.rs` plays the same list against the capgate process.
//!
//! `tests/transcripts/submit/json-as-multipart.txt` is the test `transcripts::submit::json_as_multipart`.

use std::collections::BTreeSet;

use crate::support::player::Player;
use crate::support::transcript::{self, Line};

/// Passes the list of transcripts to the macro `$generate`: by folder, `-` in a file name written as `_`.
///
/// `in_process_only` marks the transcripts that cannot be played on the wire, see [`transcript::needs_process`].
macro_rules! for_each_transcript {
    ($generate:ident) => {
        $generate! {
            account {
                in_process_and_on_wire {}
                in_process_only {
                    balance_and_reports, cached, new_keys, not_cached, other_refusals,
                }
            }
            hostile {
                in_process_and_on_wire {
                    odd_requests,
                }
                in_process_only {
                    upstream_failures_on_poll,
                }
            }
            methods {
                in_process_and_on_wire {
                    altcha_hunt, amazon_tencent, audio, binance_yidun_alibaba, bounding_box, canvas,
                    capy_lemin, common_parameters, coordinates, corner_cases,
                    cybersiara_cutcaptcha_atb, drag_drop, funcaptcha, geetest, grid, hcaptcha,
                    incapsula, keycaptcha, no_method, numbers, previous_id, proxy_needed,
                    recaptcha_cookies, refused_upstream, rotate, rotate_price, rotate_several, rotate_several_refused,
                    routing, routing_default_mode, routing_defaults, server_errors, site_key_tokens,
                    textcaptcha, turnstile, vk_and_temu_images,
                }
                in_process_only {
                    rotate_several_outcome_unknown,
                }
            }
            poll {
                in_process_and_on_wire {
                    answers, duplicate_members, get2_and_ids, other_services, refusals, request_forms, seed_page, upstream_errors,
                }
                in_process_only {
                    unknown_upstream,
                }
            }
            storm {
                in_process_and_on_wire {}
                in_process_only {
                    calls_max, hanging_upstream, limits, polls_max, rate_limit, single_flight,
                    stale, ttl,
                }
            }
            submit {
                in_process_and_on_wire {
                    aliases, full_ledger, image_too_big, images, json_as_multipart,
                    official_clients, recaptcha,
                    refusals, upstream_errors,
                }
                in_process_only {
                    outcome_unknown, slow_upstream,
                }
            }
        }
    };
}
pub(crate) use for_each_transcript;

/// Reads a transcript by its folder and its name in the list.
pub(crate) fn read(folder: &str, name: &str) -> Vec<Line> {
    let path = transcript::root().join(folder).join(format!("{}.txt", name.replace('_', "-")));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    transcript::parse(&text)
}

fn play(folder: &str, name: &str) {
    let lines = read(folder, name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async { Player::in_process(&lines).play(&lines).await });
}

macro_rules! in_process_tests {
    ($($folder:ident {
        in_process_and_on_wire { $($both:ident),* $(,)? }
        in_process_only { $($only:ident),* $(,)? }
    })*) => {
        $(mod $folder {
            $(
                #[test]
                fn $both() {
                    super::play(stringify!($folder), stringify!($both));
                }
            )*
            $(
                #[test]
                fn $only() {
                    super::play(stringify!($folder), stringify!($only));
                }
            )*
        })*
    };
}
for_each_transcript!(in_process_tests);

/// A transcript in the list.
struct Entry {
    folder: &'static str,
    name: &'static str,
    is_in_process_only: bool,
}

macro_rules! entries {
    ($($folder:ident {
        in_process_and_on_wire { $($both:ident),* $(,)? }
        in_process_only { $($only:ident),* $(,)? }
    })*) => {
        &[$(
            $(Entry { folder: stringify!($folder), name: stringify!($both), is_in_process_only: false },)*
            $(Entry { folder: stringify!($folder), name: stringify!($only), is_in_process_only: true },)*
        )*]
    };
}
const LIST: &[Entry] = for_each_transcript!(entries);

#[test]
fn the_list_names_every_file() {
    let root = transcript::root();
    let files: BTreeSet<String> = transcript::files()
        .iter()
        .map(|file| file.strip_prefix(&root).expect("a file in the folder").display().to_string())
        .collect();
    let listed: BTreeSet<String> =
        LIST.iter().map(|entry| format!("{}/{}.txt", entry.folder, entry.name.replace('_', "-"))).collect();
    let unlisted: Vec<_> = files.difference(&listed).collect();
    assert!(unlisted.is_empty(), "files without a line in tests/transcripts.rs: {unlisted:?}");
    let missing: Vec<_> = listed.difference(&files).collect();
    assert!(missing.is_empty(), "lines in tests/transcripts.rs without a file: {missing:?}");
}

#[test]
fn the_list_marks_transcripts_that_need_the_process() {
    for entry in LIST {
        let needs_process = transcript::needs_process(&read(entry.folder, entry.name));
        assert_eq!(
            entry.is_in_process_only, needs_process,
            "{}/{}: in_process_only and needs_process differ",
            entry.folder, entry.name
        );
    }
}
