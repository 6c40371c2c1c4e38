//! Plays a transcript against a gateway.

use std::collections::HashMap;
use std::time::Duration;

use capgate::methods::{Need, Table};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::gateway::TestGateway;
use super::http::Response;
use super::placeholders::Placeholders;
use super::samples::{append_samples, png_base64};
use super::scripted_upstream::UpstreamCall;
use super::transcript::{Line, Step, environment};
use super::upstream_reply::UpstreamReply;

pub(crate) struct Player {
    gateway: TestGateway,
    calls_rx: mpsc::UnboundedReceiver<UpstreamCall>,
    /// Calls that have arrived and that no line has matched yet.
    unmatched: Vec<UpstreamCall>,
    /// Calls that a line has matched and that wait for their reply, by label.
    unanswered: HashMap<String, UpstreamCall>,
    /// Requests without a matched response, by client.
    requests: HashMap<String, JoinHandle<Response>>,
    /// The last response of each client.
    responses: HashMap<String, Response>,
    placeholders: Placeholders,
}

impl Player {
    /// Plays against a gateway in this process. Needs a runtime with a paused clock.
    pub(crate) fn in_process(lines: &[Line]) -> Self {
        Self::new(TestGateway::in_process(environment(lines)))
    }

    /// Plays against the capgate process.
    pub(crate) async fn on_wire(lines: &[Line]) -> Self {
        Self::new(TestGateway::process(environment(lines)).await)
    }

    fn new((gateway, calls_rx): (TestGateway, mpsc::UnboundedReceiver<UpstreamCall>)) -> Self {
        Self {
            gateway,
            calls_rx,
            unmatched: Vec::new(),
            unanswered: HashMap::new(),
            requests: HashMap::new(),
            responses: HashMap::new(),
            placeholders: Placeholders::default(),
        }
    }

    /// Plays all lines. Panics with the line number at the first difference.
    pub(crate) async fn play(&mut self, lines: &[Line]) {
        for line in lines {
            let number = line.number;
            if let Err(why) = self.play_step(&line.step).await {
                panic!("line {number}: {why}");
            }
        }
        self.run_until_idle().await;
        assert!(self.unmatched.is_empty(), "upstream calls without a U> line: {}", describe(&self.unmatched));
        assert!(self.requests.is_empty(), "responses without a C< line: {:?}", self.requests.keys());
        self.gateway.stop().await;
    }

