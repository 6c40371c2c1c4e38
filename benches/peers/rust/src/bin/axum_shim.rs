//! A straightforward shim in Rust: axum as server, reqwest as client, moka as cache.
//!
//!     axum_shim PORT UPSTREAM THREADS

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::get;
use axum::serve::ListenerExt;
use moka::Expiry;
use moka::future::Cache;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

const NOT_READY: &str = "CAPCHA_NOT_READY";
const NOT_READY_TTL: Duration = Duration::from_secs(2);
const ANSWER_TTL: Duration = Duration::from_secs(30 * 60);
const ANSWERS_MAX: u64 = 1_000_000;

/// The cached state of a task.
#[derive(Clone)]
enum Answer {
    NotReady,
    /// `OK|…` or `ERROR_…`.
    Final(Arc<str>),
}

/// Expiry by the kind of answer.
struct Ttl;

impl Ttl {
    fn of(answer: &Answer) -> Option<Duration> {
        Some(if matches!(answer, Answer::NotReady) { NOT_READY_TTL } else { ANSWER_TTL })
    }
}

impl Expiry<String, Answer> for Ttl {
    fn expire_after_create(&self, _: &String, answer: &Answer, _: Instant) -> Option<Duration> {
        Self::of(answer)
    }

    // An expired entry that has not been swept yet is updated, not created.
    fn expire_after_update(&self, _: &String, answer: &Answer, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Self::of(answer)
    }
}

struct Shim {
    answers: Cache<String, Answer>,
    client: reqwest::Client,
    upstream: String,
}

type Reply = ([(HeaderName, &'static str); 1], Cow<'static, str>);

/// The known parameters of the query and a urlencoded body.
#[derive(Default)]
struct Parameters<'a> {
    key: Cow<'a, str>,
    action: Cow<'a, str>,
    id: Cow<'a, str>,
    method: Cow<'a, str>,
    sitekey: Cow<'a, str>,
    pageurl: Cow<'a, str>,
    json: bool,
}

impl<'a> Parameters<'a> {
    fn parse(query: Option<&'a str>, body: &'a [u8]) -> Self {
        let mut params = Self::default();
        for (name, value) in
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).chain(form_urlencoded::parse(body))
        {
            match name.as_ref() {
                "key" => params.key = value,
                "action" => params.action = value,
                "id" => params.id = value,
                "method" => params.method = value,
                "sitekey" => params.sitekey = value,
                "pageurl" => params.pageurl = value,
                "json" => params.json = value == "1",
                _ => {}
            }
        }
        params
    }
}

impl Shim {
    async fn call(&self, endpoint: &str, body: &Json) -> Result<Json, reqwest::Error> {
        // Upstream errors have another HTTP status, but also a JSON body.
        self.client.post(format!("{}/{endpoint}", self.upstream)).json(body).send().await?.json().await
    }

    async fn poll_upstream(&self, key: &str, id: &str) -> Result<Answer, reqwest::Error> {
        let answer = self.call("getTaskResult", &json!({ "clientKey": key, "taskId": id })).await?;
        if let Some(code) = answer["errorCode"].as_str() {
            return Ok(Answer::Final(code.into()));
        }
        if answer["status"] != "ready" {
            return Ok(Answer::NotReady);
        }
        let token = answer["solution"]["token"].as_str().unwrap_or_default();
        Ok(Answer::Final(format!("OK|{token}").into()))
    }

    async fn poll(&self, params: &Parameters<'_>) -> Cow<'static, str> {
        if params.action != "get" {
            return "ERROR_BAD_PARAMETERS".into();
        }
        let cache_key = format!("{}\n{}", params.key, params.id);
        // Concurrent polls share one call; failures are not cached.
        match self.answers.try_get_with_by_ref(&cache_key, self.poll_upstream(&params.key, &params.id)).await {
            Ok(Answer::Final(text)) => text.to_string().into(),
            Ok(Answer::NotReady) | Err(_) => NOT_READY.into(),
        }
    }

    async fn submit(&self, params: &Parameters<'_>) -> Cow<'static, str> {
        if params.method != "turnstile" {
            return "ERROR_BAD_PARAMETERS".into();
        }
        let task = json!({
            "type": "TurnstileTaskProxyless", "websiteURL": params.pageurl, "websiteKey": params.sitekey,
        });
        let Ok(answer) = self.call("createTask", &json!({ "clientKey": params.key, "task": task })).await else {
            return "ERROR_NO_SLOT_AVAILABLE".into();
        };
        match (answer["errorCode"].as_str(), answer["taskId"].as_str()) {
            (Some(code), _) => code.to_owned().into(),
            (None, Some(id)) => format!("OK|{id}").into(),
            (None, None) => "ERROR_NO_SLOT_AVAILABLE".into(),
        }
    }
}

fn reply(text: Cow<'static, str>, json: bool) -> Reply {
    if !json {
        return ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text);
    }
    let body = match text.strip_prefix("OK|") {
        Some(token) => json!({ "status": 1, "request": token }),
        None => json!({ "status": 0, "request": text }),
    };
    ([(CONTENT_TYPE, "application/json")], body.to_string().into())
}

async fn res(State(shim): State<Arc<Shim>>, RawQuery(query): RawQuery, body: Bytes) -> Reply {
    let params = Parameters::parse(query.as_deref(), &body);
    reply(shim.poll(&params).await, params.json)
}

async fn r#in(State(shim): State<Arc<Shim>>, RawQuery(query): RawQuery, body: Bytes) -> Reply {
    let params = Parameters::parse(query.as_deref(), &body);
    reply(shim.submit(&params).await, params.json)
}

async fn serve(port: u16, upstream: String) -> Result<(), Box<dyn std::error::Error>> {
    let answers = Cache::builder().max_capacity(ANSWERS_MAX).expire_after(Ttl).build();
    let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(1024).build()?;
    let shim = Arc::new(Shim { answers, client, upstream });
    let router =
        Router::new().route("/res.php", get(res).post(res)).route("/in.php", get(r#in).post(r#in)).with_state(shim);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    // Without TCP_NODELAY, responses to pipelined requests are delayed.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    axum::serve(listener, router).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, upstream, threads] = arguments.as_slice() else {
        return Err("axum_shim PORT UPSTREAM THREADS".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.parse()?).enable_all().build()?;
    runtime.block_on(serve(port.parse()?, upstream.trim_end_matches('/').to_owned()))
}
