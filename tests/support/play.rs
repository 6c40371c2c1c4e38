//! Plays a transcript, in process or against the real binary.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capgate::budget::Budget;
use capgate::clock::Clock;
use capgate::config::Config;
use capgate::gateway::Gateway;
use capgate::gateway::upstream::{SendError, Upstream};
use capgate::http::{Inbound, Verb};
use capgate::ledger::Ledger;
use capgate::methods::{Method, Need, Table};
use capgate::native::{Answer, Call};
use capgate::telemetry::metrics::MetricsRegistry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::binary::Binary;
use super::http;
use super::transcript::{Line, Names, Step, UpstreamAnswer, png};

/// A native call that waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: oneshot::Sender<UpstreamAnswer>,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An upstream that does what the transcript says, without sockets.
struct Scripted {
    calls: mpsc::UnboundedSender<Pending>,
}

impl Upstream for Scripted {
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>> {
        let (reply, answered) = oneshot::channel();
        let pending = Pending { path: call.endpoint.path().to_owned(), body: call.body.to_vec(), reply };
        let sent = self.calls.send(pending);
        Box::pin(async move {
            assert!(sent.is_ok(), "an upstream call after the end of the transcript");
            match answered.await {
                Ok(UpstreamAnswer::Says { status, body }) => Ok(Answer::new(status, Bytes::from(body))),
                Ok(UpstreamAnswer::Refused) => Err(SendError { sent: false, what: "connect" }),
                Ok(UpstreamAnswer::Reset | UpstreamAnswer::Raw(_)) | Err(_) => {
                    Err(SendError { sent: true, what: "no_answer" })
                }
            }
        })
    }
}

/// Where the requests go.
enum Stage {
    InProcess { gateway: Gateway, ledger: Ledger },
    Binary(Box<Binary>),
}

pub(crate) struct Player {
    stage: Stage,
    arriving: mpsc::UnboundedReceiver<Pending>,
    /// Arrived, and not yet named by the transcript.
    arrived: Vec<Pending>,
    /// Named by the transcript, and not yet answered.
    named: HashMap<String, oneshot::Sender<UpstreamAnswer>>,
    asking: HashMap<String, JoinHandle<Told>>,
    told: HashMap<String, Told>,
    names: Names,
}

/// Whether only virtual time can play it, or only a view into the process.
pub(crate) fn needs_process(lines: &[Line]) -> bool {
    lines.iter().any(|line| {
        matches!(
            line.step,
            Step::Advance { .. }
                | Step::Count { .. }
                // On the wire a refusal cannot be arranged call by call, and a reset makes a poll be repeated.
                | Step::Answer { answer: UpstreamAnswer::Refused | UpstreamAnswer::Reset, .. }
        )
    })
}

/// The environment that `= set` lines ask for.
fn environment(lines: &[Line]) -> Vec<(String, String)> {
    let set = lines.iter().filter_map(|line| match &line.step {
        Step::Set { key, value } => {
            Some((format!("CAPGATE_{}", key.replace('.', "_").to_ascii_uppercase()), value.clone()))
        }
        _ => None,
    });
    set.collect()
}

impl Player {
    pub(crate) fn in_process(lines: &[Line]) -> Self {
        let config = Config::load(None, environment(lines).into_iter()).expect("settings of the transcript");
        let (calls, arriving) = mpsc::unbounded_channel();
        let clock = Clock::start();
        let ledger = Ledger::new(config.ledger_options(), clock, config.follow_deadline());
        let gateway = Gateway::new(
            config.gateway_options(),
            ledger.clone(),
            Arc::new(Scripted { calls }),
            Budget::new(config.budget_options()),
            clock,
            &MetricsRegistry::new(),
        );
        tokio::spawn(gateway.clone().run_prefetch());
        Self::new(Stage::InProcess { gateway, ledger }, arriving)
    }

