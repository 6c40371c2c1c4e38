//! Panics of a running server. The test binary starts itself as the server, because the capgate binary has no way to panic.

use std::sync::Arc;
use std::time::Duration;

use capgate::apps::admin::AdminApp;
use capgate::config::Config;
use capgate::http::{Inbound, Step};
use capgate::memory::MemoryCharge;
use capgate::server::connections::Connections;
use capgate::server::handler::{Handler, Rejection, Response};
use capgate::server::lifecycle::{Audience, Server};
use capgate::server::sockets::ListeningSockets;
use capgate::telemetry::log::Log;
use capgate::telemetry::metrics::MetricsRegistry;
use capgate::wiring;
use tokio::process::Command;

use crate::support::http::get;
use crate::support::process::Process;

/// The variable that makes [`server`] serve.
const SERVE: &str = "SERVE_PANICS";

/// Text of every panic, which must not be written anywhere.
const SECRET: &str = "c0ffee00c0ffee00";

/// An application that panics where its path says.
struct PanickingApp;

#[async_trait::async_trait]
impl Handler for PanickingApp {
    type Labels = ();
    type Pending = ();

    fn try_respond(&self, request: &Inbound) -> Step<Response<()>, ()> {
        assert!(request.path != "/now", "{SECRET}");
        Step::Pending(())
    }

    async fn respond(&self, request: Inbound, (): (), _charge: MemoryCharge) -> Response<()> {
        tokio::task::yield_now().await;
        assert!(request.path != "/later", "{SECRET}");
        if request.path == "/task" {
            tokio::spawn(async { panic!("{SECRET}") });
        }
        Response { status: 200, ..Response::default() }
    }

    fn reject(&self, request: &Inbound, why: Rejection) -> Response<()> {
        assert_eq!(why, Rejection::Panicked);
        // Outside of the handler, so that the whole connection panics.
        assert!(request.query.is_empty(), "{SECRET}");
        Response { status: 500, ..Response::default() }
    }
}

/// Not a test: the server of the tests below.
#[test]
fn server() {
    if std::env::var(SERVE).is_err() {
        return;
    }
    let config = Config::load(None, std::env::vars()).expect("a valid configuration");
    let build = async |config: &Config, registry: &MetricsRegistry, _log: &Log| {
        let connections = Connections::register(config.connection_limits(), registry);
        let mut server = Server::new(config.server_options(), connections, ListeningSockets::default());
        let http = config.http_address().expect("an address");
        server.listen("http", http, None, Arc::new(PanickingApp), Audience::Public)?;
        let admin = AdminApp::new(registry.clone(), server.readiness(), || None);
        let address = config.admin_address().expect("an address");
        server.listen(
            "admin",
            address,
            None,
            admin,
            Audience::Private { connections_max: 8, idle_timeout: Duration::from_secs(10), is_passed_on: false },
        )?;
        Ok((server, ()))
    };
    wiring::serve(&config, build, |_, ()| Ok(std::future::pending())).expect("served");
}

async fn start(per_minute_max: &str) -> Process {
    let mut child = Command::new(std::env::current_exe().expect("this binary"));
    child.args(["--exact", "panics::server", "--nocapture"]);
    let environment =
        [(SERVE, "1"), ("CAPGATE_SERVER_PANICS_PER_MINUTE_MAX", per_minute_max), ("CAPGATE_LOG_LEVEL", "debug")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Process::spawn(child, "run", &environment).await
}

/// Sends a request that makes a connection panic, and waits for its end.
async fn break_connection(process: &Process) {
    let response = crate::support::http::request(process.http, "GET", "/now?x", &[], b"").await;
    assert!(response.is_err(), "{response:?}");
}

#[tokio::test]
async fn each_panic_costs_one_request_and_is_counted() {
    let mut process = start("4").await;
    assert_eq!(get(process.http, "/now").await.status, 500);
    assert_eq!(get(process.http, "/later").await.status, 500);
    assert_eq!(get(process.http, "/task").await.status, 200);
    process.wait_for_metric("capgate_panics_total 3").await;
    // The panic of the handler and that of its connection.
    break_connection(&process).await;
    assert_eq!(process.wait().await, Some(70));
    let log = process.log.join("\n");
    assert!(log.contains("too many panics") && log.contains("tests/panics.rs:"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn without_a_limit_panics_end_nothing() {
    let mut process = start("0").await;
    for _ in 0..50 {
        break_connection(&process).await;
    }
    process.wait_for_metric("capgate_panics_total 100").await;
    assert_eq!(get(process.http, "/").await.status, 200);
    // The connections that panicked no longer count.
    process.wait_for_metric("capgate_connections 0").await;
    process.stop().await;
}
