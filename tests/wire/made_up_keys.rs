//! A flood of made-up keys, as the upstream sees it and as honest clients with new keys do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::abuse::connect_from;
use super::environment;
use crate::support::http::read_response;
use crate::support::process::Process;
use crate::support::scripted_upstream::UpstreamServer;
use crate::support::upstream_reply::UpstreamReply;

/// Clients of the flood, and made-up keys of each. They do not wait for answers.
const FLOOD_CLIENTS: usize = 40;
const FLOOD_KEYS: usize = 100;
/// Honest clients with new keys.
const HONEST_CLIENTS: u8 = 10;

fn submit(key: &str) -> String {
    let target = format!("/in.php?key={key}&method=userrecaptcha&googlekey=S&pageurl=https://e.com");
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Replies to all calls: accepts keys that begin with `good`. Returns the number of refused calls.
fn reply_to_all(mut upstream: UpstreamServer) -> Arc<AtomicUsize> {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Some(call) = upstream.calls.recv().await {
            let is_good = String::from_utf8_lossy(&call.body).contains("\"good");
            let reply = match (is_good, call.path.as_str()) {
                (true, "/getBalance") => UpstreamReply::ok(r#"{"errorId":0,"balance":1}"#),
                (true, _) => UpstreamReply::ok(r#"{"errorId":0,"taskId":"u-1","status":"processing"}"#),
                (false, _) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    UpstreamReply::ok(r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#)
                }
            };
            call.reply(reply);
        }
    });
    refused
}

/// Floods the gateway from these addresses until honest clients from other addresses were served. Returns the number of
/// refused calls.
async fn flood(addresses: u8) -> usize {
    let upstream = UpstreamServer::start().await;
    // Long enough for a slot to refill on a slow machine.
    let mut settings = environment(&[("CAPGATE_UPSTREAM_NEW_KEY_WAIT_MS", "10000")]);
    settings.push(upstream.setting());
    let mut process = Process::start("run", &settings).await;
    let refused = reply_to_all(upstream);
    let http = process.http;
    let sent = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..FLOOD_CLIENTS)
        .map(|client| {
            let (sent, from) = (Arc::clone(&sent), 100 + u8::try_from(client).expect("few clients") % addresses);
            tokio::spawn(async move {
                for _ in 0..FLOOD_KEYS {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let mut stream = connect_from(from, http).await;
                    let _ = stream.write_all(submit(&format!("bad{number}")).as_bytes()).await;
                }
            })
        })
        .collect();
    // Until the flood has used up what it can: each address has had many keys by then.
    while sent.load(Ordering::Relaxed) < FLOOD_KEYS / 2 * FLOOD_CLIENTS {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let honest = (0..HONEST_CLIENTS).map(|client| {
        tokio::spawn(async move {
            let mut stream = connect_from(10 + client, http).await;
            stream.write_all(submit(&format!("good{client}")).as_bytes()).await.expect("written");
            read_response(&mut stream).await.expect("a response").body
        })
    });
    for response in honest.collect::<Vec<_>>() {
        let response = response.await.expect("no panic");
        assert!(response.starts_with(b"OK|"), "{}", String::from_utf8_lossy(&response));
    }
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    process.stop().await;
    refused.load(Ordering::Relaxed)
}

#[tokio::test]
async fn honest_new_keys_are_served_at_once_while_one_address_floods() {
    let refused = flood(1).await;
    assert!((1..=5).contains(&refused), "upstream.address_refused_keys_per_minute: {refused}");
}

#[tokio::test]
async fn honest_new_keys_are_served_at_once_while_many_addresses_flood() {
    let refused = flood(40).await;
    assert!((1..=20).contains(&refused), "upstream.refused_keys_per_minute: {refused}");
}
