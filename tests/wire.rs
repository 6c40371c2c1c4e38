//! The transcripts again, against the real binary over loopback; and what only the wire shows: framing, versions, TLS,
//! limits. No test here asserts how long something took.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::binary::Binary;
use crate::support::http::{raw, read_response, request, serve_scripted, submit};
use crate::support::play::{Player, needs_process};
use crate::support::transcript::{UpstreamAnswer, files, parse, png};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transcripts_hold_against_the_binary() {
    let mut played = 0;
    for file in files() {
        let lines = parse(&std::fs::read_to_string(&file).expect("a text"));
        if !needs_process(&lines) {
            let name = file.display().to_string();
            let playing = async { Player::against_binary(&lines).await.play(&lines).await };
            tokio::time::timeout(Duration::from_secs(120), playing).await.unwrap_or_else(|_| panic!("{name} hangs"));
            played += 1;
        }
    }
    assert!(played >= 12, "only {played} transcripts can be played on the wire");
}

fn sandbox() -> Vec<(String, String)> {
    vec![("CAPGATE_SANDBOX_LATENCY_MS".to_owned(), "0".to_owned())]
}

#[tokio::test]
async fn ambiguous_or_foreign_http_is_refused_without_an_answer_of_ours() {
    // The last of them is too short to tell HTTP/2 from HTTP/1, and is waited for this long.
    let environment = [("CAPGATE_LIMITS_HEADER_TIMEOUT_MS".to_owned(), "500".to_owned())];
    let mut binary = Binary::start("run", &[sandbox(), environment.to_vec()].concat()).await;
    let refused = [
        "GET http://elsewhere/res.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "TRACE /res.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /res.php HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST /res.php HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /res.php HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /res.php HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for bytes in refused {
        let answer = raw(binary.http, bytes.as_bytes()).await.expect("a connection");
        assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{bytes:?} was answered {answer:?}");
    }
    // Java's HttpClient and `curl --http2` offer this with every request in the clear, and go on with HTTP/1.1.
    let offer = "GET /res.php?key=K HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let mut stream = TcpStream::connect(binary.http).await.expect("a connection");
    stream.write_all(offer.as_bytes()).await.expect("written");
    let mut answer = vec![0; 4_096];
    let bytes = stream.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(stream);
    let many = format!("GET /res.php HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(80));
    assert!(raw(binary.http, many.as_bytes()).await.expect("a connection").starts_with("HTTP/1.1 400"));
    binary.stop().await;
}

#[tokio::test]
async fn old_and_odd_clients_are_answered() {
    let mut binary = Binary::start("run", &sandbox()).await;
    let ask = "GET /res.php?key=K&action=get&id=1";
    let ten = raw(binary.http, format!("{ask} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("an answer");
    assert!(ten.contains("Content-Length: 22\r\n") && ten.contains("Connection: close\r\n"), "{ten}");
    assert!(ten.ends_with("\r\n\r\nERROR_WRONG_CAPTCHA_ID"), "{ten}");

    // A client that says nothing more after its request, but still listens.
    let mut half = TcpStream::connect(binary.http).await.expect("a connection");
    half.write_all(format!("{ask} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("written");
    half.shutdown().await.expect("half closed");
    assert_eq!(read_response(&mut half).await.expect("an answer").body, b"ERROR_WRONG_CAPTCHA_ID");

    // Two requests in one segment, the second cut in two.
    let mut piped = TcpStream::connect(binary.http).await.expect("a connection");
    let two = format!("{ask} HTTP/1.1\r\nHost: x\r\n\r\nGET /res.php?json=1");
    piped.write_all(two.as_bytes()).await.expect("written");
    assert_eq!(read_response(&mut piped).await.expect("an answer").body, b"ERROR_WRONG_CAPTCHA_ID");
    piped.write_all(b"&key=K HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let second = read_response(&mut piped).await.expect("an answer");
    assert_eq!(second.body, br#"{"status":0,"request":"ERROR_EMPTY_ACTION"}"#);

    // A chunked body, and spaces in the address that a careful client would have escaped.
    let chunked = "POST /res.php?action=get&x=a b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nkey=K\r\n5\r\n&id=1\r\n0\r\n\r\n";
    let answer = raw(binary.http, chunked.as_bytes()).await.expect("an answer");
    assert!(answer.ends_with("ERROR_WRONG_CAPTCHA_ID"), "{answer}");
    binary.stop().await;
}

#[tokio::test]
async fn a_large_body_is_waited_for_or_refused_in_the_clients_words() {
    let environment = [("CAPGATE_LIMITS_BODY_BYTES_MAX".to_owned(), "65536".to_owned())];
    let mut binary = Binary::start("run", &[sandbox(), environment.to_vec()].concat()).await;
    // The client waits for the go-ahead, as curl and .NET do, and gets it.
    let mut stream = TcpStream::connect(binary.http).await.expect("a connection");
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n".to_vec();
    body.extend(png());
    body.extend(b"\r\n--b--\r\n");
    let head = format!(
        "POST /in.php?key=K&method=post HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut go_ahead = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut go_ahead).await.expect("a go-ahead");
    assert_eq!(&go_ahead, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.expect("written");
    assert!(read_response(&mut stream).await.expect("an answer").body.starts_with(b"OK|"));

    // Too much, announced and not announced: the client sends it all and still reads why not.
    let target = "/in.php?key=K&method=post&json=1";
    let told = request(binary.http, "POST", target, &[], &vec![b'a'; 300_000]).await.expect("an answer");
    assert_eq!(told.body, br#"{"status":0,"request":"ERROR_TOO_BIG_CAPTCHA_FILESIZE"}"#);
    let mut chunked = b"POST /res.php?key=K HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend(b"2000\r\n");
        chunked.extend(vec![b'a'; 0x2000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let answer = raw(binary.http, &chunked).await.expect("an answer");
    assert!(answer.ends_with("ERROR_BAD_PARAMETERS"), "{answer}");
    binary.stop().await;
}

/// What may be sent again, and what may not: a connection from the pool that dies under a call has perhaps carried it.
#[tokio::test]
async fn a_submit_or_a_report_is_sent_once_and_a_poll_at_most_twice() {
    let (calls, mut arriving) = tokio::sync::mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    let environment = [
        ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}")),
        ("CAPGATE_UPSTREAM_BALANCE_TTL_MS".to_owned(), "0".to_owned()),
    ];
    let mut binary = Binary::start("run", &environment).await;
    let address = binary.http;
    let ask = |target: String| {
        tokio::spawn(async move { request(address, "GET", &target, &[], b"").await.expect("an answer") })
    };
    let told = async |asking: tokio::task::JoinHandle<crate::support::play::Told>| {
        String::from_utf8(asking.await.expect("done").body).expect("text")
    };
    let id = submit(address, &mut arriving).await;
    let mut next = async |path: &str, answer: UpstreamAnswer| {
        let call = arriving.recv().await.expect("a call");
        assert_eq!(call.path, path);
        call.reply.send(answer).expect("sent");
    };

    // Each call below finds a connection in the pool; each reset takes one away, and the balance makes a new one.
    let balance = r#"{"errorId":0,"balance":1}"#;
    let asking = ask("/in.php?key=K&method=userrecaptcha&googlekey=S&pageurl=https://e.com".to_owned());
    next("/createTask", UpstreamAnswer::Reset).await;
    assert!(told(asking).await.starts_with("OK|"));
    let asking = ask("/res.php?key=K&action=getbalance".to_owned());
    next("/getBalance", UpstreamAnswer::says(balance)).await;
    assert_eq!(told(asking).await, "1.0000");
    let asking = ask(format!("/res.php?key=K&action=reportbad&id={id}"));
    next("/feedbackTask", UpstreamAnswer::Reset).await;
    assert_eq!(told(asking).await, "ERROR_REPORT_NOT_RECORDED");
    let asking = ask("/res.php?key=K&action=getbalance".to_owned());
    next("/getBalance", UpstreamAnswer::says(balance)).await;
    assert_eq!(told(asking).await, "1.0000");
    let asking = ask(format!("/res.php?key=K&action=get&id={id}"));
    next("/getTaskResult", UpstreamAnswer::Reset).await;
    // Repeated where the pool had a connection to offer; on a new one the first silence is the last word.
    let repeated = tokio::time::timeout(Duration::from_secs(5), arriving.recv()).await;
    if let Ok(Some(call)) = repeated {
        assert_eq!(call.path, "/getTaskResult");
        call.reply.send(UpstreamAnswer::Reset).expect("sent");
    }
    assert_eq!(told(asking).await, "CAPCHA_NOT_READY");
    assert!(
        binary
            .metrics()
            .await
            .contains("capgate_upstream_calls_total{endpoint=\"getTaskResult\",result=\"no_answer\"} 1")
    );
    assert!(arriving.try_recv().is_err(), "sent a third time");
    binary.stop().await;
}

/// Answers in framings and encodings that nobody asked for: read where they can be, trouble where they cannot.
#[tokio::test]
async fn odd_upstream_answers_are_read_or_are_trouble() {
    use flate2::write::GzEncoder;
    use std::io::Write;
    let (calls, mut arriving) = tokio::sync::mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    let environment = [
        ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}/base/")),
        ("CAPGATE_UPSTREAM_ANSWER_BYTES_MAX".to_owned(), "2000".to_owned()),
        ("CAPGATE_UPSTREAM_BALANCE_TTL_MS".to_owned(), "0".to_owned()),
    ];
    let mut binary = Binary::start("run", &environment).await;
    let balance = br#"{"errorId":0,"balance":50.25}"#;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let with = |head: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let chunked =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\n", &balance[..], b"\r\n0\r\n\r\n"].concat();
    let interim = [&b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"[..], &with("", balance)].concat();
    let cases = [
        ("gzip", with("Content-Encoding: gzip\r\n", &gzip(balance)), "50.2500"),
        ("chunked", chunked.clone(), "50.2500"),
        ("to the end of the connection", [b"HTTP/1.0 200 OK\r\n\r\n", &balance[..]].concat(), "50.2500"),
        ("after an interim answer", interim, "50.2500"),
        ("a gzip bomb", with("Content-Encoding: gzip\r\n", &gzip(&vec![b' '; 1_000_000])), "ERROR_NO_SLOT_AVAILABLE"),
        ("no gzip", with("Content-Encoding: gzip\r\n", balance), "ERROR_NO_SLOT_AVAILABLE"),
        ("an unknown encoding", with("Content-Encoding: br\r\n", balance), "ERROR_NO_SLOT_AVAILABLE"),
        ("huge", with("", &vec![b' '; 3_000]), "ERROR_NO_SLOT_AVAILABLE"),
        ("empty", with("", b""), "ERROR_NO_SLOT_AVAILABLE"),
        ("cut off", with("", balance)[..60].to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
        ("chunks cut off", chunked[..60].to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
        ("interim answers for ever", b"HTTP/1.1 103 X\r\n\r\n".repeat(50), "ERROR_NO_SLOT_AVAILABLE"),
        ("no HTTP", b"SSH-2.0-x\r\n".to_vec(), "ERROR_NO_SLOT_AVAILABLE"),
    ];
    for (what, bytes, expected) in cases {
        let address = binary.http;
        let asking =
            tokio::spawn(async move { request(address, "GET", "/res.php?key=K&action=getbalance", &[], b"").await });
        let call = arriving.recv().await.expect("a call");
        assert_eq!(call.path, "/base/getBalance");
        call.reply.send(UpstreamAnswer::Raw(bytes)).expect("sent");
        let told = String::from_utf8(asking.await.expect("done").expect("an answer").body).expect("text");
        assert_eq!(told, expected, "{what}");
    }
    binary.stop().await;
}

/// A hundred clients of one task, in both notations, on the wire: the counters prove that all of them wait, and that the
/// upstream was asked once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_on_one_task_is_one_call() {
    const CLIENTS: usize = 100;
    let (calls, mut arriving) = tokio::sync::mpsc::unbounded_channel();
    let upstream = serve_scripted(calls).await;
    let environment = [
        ("CAPGATE_UPSTREAM_URL".to_owned(), format!("http://{upstream}")),
        // All wait, so that all are told the same.
        ("CAPGATE_LEDGER_STALE_MS".to_owned(), "0".to_owned()),
        ("CAPGATE_LEDGER_FOLLOW_DEADLINE_MS".to_owned(), "60000".to_owned()),
    ];
    let mut binary = Binary::start("run", &environment).await;
    let address = binary.http;
    let id = submit(address, &mut arriving).await;

    let clients: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let target = format!("/res.php?key=K&action=get&id={id}&json={}", at % 2);
            tokio::spawn(async move { request(address, "GET", &target, &[], b"").await.expect("an answer") })
        })
        .collect();
    let asked = arriving.recv().await.expect("a poll");
    let mut metrics = String::new();
    // Followers are counted when they are told; until then they are connections.
    let waiting = format!("capgate_connections {CLIENTS}\n");
    for _ in 0..1_000 {
        metrics = binary.metrics().await;
        if metrics.contains(&waiting) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(metrics.contains(&waiting) && metrics.contains("capgate_flights 1\n"), "{metrics}");
    let ready = UpstreamAnswer::says(r#"{"errorId":0,"status":"ready","solution":{"token":"T"}}"#);
    asked.reply.send(ready).expect("sent");
    for (at, client) in clients.into_iter().enumerate() {
        let body = client.await.expect("done").body;
        assert_eq!(body, if at % 2 == 0 { &b"OK|T"[..] } else { br#"{"status":1,"request":"T"}"# });
    }
    assert!(arriving.try_recv().is_err(), "the upstream was asked again");
    let metrics = binary.metrics().await;
    let count = |path: &str| -> usize {
        let name = format!("capgate_polls_total{{path=\"{path}\"}} ");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .and_then(|number| number.parse().ok())
            .expect("a count")
    };
    // A client that connected but had not asked when the answer came was served from memory.
    assert_eq!((count("miss"), count("follow") + count("hit")), (1, CLIENTS - 1));
    binary.stop().await;
}

#[tokio::test]
async fn ipv6_is_listened_on() {
    let environment = [("CAPGATE_LISTEN_HTTP".to_owned(), "[::1]:0".to_owned())];
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6: not tested");
        return;
    }
    let mut binary = Binary::start("run", &[sandbox(), environment.to_vec()].concat()).await;
    assert!(binary.http.is_ipv6());
    let told = request(binary.http, "GET", "/res.php?key=K&action=getbalance", &[], b"").await.expect("an answer");
    assert_eq!(told.body, b"50.2500");
    binary.stop().await;
}

#[tokio::test]
async fn the_sandbox_runs_alone_and_counts() {
    let mut sandbox = Binary::start("sandbox", &[("CAPGATE_SANDBOX_LATENCY_MS".to_owned(), "0".to_owned())]).await;
    let post = async |path: &str, body: &str| {
        request(sandbox.http, "POST", path, &[], body.as_bytes()).await.expect("an answer")
    };
    let told = post("/getBalance", r#"{"clientKey":"K"}"#).await;
    assert_eq!((told.status, told.body), (200, br#"{"errorId":0,"balance":50.25}"#.to_vec()));
    assert!(
        told.headers.iter().any(|(name, text)| name.eq_ignore_ascii_case("x-ratelimit-remaining") && text == "9999")
    );
    assert_eq!(post("/getBalance", r#"{"clientKey":"sandbox-key-unknown"}"#).await.status, 401);
    let counters = request(sandbox.http, "GET", "/sandbox/counters", &[], b"").await.expect("counters").body;
    let counters: serde_json::Value = serde_json::from_slice(&counters).expect("JSON");
    assert_eq!((&counters["getBalance"], &counters["createTask"]), (&2.into(), &0.into()));
    post("/sandbox/reset", "").await;
    let counters = request(sandbox.http, "GET", "/sandbox/counters", &[], b"").await.expect("counters").body;
    assert!(String::from_utf8(counters).expect("text").contains("\"getBalance\":0"));
    sandbox.stop().await;
}

#[tokio::test]
async fn metrics_and_health_stand_on_the_admin_listener_only() {
    let mut binary = Binary::start("run", &sandbox()).await;
    let admin = binary.admin.expect("an admin listener");
    let get = async |address, target| request(address, "GET", target, &[], b"").await.expect("an answer");
    get(binary.http, "/res.php?key=K&action=get&id=1").await;
    let metrics = String::from_utf8(get(admin, "/metrics").await.body).expect("text");
    let counted = "capgate_requests_total{action=\"get\",outcome=\"ERROR_WRONG_CAPTCHA_ID\",script=\"res\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("capgate_polls_total{path=\"unknown\"} 1\n"), "{metrics}");
    assert_eq!(get(admin, "/livez").await.status, 200);
    assert_eq!(get(admin, "/readyz").await.status, 200);
    assert_eq!(get(admin, "/res.php?key=K").await.status, 404);
    assert_eq!(get(binary.http, "/metrics").await.status, 404);
    assert_eq!(get(binary.http, "/RES.PHP").await.status, 404);
    assert_eq!(get(binary.http, "/res.php/").await.status, 404);
    assert_eq!(request(binary.http, "DELETE", "/res.php", &[], b"").await.expect("an answer").status, 405);
    binary.stop().await;
}

/// Clients that stop in the middle, each in its own way: none holds its connection longer than it may.
#[tokio::test]
async fn nobody_holds_a_connection_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = certificate(folder.path());
    let environment = [
        ("CAPGATE_TLS_CERT".to_owned(), folder.path().join("cert.pem").display().to_string()),
        ("CAPGATE_TLS_KEY".to_owned(), folder.path().join("key.pem").display().to_string()),
        ("CAPGATE_LIMITS_HEADER_TIMEOUT_MS".to_owned(), "300".to_owned()),
        ("CAPGATE_LIMITS_BODY_TIMEOUT_MS".to_owned(), "300".to_owned()),
        ("CAPGATE_LIMITS_WRITE_TIMEOUT_MS".to_owned(), "300".to_owned()),
        ("CAPGATE_LIMITS_IDLE_TIMEOUT_MS".to_owned(), "1000".to_owned()),
    ];
    let mut binary = Binary::start("run", &[sandbox(), environment.to_vec()].concat()).await;
    let connect = async || TcpStream::connect(binary.http).await.expect("a connection");
    // Says nothing; half a header; half a body; half a preface; an HTTP/2 handshake and nothing, clear and over TLS.
    let _silent = connect().await;
    let mut kept = Vec::new();
    let head = "POST /in.php HTTP/1.1\r\nHost: x\r\n";
    for begun in [head, &format!("{head}Content-Length: 9\r\n\r\nhalf"), "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = connect().await;
        stream.write_all(begun.as_bytes()).await.expect("written");
        kept.push(stream);
    }
    let _tls = tls_connect(binary.https.expect("HTTPS"), certified.cert.der().clone(), b"h2").await;
    // Asks without end and reads nothing, until the server takes no more.
    for ask in [
        "OPTIONS /in.php HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /res.php?key=K&action=get&id=x HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut deaf = connect().await;
        let many = ask.repeat(1_000);
        let pour = async { while deaf.write_all(many.as_bytes()).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3), pour).await;
        kept.push(deaf);
    }
    let mut metrics = String::new();
    for _ in 0..1_000 {
        metrics = binary.metrics().await;
        if metrics.contains("capgate_connections 0\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(metrics.contains("capgate_connections 0\n"), "{metrics}");
    drop(kept);
    binary.stop().await;
}

#[tokio::test]
async fn the_shortest_requests_are_answered() {
    let mut binary = Binary::start("run", &sandbox()).await;
    let live = raw(binary.admin.expect("admin"), b"GET /livez HTTP/1.0\r\n\r\n").await.expect("an answer");
    assert!(live.ends_with("live\n"), "{live}");
    let nothing = raw(binary.http, b"GET / HTTP/1.0\r\n\r\n").await.expect("an answer");
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    binary.stop().await;
}

#[tokio::test]
async fn bodies_past_their_common_bound_are_put_off() {
    let environment = [("CAPGATE_LIMITS_BODIES_BYTES_MAX".to_owned(), "1048576".to_owned())];
    let mut binary = Binary::start("run", &[sandbox(), environment.to_vec()].concat()).await;
    let body = vec![b'a'; 1_500_000];
    let told = request(binary.http, "POST", "/in.php?key=K", &[], &body).await.expect("an answer");
    assert_eq!(told.body, b"ERROR_NO_SLOT_AVAILABLE");
    // What was held is given back.
    let told =
        request(binary.http, "POST", "/in.php?key=K&method=base64", &[], &body[..1_000_000]).await.expect("an answer");
    assert_eq!(told.body, b"ERROR_UPLOAD");
    binary.stop().await;
}

/// A certificate for localhost, in a folder.
fn certificate(folder: &std::path::Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), certified.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), certified.signing_key.serialize_pem()).expect("written");
    certified
}

#[tokio::test]
async fn http2_is_spoken_in_the_clear() {
    let mut binary = Binary::start("run", &sandbox()).await;
    let stream = TcpStream::connect(binary.http).await.expect("a connection");
    assert_eq!(h2_get(stream, "http").await, (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));
    binary.stop().await;
}

#[tokio::test]
async fn https_is_served_with_http1_and_http2_and_used_upstream_with_the_certificate_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let certified = certificate(folder.path());
    let tls = |more: &[(&str, String)]| {
        let mut environment = sandbox();
        environment.push(("CAPGATE_TLS_CERT".to_owned(), path("cert.pem")));
        environment.push(("CAPGATE_TLS_KEY".to_owned(), path("key.pem")));
        environment.extend(more.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        environment
    };
    let mut far = Binary::start("run", &tls(&[])).await;
    let https = far.https.expect("an HTTPS listener");
    for (alpn, expected) in [(&b"http/1.1"[..], "1"), (b"h2", "2")] {
        let stream = tls_connect(https, certified.cert.der().clone(), alpn).await;
        let told = if expected == "2" {
            h2_get(stream, "https").await
        } else {
            let mut stream = stream;
            let ask = b"GET /res.php?key=K&action=get&id=x HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(ask).await.expect("written");
            let told = read_response(&mut stream).await.expect("an answer");
            (told.status, told.body)
        };
        assert_eq!(told, (200, b"ERROR_WRONG_ID_FORMAT".to_vec()));
    }

    // The far gateway knows no native call, but that it answers at all, with a 404, shows a verified connection: a call
    // that was surely not accepted. Without the certificate there is no connection to begin with.
    let url = format!("https://localhost:{}", https.port());
    for (ca_file, result) in [(path("cert.pem"), "unusable"), (String::new(), "connect")] {
        let more = [("CAPGATE_UPSTREAM_URL", url.clone()), ("CAPGATE_UPSTREAM_CA_FILE", ca_file)];
        let mut near = Binary::start("run", &tls(&more)).await;
        let told = request(near.http, "GET", "/res.php?key=K&action=getbalance", &[], b"").await.expect("an answer");
        assert_eq!(told.body, b"ERROR_NO_SLOT_AVAILABLE");
        let metrics = near.metrics().await;
        let counted = format!("capgate_upstream_calls_total{{endpoint=\"getBalance\",result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&counted), "{metrics}");
        near.stop().await;
    }
    far.stop().await;
}

async fn h2_get(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
) -> (u16, Vec<u8>) {
    let (send, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let mut send = send.ready().await.expect("a connection");
    let target = format!("{scheme}://localhost/res.php?key=K&action=get&id=x");
    let (response, _) = send.send_request(http::Request::get(target).body(()).expect("a request"), true).expect("sent");
    let response = response.await.expect("an answer");
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        bytes.extend_from_slice(&chunk.expect("a chunk"));
    }
    (status, bytes)
}

async fn tls_connect(
    address: std::net::SocketAddr,
    trusted: tokio_rustls::rustls::pki_types::CertificateDer<'static>,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let provider = std::sync::Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = connector.connect(name, stream).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
    stream
}