    async fn play_step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Set { .. } => Ok(()),
            Step::Task { placeholder, key, row, native } => self.submit(placeholder, key, row, native).await,
            Step::Request { client, verb, target, content_type, body } => {
                let target = self.placeholders.fill(target);
                let body = match std::str::from_utf8(body) {
                    Ok(text) => self.placeholders.fill(text).into_bytes(),
                    Err(_) => body.clone(),
                };
                let response = self.gateway.request(verb, &target, content_type, body);
                if self.requests.insert(client.clone(), response).is_some() {
                    return Err(format!("{client} sends a second request before its first response"));
                }
                self.run_until_idle().await;
                Ok(())
            }
            Step::Response { client, status, body } => self.expect_response(client, *status, body).await,
            Step::ResponseHeader { client, name, value } => {
                let response = self.responses.get(client).ok_or_else(|| format!("{client} has no response"))?;
                match response.header(name) {
                    None if value == "-" => Ok(()),
                    Some(found) if found == value => Ok(()),
                    found => Err(format!("header {name}: expected {value}, found {found:?}")),
                }
            }
            Step::UpstreamCall { label, path, body } => self.expect_call(label, path, body).await,
            Step::UpstreamReply { label, reply } => {
                let call = self.unanswered.remove(label).ok_or_else(|| format!("no call {label} waits for a reply"))?;
                // The gateway may have given up the call.
                call.reply(reply.clone());
                self.run_until_idle().await;
                Ok(())
            }
            Step::Advance { ms } => {
                tokio::time::advance(Duration::from_millis(*ms)).await;
                self.run_until_idle().await;
                Ok(())
            }
            Step::Counter { name, expected } => {
                let found = self.gateway.counter(name)?;
                if found == *expected { Ok(()) } else { Err(format!("{name}: expected {expected}, found {found}")) }
            }
        }
    }

    /// Submits a task of a row with its required parameters.
    async fn submit(&mut self, placeholder: &str, key: &str, row: &str, native: &str) -> Result<(), String> {
        let table = Table::default();
        let method = table.rows().iter().find(|method| method.name == row).ok_or_else(|| format!("no row {row}"))?;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("key", key).append_pair("method", method.legacy[0]);
        append_samples(&mut form, method, |need| need == Need::Required);
        let form = form.finish().into_bytes();
        let response = self.gateway.request("POST", "/in.php", "application/x-www-form-urlencoded", form);
        let call = self.next_call(|call| call.path == "/createTask").await.ok_or("the submit made no upstream call")?;
        call.reply(UpstreamReply::ok(&format!(r#"{{"errorId":0,"taskId":"{native}","status":"processing"}}"#)));
        let response = response.await.map_err(|error| error.to_string())?;
        let body = String::from_utf8(response.body).map_err(|error| error.to_string())?;
        let id = body.strip_prefix("OK|").ok_or_else(|| format!("the response to the submit is {body}"))?;
        self.placeholders.set(placeholder, id);
        Ok(())
    }

    async fn expect_response(&mut self, client: &str, status: u16, body: &str) -> Result<(), String> {
        let request = self.requests.get(client).ok_or_else(|| format!("{client} has sent no request"))?;
        for _ in 0..self.gateway.pauses_max() {
            if request.is_finished() {
                break;
            }
            self.gateway.pause().await;
        }
        if !request.is_finished() {
            self.run_until_idle().await;
            return Err(format!("{client} has no response; unmatched calls: {}", describe(&self.unmatched)));
        }
        let request = self.requests.remove(client).ok_or("no such client")?;
        let response = request.await.map_err(|error| error.to_string())?;
        let found_body = String::from_utf8_lossy(&response.body).into_owned();
        let found_status = response.status;
        self.responses.insert(client.to_owned(), response);
        self.placeholders.learn(body, &found_body);
        let body = self.placeholders.fill(body);
        if found_status == status && found_body == body {
            Ok(())
        } else {
            Err(format!(
                "response of {client}\n        found    {found_status} {found_body}\n        expected {status} {body}"
            ))
        }
    }

    async fn expect_call(&mut self, label: &str, path: &str, body: &str) -> Result<(), String> {
        let body = self.placeholders.fill(&body.replace("${png}", &png_base64()));
        if let Some(call) = self.next_call(|call| call.path == path && call.body == body.as_bytes()).await {
            self.unanswered.insert(label.to_owned(), call);
            return Ok(());
        }
        let mut responses = Vec::new();
        for (client, request) in self.requests.drain().filter(|(_, request)| request.is_finished()) {
            let body = request.await.map(|response| String::from_utf8_lossy(&response.body).into_owned());
            responses.push(format!("response of {client}: {body:?}"));
        }
        Err(format!("no call {path} {body}\n        found {}\n        {responses:?}", describe(&self.unmatched)))
    }

    /// Waits for a call that matches and removes it from the unmatched calls.
    async fn next_call(&mut self, is_match: impl Fn(&UpstreamCall) -> bool) -> Option<UpstreamCall> {
        for _ in 0..self.gateway.pauses_max() {
            self.collect_calls();
            if let Some(at) = self.unmatched.iter().position(&is_match) {
                return Some(self.unmatched.remove(at));
            }
            self.gateway.pause().await;
        }
        None
    }

    async fn run_until_idle(&mut self) {
        for _ in 0..self.gateway.pauses_until_idle() {
            self.gateway.pause().await;
            self.collect_calls();
        }
    }

    fn collect_calls(&mut self) {
        while let Ok(call) = self.calls_rx.try_recv() {
            self.unmatched.push(call);
        }
    }
}

fn describe(calls: &[UpstreamCall]) -> String {
    let calls = calls.iter().map(|call| format!("{} {}", call.path, String::from_utf8_lossy(&call.body)));
    calls.collect::<Vec<_>>().join("; ")
}
