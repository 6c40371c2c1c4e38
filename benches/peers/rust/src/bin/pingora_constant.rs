//! The upper bound for a server on Pingora: answers every request with `CAPCHA_NOT_READY`.
//!
//!     pingora_constant PORT THREADS

use async_trait::async_trait;
use http::{Response, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;

const ANSWER: &[u8] = b"CAPCHA_NOT_READY";

struct Constant;

#[async_trait]
impl ServeHttp for Constant {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // `ServeHttp` keeps every connection alive, even if the client requests `Connection: close`.
        if session.get_header(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close")) {
            session.set_keepalive(None);
        }
        let mut response = Response::new(ANSWER.to_vec());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(ANSWER.len()));
        response
    }
}

fn parse_argument(index: usize, name: &str) -> usize {
    std::env::args()
        .nth(index)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("argument {index}: expected {name}"))
}

fn main() {
    let (port, threads) = (parse_argument(1, "a port"), parse_argument(2, "a number of threads"));
    let conf = ServerConf {
        threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = Service::new("constant".to_owned(), Constant);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever();
}
