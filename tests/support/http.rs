//! HTTP by hand, so that the tests see bytes and not what a library makes of them.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::play::{Pending, Told};
use super::transcript::UpstreamAnswer;

/// One request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    verb: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Told> {
    let mut head = format!("{verb} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    read_response(&mut stream).await
}

/// Submits a task to a gateway before a scripted upstream, which calls it `u-1`; returns the legacy id.
pub(crate) async fn submit(address: SocketAddr, arriving: &mut mpsc::UnboundedReceiver<Pending>) -> String {
    let target = "/in.php?key=K&method=userrecaptcha&googlekey=S&pageurl=https://e.com";
    let asking = tokio::spawn(async move { request(address, "GET", target, &[], b"").await });
    let created = arriving.recv().await.expect("a submit");
    assert_eq!(created.path, "/createTask");
    let answer = UpstreamAnswer::says(r#"{"errorId":0,"taskId":"u-1","status":"processing"}"#);
    created.reply.send(answer).expect("sent");
    let told = String::from_utf8(asking.await.expect("done").expect("an answer").body).expect("text");
    told.strip_prefix("OK|").expect("an id").to_owned()
}

/// Writes raw bytes and reads whatever comes until the connection is closed.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Reads one response of known length, or up to the end.
pub(crate) async fn read_response(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Told> {
    let (head, mut body) = read_head(stream).await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length.and_then(|(_, length)| length.parse::<usize>().ok()) {
        Some(length) => read_until(stream, &mut body, length).await?,
        None if status != 204 => drop(stream.read_to_end(&mut body).await?),
        None => {}
    }
    Ok(Told { status, headers, body })
}

/// Reads to the blank line; what came behind it is returned as well.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((bytes, rest));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), body: &mut Vec<u8>, length: usize) -> std::io::Result<()> {
    while body.len() < length {
        if stream.read_buf(body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// An HTTP server whose answers the transcript gives.
pub(crate) async fn serve_scripted(calls: mpsc::UnboundedSender<Pending>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, calls.clone()));
        }
    });
    address
}

async fn serve_connection(mut stream: TcpStream, calls: mpsc::UnboundedSender<Pending>) {
    while let Ok((head, mut body)) = read_head(&mut stream).await {
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = head
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok())
            .unwrap_or(0);
        if read_until(&mut stream, &mut body, length).await.is_err() {
            return;
        }
        let (reply, answered) = oneshot::channel();
        if calls.send(Pending { path, body, reply }).is_err() {
            return;
        }
        let (status, body) = match answered.await {
            Ok(UpstreamAnswer::Says { status, body }) => (status, body),
            Ok(UpstreamAnswer::Raw(bytes)) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Ok(UpstreamAnswer::Reset | UpstreamAnswer::Refused) | Err(_) => return,
        };
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}