    pub(crate) async fn against_binary(lines: &[Line]) -> Self {
        let (calls, arriving) = mpsc::unbounded_channel();
        let upstream = http::serve_scripted(calls).await;
        let mut environment = environment(lines);
        environment.push(("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}")));
        Self::new(Stage::Binary(Box::new(Binary::start("run", &environment).await)), arriving)
    }

    fn new(stage: Stage, arriving: mpsc::UnboundedReceiver<Pending>) -> Self {
        Self {
            stage,
            arriving,
            arrived: Vec::new(),
            named: HashMap::new(),
            asking: HashMap::new(),
            told: HashMap::new(),
            names: Names::default(),
        }
    }

    /// Plays all lines. Panics with the line's number where the world does not do as the transcript says.
    pub(crate) async fn play(&mut self, lines: &[Line]) {
        for line in lines {
            let number = line.number;
            if let Err(why) = self.play_step(&line.step).await {
                panic!("line {number}: {why}");
            }
        }
        self.settle().await;
        assert!(self.arrived.is_empty(), "the upstream was called and no line says so: {}", describe(&self.arrived));
        assert!(self.asking.is_empty(), "clients whose answer no line names: {:?}", self.asking.keys());
        if let Stage::Binary(binary) = &mut self.stage {
            binary.stop().await;
        }
    }

    async fn play_step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Set { .. } => Ok(()),
            Step::Task { name, key, row, native } => self.submit(name, key, row, native).await,
            Step::Ask { who, verb, target, content_type, body } => {
                let target = self.names.fill(target);
                let body = match std::str::from_utf8(body) {
                    Ok(text) => self.names.fill(text).into_bytes(),
                    Err(_) => body.clone(),
                };
                let asking = self.ask(verb, &target, content_type, body);
                if self.asking.insert(who.clone(), asking).is_some() {
                    return Err(format!("{who} asks again before it was told"));
                }
                self.settle().await;
                Ok(())
            }
            Step::Told { who, status, body } => self.expect_told(who, *status, body).await,
            Step::Header { who, name, value } => {
                let told = self.told.get(who).ok_or("no answer to look at")?;
                let found = told.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                match found.map(|(_, value)| value.as_str()) {
                    None if value == "-" => Ok(()),
                    Some(found) if found == value => Ok(()),
                    found => Err(format!("header {name}: expected {value}, found {found:?}")),
                }
            }
            Step::Called { who, path, body } => self.expect_call(who, path, body).await,
            Step::Answer { who, answer } => {
                let reply = self.named.remove(who).ok_or_else(|| format!("no call of {who} waits for an answer"))?;
                let _ = reply.send(answer.clone());
                self.settle().await;
                Ok(())
            }
            Step::Advance { ms } => {
                tokio::time::advance(Duration::from_millis(*ms)).await;
                self.settle().await;
                Ok(())
            }
            Step::Count { name, number } => {
                let Stage::InProcess { ledger, .. } = &self.stage else { return Err("no view into it".to_owned()) };
                let stats = ledger.recount();
                let found = match name.as_str() {
                    "waiting" => stats.waiting,
                    "flights" => stats.flights,
                    "records" => stats.records,
                    other => return Err(format!("no counter {other}")),
                };
                if found == *number { Ok(()) } else { Err(format!("{name}: expected {number}, found {found}")) }
            }
        }
    }

    /// Submits a task of a row with the least it needs.
    async fn submit(&mut self, name: &str, key: &str, row: &str, native: &str) -> Result<(), String> {
        let table = Table::default();
        let method = table.rows().iter().find(|method| method.name == row).ok_or_else(|| format!("no row {row}"))?;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("key", key).append_pair("method", method.legacy[0]);
        append_samples(&mut form, method, |need| need == Need::Required);
        let asking = self.ask("POST", "/in.php", "application/x-www-form-urlencoded", form.finish().into_bytes());
        let pending =
            self.next_call(|pending| pending.path == "/createTask").await.ok_or("the submit did not arrive")?;
        let body = format!(r#"{{"errorId":0,"taskId":"{native}","status":"processing"}}"#).into_bytes();
        let _ = pending.reply.send(UpstreamAnswer::Says { status: 200, body });
        let told = asking.await.map_err(|error| error.to_string())?;
        let told = String::from_utf8(told.body).map_err(|error| error.to_string())?;
        self.names.set(name, told.strip_prefix("OK|").ok_or_else(|| format!("the submit was answered {told}"))?);
        Ok(())
    }

    fn ask(&self, verb: &str, target: &str, content_type: &str, body: Vec<u8>) -> JoinHandle<Told> {
        match &self.stage {
            Stage::InProcess { gateway, .. } => {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let inbound = Inbound {
                    verb: Verb::parse(verb),
                    path: path.to_owned(),
                    query: Bytes::copy_from_slice(query.as_bytes()),
                    content_type: Bytes::copy_from_slice(content_type.as_bytes()),
                    body: Bytes::from(body),
                };
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    let (reply, _) = gateway.handle(&inbound).await;
                    let fixed = reply.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                    let typed = reply.content_type.map(|value| ("Content-Type".to_owned(), value.to_owned()));
                    let headers = fixed.chain(typed).collect();
                    Told { status: reply.status, headers, body: reply.body.to_vec() }
                })
            }
            Stage::Binary(binary) => {
                let (address, verb, target) = (binary.http, verb.to_owned(), target.to_owned());
                let content_type = content_type.to_owned();
                tokio::spawn(async move {
                    let headers: &[(&str, &str)] = &[("Content-Type", &content_type)];
                    let headers = if content_type.is_empty() { &[] } else { headers };
                    http::request(address, &verb, &target, headers, &body).await.expect("an answer")
                })
            }
        }
    }

    async fn expect_told(&mut self, who: &str, status: u16, body: &str) -> Result<(), String> {
        let asking = self.asking.get(who).ok_or_else(|| format!("{who} has asked nothing"))?;
        for _ in 0..self.patience() {
            if asking.is_finished() {
                break;
            }
            self.pause().await;
        }
        if !asking.is_finished() {
            self.settle().await;
            return Err(format!("{who} was told nothing; the upstream was called: {}", describe(&self.arrived)));
        }
        let asking = self.asking.remove(who).ok_or("no such client")?;
        let told = asking.await.map_err(|error| error.to_string())?;
        let found = String::from_utf8_lossy(&told.body).into_owned();
        let given = told.status;
        self.told.insert(who.to_owned(), told);
        self.names.learn(body, &found);
        let expected = self.names.fill(body);
        if given == status && found == expected {
            Ok(())
        } else {
            Err(format!("{who} was told {given} {found}\n        expected {status} {expected}"))
        }
    }

    async fn expect_call(&mut self, who: &str, path: &str, body: &str) -> Result<(), String> {
        let expected = self.names.fill(&body.replace("${png}", &capgate::legacy::base64::encode(&png())));
        let wanted = expected.clone();
        let is_it = move |pending: &Pending| pending.path == path && pending.body == wanted.as_bytes();
        if let Some(pending) = self.next_call(is_it).await {
            self.named.insert(who.to_owned(), pending.reply);
            return Ok(());
        }
        let mut told = Vec::new();
        for (who, asking) in self.asking.drain().filter(|(_, asking)| asking.is_finished()) {
            let body = asking.await.map(|told| String::from_utf8_lossy(&told.body).into_owned());
            told.push(format!("{who} was told {body:?}"));
        }
        Err(format!("no call {path} {expected}\n        arrived: {}\n        {told:?}", describe(&self.arrived)))
    }

    async fn next_call(&mut self, is_it: impl Fn(&Pending) -> bool) -> Option<Pending> {
        for _ in 0..self.patience() {
            while let Ok(pending) = self.arriving.try_recv() {
                self.arrived.push(pending);
            }
            if let Some(at) = self.arrived.iter().position(&is_it) {
                return Some(self.arrived.remove(at));
            }
            self.pause().await;
        }
        None
    }

    /// Lets everything happen that can happen now.
    async fn settle(&mut self) {
        let rounds = if matches!(self.stage, Stage::InProcess { .. }) { 200 } else { 2 };
        for _ in 0..rounds {
            self.pause().await;
            while let Ok(pending) = self.arriving.try_recv() {
                self.arrived.push(pending);
            }
        }
    }

    /// Rounds of [`Self::pause`] before something that was expected counts as missing.
    fn patience(&self) -> usize {
        if matches!(self.stage, Stage::InProcess { .. }) { 2_000 } else { 1_500 }
    }

    /// In process, other tasks get their turn and the paused clock stands still, which it would not if the test slept.
    async fn pause(&self) {
        match self.stage {
            Stage::InProcess { .. } => tokio::task::yield_now().await,
            Stage::Binary(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Adds what a submit of a row needs: its conditions, a proxy where it cannot do without, and valid texts for the
/// parameters that are wanted, with at least one of each group of which one must be there.
pub(crate) fn append_samples(
    form: &mut url::form_urlencoded::Serializer<'_, String>,
    method: &Method,
    is_wanted: impl Fn(Need) -> bool,
) {
    form.extend_pairs(method.when);
    if method.task_type.proxyless.is_none() {
        form.append_pair("proxy", "u:p@proxy.example:3128").append_pair("proxytype", "HTTP");
    }
    let in_group = |native: &str| method.any_of.iter().any(|group| group.first() == Some(&native));
    for param in method.params.iter().filter(|param| is_wanted(param.need) || in_group(param.native)) {
        let names = match param.kind {
            capgate::methods::Kind::ImageList => param.legacy,
            _ => param.legacy.get(param.legacy.len().saturating_sub(1)..).unwrap_or_default(),
        };
        for name in names {
            form.append_pair(name, &sample(param.kind));
        }
    }
}

/// A text that is valid for a parameter.
fn sample(kind: capgate::methods::Kind) -> String {
    use capgate::methods::Kind;
    match kind {
        Kind::PageUrl | Kind::Url => "https://example.com/".to_owned(),
        Kind::Image | Kind::Images | Kind::ImageList | Kind::Audio => capgate::legacy::base64::encode(&png()),
        Kind::ImageArray => format!(r#"["{}"]"#, capgate::legacy::base64::encode(&png())),
        Kind::Integer | Kind::Decimal | Kind::Flag => "1".to_owned(),
        Kind::Text | Kind::GoogleKey | Kind::Cookies | Kind::Host | Kind::Record => "sample".to_owned(),
    }
}

fn describe(calls: &[Pending]) -> String {
    let calls = calls.iter().map(|call| format!("{} {}", call.path, String::from_utf8_lossy(&call.body)));
    calls.collect::<Vec<_>>().join("; ")
}
