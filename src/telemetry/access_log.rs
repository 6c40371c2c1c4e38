//! Formats the access line of a request.

use std::net::SocketAddr;

use chrono::{DateTime, SecondsFormat, Utc};

use super::options::LogFormat;
use crate::http::{Verb, Version};

/// One request. All texts are from closed sets, so nothing has to be escaped.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry {
    /// Address of the client. The port is 0 if a proxy did not tell it.
    pub peer: Option<SocketAddr>,
    /// HTTP method.
    pub verb: Verb,
    /// HTTP version.
    pub version: Version,
    /// Legacy script.
    pub script: &'static str,
    /// Action of the script.
    pub action: &'static str,
    /// Row of the method table, on a submit.
    pub method: Option<&'static str>,
    /// How the request ended.
    pub outcome: &'static str,
    /// Source of a poll's answer; logged as `path`.
    pub source: Option<&'static str>,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the response's body.
    pub bytes_out: usize,
    /// From the complete header to the response, in microseconds.
    pub micros: u64,
}

/// A formatter of access lines. There may be a hundred thousand per second, so it avoids `std::fmt`.
pub(super) struct AccessFormatter {
    format: LogFormat,
    line: Vec<u8>,
    /// The last second, and its text.
    second: (i64, String),
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value {
    Text(&'static str),
    Number(u64),
}

impl AccessFormatter {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, line: Vec::new(), second: (i64::MIN, String::new()) }
    }

    /// Formats the line of one request, with its line end.
    pub(super) fn line(&mut self, at: DateTime<Utc>, entry: &AccessEntry) -> &[u8] {
        self.line.clear();
        let is_json = self.format == LogFormat::Json;
        self.push_text(if is_json { "{\"time\":\"" } else { "" });
        self.push_time(at);
        self.push_text(if is_json {
            "\",\"level\":\"access\",\"message\":\"request\",\"peer\":\""
        } else {
            " access request peer="
        });
        if let Some(peer) = entry.peer {
            self.push_peer(peer);
        }
        self.push_text(if is_json { "\"" } else { "" });
        for (name, value) in [
            ("verb", Value::Text(entry.verb.label())),
            ("http", Value::Text(entry.version.label())),
            ("script", Value::Text(entry.script)),
            ("action", Value::Text(entry.action)),
            ("method", Value::Text(entry.method.unwrap_or("-"))),
            ("outcome", Value::Text(entry.outcome)),
            ("path", Value::Text(entry.source.unwrap_or("-"))),
            ("status", Value::Number(entry.status.into())),
            ("bytes_in", Value::Number(entry.bytes_in as u64)),
            ("bytes_out", Value::Number(entry.bytes_out as u64)),
            ("micros", Value::Number(entry.micros)),
        ] {
            self.push_text(if is_json { ",\"" } else { " " });
            self.push_text(name);
            self.push_text(if is_json { "\":" } else { "=" });
            match value {
                Value::Number(number) => self.push_number(number),
                Value::Text(text) => {
                    let quote = if is_json { "\"" } else { "" };
                    self.push_text(quote);
                    self.push_text(text);
                    self.push_text(quote);
                }
            }
        }
        self.push_text(if is_json { "}\n" } else { "\n" });
        &self.line
    }

    fn push_text(&mut self, text: &str) {
        self.line.extend_from_slice(text.as_bytes());
    }

    fn push_number(&mut self, number: u64) {
        self.push_text(itoa::Buffer::new().format(number));
    }

    /// Writes the time in the format of the event lines.
    fn push_time(&mut self, at: DateTime<Utc>) {
        if self.second.0 != at.timestamp() {
            let text = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            self.second = (at.timestamp(), text.trim_end_matches('Z').to_owned());
        }
        self.line.extend_from_slice(self.second.1.as_bytes());
        // A leap second has more than a thousand milliseconds.
        let millis = at.timestamp_subsec_millis().min(999);
        self.push_text(match millis {
            0..10 => ".00",
            10..100 => ".0",
            _ => ".",
        });
        self.push_number(millis.into());
        self.push_text("Z");
    }

    fn push_peer(&mut self, peer: SocketAddr) {
        match peer {
            SocketAddr::V4(peer) => {
                for (at, octet) in peer.ip().octets().into_iter().enumerate() {
                    self.push_text(if at == 0 { "" } else { "." });
                    self.push_number(octet.into());
                }
                self.push_text(":");
                self.push_number(peer.port().into());
            }
            SocketAddr::V6(peer) => self.push_text(&peer.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn an_access_line_is_valid_json_or_plain_text() {
        let entry = AccessEntry {
            peer: Some(SocketAddr::from(([10, 0, 200, 3], 65_535))),
            verb: Verb::Get,
            version: Version::Http11,
            script: "res",
            action: "get",
            method: None,
            outcome: "ok",
            source: Some("hit"),
            status: 200,
            bytes_in: 0,
            bytes_out: 17,
            micros: 1_234,
        };
        let at = DateTime::from_timestamp(1_795_381_200, 7_000_000).expect("a time");
        let mut formatter = AccessFormatter::new(LogFormat::Json);
        let line = String::from_utf8(formatter.line(at, &entry).to_vec()).expect("text");
        let parsed: Json = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (parsed["time"].as_str(), parsed["peer"].as_str()),
            (Some("2026-11-22T21:00:00.007Z"), Some("10.0.200.3:65535"))
        );
        assert_eq!(
            (parsed["status"].as_u64(), parsed["micros"].as_u64(), parsed["path"].as_str()),
            (Some(200), Some(1_234), Some("hit"))
        );
        assert_eq!(parsed["time"], at.to_rfc3339_opts(SecondsFormat::Millis, true));
        let mut formatter = AccessFormatter::new(LogFormat::Text);
        let v6 = AccessEntry { peer: Some("[::1]:80".parse().expect("an address")), ..entry };
        let text = String::from_utf8(formatter.line(at, &v6).to_vec()).expect("text");
        assert!(text.starts_with("2026-11-22T21:00:00.007Z access request peer=[::1]:80 verb=GET "), "{text}");
        assert!(text.ends_with("bytes_out=17 micros=1234\n"), "{text}");
    }
}
