//! The log's line for a request.

use std::net::SocketAddr;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::LogFormat;
use crate::ledger::PollSource;
use crate::server::handler::Told;

/// Composes the lines of requests. There may be a hundred thousand in a second, so that it does without the machinery that
/// formats anything.
pub(super) struct Lines {
    format: LogFormat,
    line: Vec<u8>,
    /// A second, and how it is written.
    second: (i64, String),
}

/// A field of a line.
#[derive(Clone, Copy)]
enum Field {
    /// From a closed set, so that nothing has to be escaped.
    Word(&'static str),
    Number(u64),
}

impl Lines {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, line: Vec::new(), second: (i64::MIN, String::new()) }
    }

    /// The line of one request.
    pub(super) fn request(&mut self, at: DateTime<Utc>, told: &Told) -> &[u8] {
        self.line.clear();
        let Some(facts) = &told.facts else { return &self.line };
        let is_json = self.format == LogFormat::Json;
        self.word(if is_json { "{\"time\":\"" } else { "" });
        self.time(at);
        self.word(if is_json {
            "\",\"level\":\"access\",\"message\":\"request\",\"peer\":\""
        } else {
            " access request peer="
        });
        if let Some(peer) = told.peer {
            self.peer(peer);
        }
        self.word(if is_json { "\"" } else { "" });
        let micros = u64::try_from(told.took.as_micros()).unwrap_or(u64::MAX);
        for (name, field) in [
            ("verb", Field::Word(told.verb)),
            ("http", Field::Word(told.version)),
            ("script", Field::Word(facts.script)),
            ("action", Field::Word(facts.action)),
            ("method", Field::Word(facts.method.unwrap_or("-"))),
            ("outcome", Field::Word(facts.outcome)),
            ("path", Field::Word(facts.path.map_or("-", PollSource::label))),
            ("status", Field::Number(told.status.into())),
            ("bytes_in", Field::Number(told.bytes_in as u64)),
            ("bytes_out", Field::Number(told.bytes_out as u64)),
            ("micros", Field::Number(micros)),
        ] {
            self.word(if is_json { ",\"" } else { " " });
            self.word(name);
            self.word(if is_json { "\":" } else { "=" });
            match field {
                Field::Number(number) => self.number(number),
                Field::Word(word) => {
                    let quote = if is_json { "\"" } else { "" };
                    self.word(quote);
                    self.word(word);
                    self.word(quote);
                }
            }
        }
        self.word(if is_json { "}\n" } else { "\n" });
        &self.line
    }

    fn word(&mut self, word: &str) {
        self.line.extend_from_slice(word.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.word(itoa::Buffer::new().format(number));
    }

    /// As the other lines of the log have it.
    fn time(&mut self, at: DateTime<Utc>) {
        if self.second.0 != at.timestamp() {
            let text = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            self.second = (at.timestamp(), text.trim_end_matches('Z').to_owned());
        }
        self.line.extend_from_slice(self.second.1.as_bytes());
        // A leap second has more than a thousand of them.
        let millis = at.timestamp_subsec_millis().min(999);
        self.word(match millis {
            0..10 => ".00",
            10..100 => ".0",
            _ => ".",
        });
        self.number(millis.into());
        self.word("Z");
    }

    fn peer(&mut self, peer: SocketAddr) {
        match peer {
            SocketAddr::V4(peer) => {
                for (at, octet) in peer.ip().octets().into_iter().enumerate() {
                    self.word(if at == 0 { "" } else { "." });
                    self.number(octet.into());
                }
                self.word(":");
                self.number(peer.port().into());
            }
            SocketAddr::V6(peer) => self.word(&peer.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value as Json;

    use super::*;
    use crate::gateway::RequestLabels;

    #[test]
    fn a_request_is_one_line_that_can_be_read() {
        let facts =
            RequestLabels { script: "res", action: "get", method: None, outcome: "ok", path: Some(PollSource::Hit) };
        let told = Told {
            facts: Some(facts),
            peer: Some(SocketAddr::from(([10, 0, 200, 3], 65_535))),
            verb: "GET",
            version: "1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 17,
            took: Duration::from_micros(1_234),
        };
        let at = DateTime::from_timestamp(1_795_381_200, 7_000_000).expect("a time");
        let mut lines = Lines::new(LogFormat::Json);
        let line = String::from_utf8(lines.request(at, &told).to_vec()).expect("text");
        let read: Json = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (read["time"].as_str(), read["peer"].as_str()),
            (Some("2026-11-22T21:00:00.007Z"), Some("10.0.200.3:65535"))
        );
        assert_eq!(
            (read["status"].as_u64(), read["micros"].as_u64(), read["path"].as_str()),
            (Some(200), Some(1_234), Some("hit"))
        );
        assert_eq!(read["time"], at.to_rfc3339_opts(SecondsFormat::Millis, true));
        let mut lines = Lines::new(LogFormat::Text);
        let v6 = Told { peer: Some("[::1]:80".parse().expect("an address")), ..told };
        let text = String::from_utf8(lines.request(at, &v6).to_vec()).expect("text");
        assert!(text.starts_with("2026-11-22T21:00:00.007Z access request peer=[::1]:80 verb=GET "), "{text}");
        assert!(text.ends_with("bytes_out=17 micros=1234\n"), "{text}");
    }
}
