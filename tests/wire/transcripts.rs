//! The transcripts against the capgate process, one test and one process each.

use std::time::Duration;

use crate::support::player::Player;
use crate::transcripts::{for_each_transcript, read};

async fn play(folder: &str, name: &str) {
    let lines = read(folder, name);
    let play = async { Player::on_wire(&lines).await.play(&lines).await };
    tokio::time::timeout(Duration::from_secs(120), play).await.expect("an end of the transcript");
}

macro_rules! wire_tests {
    ($($folder:ident {
        in_process_and_on_wire { $($both:ident),* $(,)? }
        in_process_only { $($only:ident),* $(,)? }
    })*) => {
        $(mod $folder {
            $(
                #[tokio::test]
                async fn $both() {
                    super::play(stringify!($folder), stringify!($both)).await;
                }
            )*
        })*
    };
}
for_each_transcript!(wire_tests);
