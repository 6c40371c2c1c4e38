//! An upstream whose replies the test chooses call by call, in process or as an HTTP server.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use capgate::gateway::upstream::{SendError, Upstream};
use capgate::native::{Answer, Call};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::http;
use super::upstream_reply::UpstreamReply;

/// A native call that waits for its reply.
#[derive(Debug)]
pub(crate) struct UpstreamCall {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    reply_tx: oneshot::Sender<UpstreamReply>,
}

impl UpstreamCall {
    /// Sends the reply. Returns `false` if the gateway has given up the call.
    pub(crate) fn reply(self, reply: UpstreamReply) -> bool {
        self.reply_tx.send(reply).is_ok()
    }
}

/// The upstream as the gateway's trait, without sockets.
pub(crate) struct InProcessUpstream {
    calls_tx: mpsc::UnboundedSender<UpstreamCall>,
}

impl InProcessUpstream {
    /// Returns the upstream and the calls that it receives.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<UpstreamCall>) {
        let (calls_tx, calls_rx) = mpsc::unbounded_channel();
        (Self { calls_tx }, calls_rx)
    }
}

impl Upstream for InProcessUpstream {
    fn send(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send>> {
        let (reply_tx, reply_rx) = oneshot::channel();
        let call = UpstreamCall { path: call.endpoint.path().to_owned(), body: call.body.to_vec(), reply_tx };
        let sent = self.calls_tx.send(call);
        Box::pin(async move {
            assert!(sent.is_ok(), "an upstream call after the end of the transcript");
            match reply_rx.await {
                Ok(UpstreamReply::Response { status, body }) => Ok(Answer::new(status, Bytes::from(body))),
                Ok(UpstreamReply::Refused) => Err(SendError { sent: false, cause: "connect" }),
                Ok(UpstreamReply::Reset | UpstreamReply::Raw(_)) | Err(_) => {
                    Err(SendError { sent: true, cause: "no_answer" })
                }
            }
        })
    }
}

/// The upstream as an HTTP/1.1 server on a free port of loopback.
pub(crate) struct UpstreamServer {
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::UnboundedReceiver<UpstreamCall>,
}

impl UpstreamServer {
    pub(crate) async fn start() -> Self {
        let (calls_tx, calls) = mpsc::unbounded_channel();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a local address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_connection(stream, calls_tx.clone()));
            }
        });
        Self { address, calls }
    }

    /// The environment variable that makes a gateway call this upstream.
    pub(crate) fn setting(&self) -> (String, String) {
        ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{}", self.address))
    }

    pub(crate) async fn next_call(&mut self) -> UpstreamCall {
        self.calls.recv().await.expect("an upstream call")
    }

    /// Replies to the next call, which must have this path.
    pub(crate) async fn reply_to(&mut self, path: &str, reply: UpstreamReply) {
        let call = self.next_call().await;
        assert_eq!(call.path, path);
        assert!(call.reply(reply), "the gateway has given up the call");
    }

    /// Submits a task to a gateway that calls this upstream, with native id `u-1`, and returns the legacy id.
    pub(crate) async fn submit(&mut self, gateway: SocketAddr) -> String {
        let target = "/in.php?key=K&method=userrecaptcha&googlekey=S&pageurl=https://e.com";
        let response = tokio::spawn(async move { http::get(gateway, target).await });
        self.reply_to("/createTask", UpstreamReply::ok(r#"{"errorId":0,"taskId":"u-1","status":"processing"}"#)).await;
        let body = String::from_utf8(response.await.expect("no panic").body).expect("UTF-8");
        body.strip_prefix("OK|").expect("an id").to_owned()
    }
}

async fn serve_connection(mut stream: TcpStream, calls_tx: mpsc::UnboundedSender<UpstreamCall>) {
    while let Ok((head, mut body)) = http::read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers = http::parse_headers(head.split("\r\n").skip(1));
        let length = http::header(&headers, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if http::read_body(&mut stream, &mut body, length).await.is_err() {
            return;
        }
        let (reply_tx, reply_rx) = oneshot::channel();
        if calls_tx.send(UpstreamCall { path, body, reply_tx }).is_err() {
            return;
        }
        let (status, body) = match reply_rx.await {
            Ok(UpstreamReply::Response { status, body }) => (status, body),
            Ok(UpstreamReply::Raw(bytes)) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Ok(UpstreamReply::Reset | UpstreamReply::Refused) | Err(_) => return,
        };
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}
