//! HTTP/1 requests that servers read in different ways, with the verdict that RFC 9110 and RFC 9112 ask for. Generated
//! from a table of dimensions: each group varies one part of a request that is otherwise ordinary.

/// What a server must do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Serve it as verb, target and body, and keep the connection.
    Served(String),
    /// Serve it, and close the connection.
    ServedLast(String),
    /// Refuse it, and close the connection.
    Refused,
    /// Refuse it, or serve it as this: the RFC leaves both to the server.
    Either(String),
    /// Wait for more bytes.
    Awaited,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The dimension and its value.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

/// What is expected of a value.
#[derive(Clone, Copy)]
enum Wanted {
    Served,
    Last,
    Refused,
    Either,
    Awaited,
}

use Wanted::{Awaited, Either, Last, Refused, Served};

/// The cases under construction.
#[derive(Default)]
struct Corpus(Vec<Case>);

impl Corpus {
    /// Adds a request. `echo` is its verb, target and body, if it is served. A character up to U+00FF is one byte.
    fn add(&mut self, dimension: &str, request: &str, wanted: Wanted, echo: &str) {
        let shown: String = request.chars().take(120).flat_map(char::escape_default).collect();
        let echo = echo.to_owned();
        self.0.push(Case {
            name: format!("{dimension}: {shown}"),
            bytes: request.chars().map(|character| u8::try_from(u32::from(character)).expect("one byte")).collect(),
            expected: match wanted {
                Served => Expected::Served(echo),
                Last => Expected::ServedLast(echo),
                Refused => Expected::Refused,
                Either => Expected::Either(echo),
                Awaited => Expected::Awaited,
            },
        });
    }

    /// A request with this request line.
    fn line(&mut self, line: &str, wanted: Wanted, echo: &str) {
        self.add("line", &format!("{line}\r\nHost: x\r\n\r\n"), wanted, echo);
    }

    /// A GET with this target.
    fn target(&mut self, target: &str, wanted: Wanted) {
        let mut seen = target.split('#').next().unwrap_or_default().to_owned();
        if seen.ends_with('?') && !seen.contains("??") {
            seen.pop();
        }
        for (character, encoded) in [(" ", "%20"), ("\"", "%22"), ("<", "%3C"), (">", "%3E"), ("`", "%60")] {
            seen = seen.replace(character, encoded);
        }
        self.add("target", &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), wanted, &format!("GET {seen} "));
    }

    /// A GET with these header lines, which contain their line ends.
    fn headers(&mut self, lines: &str, wanted: Wanted) {
        self.add("headers", &format!("GET /a?b=1 HTTP/1.1\r\n{lines}\r\n"), wanted, "GET /a?b=1 ");
    }

    /// A POST whose body `hello` is framed by these header lines.
    fn framing(&mut self, version: &str, lines: &str, wanted: Wanted) {
        self.add("framing", &format!("POST /a {version}\r\nHost: x\r\n{lines}\r\nhello"), wanted, "POST /a hello");
    }

    /// A POST with these header lines and the body `hello` as one chunk.
    fn coding(&mut self, version: &str, lines: &str, wanted: Wanted) {
        let body = "5\r\nhello\r\n0\r\n\r\n";
        self.add("coding", &format!("POST /a {version}\r\nHost: x\r\n{lines}\r\n{body}"), wanted, "POST /a hello");
    }

    /// A POST with this chunked body, which reads `hello` if it is served.
    fn chunks(&mut self, body: &str, wanted: Wanted) {
        let head = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.add("chunks", &format!("{head}{body}"), wanted, "POST /a hello");
    }
}

/// Returns all cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut corpus = Corpus::default();
    methods(&mut corpus);
    request_lines(&mut corpus);
    targets(&mut corpus);
    hosts(&mut corpus);
    header_lines(&mut corpus);
    connections(&mut corpus);
    content_lengths(&mut corpus);
    transfer_codings(&mut corpus);
    chunk_sizes(&mut corpus);
    chunk_lines(&mut corpus);
    chunk_ends(&mut corpus);
    trailers(&mut corpus);
    other_protocols(&mut corpus);
    corpus.0
}

/// Characters that no token contains (RFC 9110, section 5.6.2), white space and colon aside.
const NO_TOKEN: &str = "\"(),/;<=>?@[\\]{}\0\x01\x7f\u{80}\u{ff}";

fn methods(corpus: &mut Corpus) {
    for method in [
        "GET",
        "POST",
        "OPTIONS",
        "PUT",
        "DELETE",
        "PATCH",
        "PROPFIND",
        "M-SEARCH",
        "PRINT",
        "PRI",
        "get",
        "G!#$%&'*+-.^_`|~9",
    ] {
        corpus.line(&format!("{method} /a HTTP/1.1"), Served, &format!("{method} /a "));
    }
    corpus.line("HEAD /a HTTP/1.1", Served, "HEAD /a ");
    // These ask for more than a response (reliability: refused).
    for line in ["CONNECT x:80 HTTP/1.1", "CONNECT /a HTTP/1.1", "TRACE /a HTTP/1.1"] {
        corpus.line(line, Refused, "");
    }
    for character in NO_TOKEN.chars() {
        corpus.line(&format!("G{character}T /a HTTP/1.1"), Refused, "");
    }
    corpus.line(&format!("{} /a HTTP/1.1", "G".repeat(10_000)), Either, &format!("{} /a ", "G".repeat(10_000)));
    for prefix in [" ", "\t", "\0", "\u{ef}\u{bb}\u{bf}", ":"] {
        corpus.line(&format!("{prefix}GET /a HTTP/1.1"), Refused, "");
    }
    // A server should ignore one empty line, and may ignore more (RFC 9112, section 2.2).
    for prefix in ["\r\n", "\n", "\r\n\r\n", "\r\n\n"] {
        corpus.line(&format!("{prefix}GET /a HTTP/1.1"), Either, "GET /a ");
    }
    for prefix in ["\r", "\n\r", "\r\n ", "x\r\n"] {
        corpus.line(&format!("{prefix}GET /a HTTP/1.1"), Refused, "");
    }
}

fn request_lines(corpus: &mut Corpus) {
    for version in [
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/0.9",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.1.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1,1",
        "HTTP/1_1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/1.1x",
        "HTTP/1.1;a",
        "HTTP/1.1\0",
        "HTTP/1.1,",
        "HTTP 1.1",
        "HTTP1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "XTTP/1.1",
        "HTTP//1.1",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "RTSP/1.0",
        "SIP/2.0",
        "ICY",
        "1.1",
        "HTTP/\u{b9}.1",
        "HTTP/1.1#a",
        "HTTP/a.b",
        "HTTP/0x1.1",
        "HTTP/1.1\u{a0}",
    ] {
        // A later minor version may be served as 1.1 (RFC 9110, section 2.5); we refuse it.
        corpus.line(&format!("GET /a {version}"), Refused, "");
    }
    corpus.line("GET /a HTTP/1.0", Last, "GET /a ");
    // White space other than single spaces may separate the words (RFC 9112, section 3).
    for (line, target) in
        [("GET  /a HTTP/1.1", "%20/a"), ("GET /a  HTTP/1.1", "/a%20"), ("GET /a HTTP/1.1 HTTP/1.1", "/a%20HTTP/1.1")]
    {
        corpus.line(line, Either, &format!("GET {target} "));
    }
    for line in [
        "GET /a HTTP/1.1 ",
        "GET\t/a HTTP/1.1",
        "GET /a\tHTTP/1.1",
        "GET /a HTTP/1.1\t",
        "GET\x0b/a HTTP/1.1",
        "GET\x0c/a HTTP/1.1",
        "GET\r/a HTTP/1.1",
        "GET /a\rHTTP/1.1",
        "GET\t \t/a HTTP/1.1",
    ] {
        corpus.line(line, Either, "GET /a ");
    }
    for line in [
        "GET",
        "GET ",
        "GET /a",
        "GET /a ",
        "GET HTTP/1.1",
        "/a HTTP/1.1",
        "HTTP/1.1",
        "GET/a HTTP/1.1",
        "GET /aHTTP/1.1",
    ] {
        corpus.line(line, Refused, "");
    }
    // HTTP/0.9 has neither version nor headers.
    corpus.add("line", "GET /a\r\n", Awaited, "");
    corpus.add("line", "GET /a\r\n\r\n", Refused, "");
    corpus.add("line", "GET /a\n\n", Refused, "");
    corpus.add("line", "\r\n\r\n\r\n\r\n", Awaited, "");
    // A bare line feed may end a line, a bare carriage return never does (RFC 9112, section 2.2).
    for (ends, wanted) in [("\n", Either), ("\r", Awaited), ("\n\r", Refused), ("\r\r\n", Awaited), ("\0\r\n", Awaited)]
    {
        corpus.add("line end", &format!("GET /a HTTP/1.1{ends}Host: x{ends}{ends}"), wanted, "GET /a ");
    }
    for request in
        ["GET /a HTTP/1.1\nHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nHost: x\n\r\n", "GET /a HTTP/1.1\r\nHost: x\r\n\n"]
    {
        corpus.add("line end", request, Either, "GET /a ");
    }
    for request in ["GET /a HTTP/1.1\rHost: x\r\n\r\n", "GET /a HTTP/1.1\r\nHost: x\rA: b\r\n\r\n"] {
        corpus.add("line end", request, Refused, "");
    }
}

fn targets(corpus: &mut Corpus) {
    for target in [
        "/",
        "//a",
        "///",
        "/a?",
        "/a??",
        "/a?b=1&b=2",
        "/a/../b",
        "/./a",
        "/%2e%2e/a",
        "/%00",
        "/%",
        "/%zz",
        "/a;b",
        "/a:b@c",
        "/a%0d%0ab",
        "/?%20HTTP/1.1",
        "/a&b",
        "/a!$'()*+,;=",
        "/a~",
        "/A",
        "/a//b",
        "/\\a",
        "/http://y/",
        "/a=b",
        "/%25%30%30",
    ] {
        corpus.target(target, Served);
    }
    // Not URIs, but sent by clients such as curl; they stand for themselves in every server that takes them.
    for character in "<>\"{}|\\^`\u{80}\u{e9}\u{ff}".chars() {
        corpus.target(&format!("/a{character}b"), Either);
        corpus.target(&format!("/a?{character}b"), Either);
    }
    for target in ["/#a", "/a#", "/a?b#c", "/a?b#c?d", "/a?#"] {
        corpus.target(target, Either);
    }
    corpus.target("/a b", Either);
    corpus.target("/a?b c", Either);
    for character in ('\0'..=' ').filter(|character| !"\t\n\r ".contains(*character)).chain(['\x7f']) {
        corpus.target(&format!("/a{character}b"), Refused);
    }
    corpus.target("/a\tb", Either);
    corpus.target("/a\rb", Either);
    corpus.target("/a\nb", Refused);
    for target in
        ["*", "a", "a/b", "?a", "#a", "x:80", "@", "../a", ".", "%2fa", "\\a", "\u{2f}\u{2f}".trim_start_matches('/')]
    {
        corpus.target(target, Refused);
    }
    // Every server must accept the absolute form (RFC 9112, section 3.2.2). We are no proxy and refuse it on purpose:
    // no client sends it, and a host in two places has two meanings.
    for target in [
        "http://x/a",
        "https://x/a",
        "HTTP://x/a",
        "http://x",
        "http://y/a",
        "http://u@x/a",
        "http:///a",
        "ftp://x/a",
        "http:/a",
    ] {
        corpus.target(target, Refused);
    }
    corpus.add("target", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Either, "OPTIONS * ");
    for length in [8_000, 16_000] {
        corpus.target(&format!("/{}", "a".repeat(length)), Served);
    }
    for length in [17_000, 40_000] {
        corpus.target(&format!("/{}", "a".repeat(length)), Refused);
    }
}

fn hosts(corpus: &mut Corpus) {
    for host in [
        "x",
        "x:80",
        "x:",
        "x.y",
        "127.0.0.1",
        "[::1]",
        "[::1]:80",
        "",
        "a_b",
        "a-b.c.",
        "X",
        "%41",
        "a,b",
        "a;b",
        "2captcha.com",
        "!$&'()*+=~",
    ] {
        corpus.headers(&format!("Host: {host}\r\n"), Served);
    }
    // A server must refuse an invalid host (RFC 9112, section 3.2).
    for host in [
        "a b", "a/b", "/", "u@x", "@", "http://x", "a?b", "a#b", "a\\b", "a\"b", "<x>", "a^b", "{x}", "a|b", "a`b",
        "a\u{e9}", "a\tb", "x:80 y",
    ] {
        corpus.headers(&format!("Host: {host}\r\n"), Refused);
    }
    for lines in ["", "A: b\r\n", "Hos: x\r\n", "Hosts: x\r\n", "X-Host: x\r\n"] {
        corpus.headers(lines, Refused);
    }
    for lines in [
        "Host: x\r\nHost: x\r\n",
        "Host: x\r\nHost: y\r\n",
        "Host: x\r\nhost: x\r\n",
        "Host: x\r\nA: b\r\nHost: x\r\n",
        "Host: x\r\nHost:\r\n",
        "Host : x\r\n",
        "Host\t: x\r\n",
        " Host: x\r\n",
        "\tHost: x\r\n",
        "Host\0: x\r\n",
        "Host:\r\n x\r\n",
        "Ho st: x\r\n",
    ] {
        corpus.headers(lines, Refused);
    }
    for lines in
        ["HOST: x\r\n", "hOsT:x\r\n", "Host:\t x \t\r\n", "A: b\r\nHost: x\r\n", "Host: x\r\nX-Forwarded-Host: y\r\n"]
    {
        corpus.headers(lines, Served);
    }
    corpus.add("host", "GET /a HTTP/1.0\r\n\r\n", Last, "GET /a ");
    corpus.add("host", "GET /a HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", Refused, "");
    corpus.add("host", "GET /a HTTP/1.0\r\nHost: a b\r\n\r\n", Refused, "");
}

fn header_lines(corpus: &mut Corpus) {
    for character in NO_TOKEN.chars().chain([' ', '\t', '\r', '\n', '\x0b', '\u{a0}']) {
        corpus.headers(&format!("Host: x\r\nA{character}B: c\r\n"), Refused);
    }
    for character in "!#$%&'*+-.^_`|~9".chars() {
        corpus.headers(&format!("Host: x\r\nA{character}B: c\r\n"), Served);
    }
    for line in [
        ": a", ":", "a", "a b", "=", " ", "\t", "\0", "A : b", "A\t: b", " A: b", "\tA: b", " folded", "A", "\x0bA: b",
        "A\r: b",
    ] {
        corpus.headers(&format!("Host: x\r\n{line}\r\n"), Refused);
        corpus.headers(&format!("Host: x\r\nA: b\r\n{line}\r\nC: d\r\n"), Refused);
    }
    for line in
        ["A:", "A: ", "A:b", "A: b ", "A:\tb\t", "A: :", "A: b: c", "A: \"b", "A: b,,c", "A: \u{80}\u{ff}", "A: b\tc"]
    {
        corpus.headers(&format!("Host: x\r\n{line}\r\n"), Served);
    }
    // NUL, CR and LF are refused or replaced (RFC 9110, section 5.5), other controls may be kept.
    for character in ('\x01'..=' ').filter(|character| !"\t\n\r ".contains(*character)).chain(['\x7f']) {
        corpus.headers(&format!("Host: x\r\nA: b{character}c\r\n"), Either);
    }
    for line in ["A: b\0c", "A: b\rc", "A: b\r\r", "A: \0", "A: b\n c", "A: b\r\n\tc"] {
        corpus.headers(&format!("Host: x\r\n{line}\r\n"), Refused);
    }
    for count in [10, 30, 31, 32, 33, 60, 63] {
        corpus.headers(&format!("Host: x\r\n{}", "A: b\r\n".repeat(count)), Served);
    }
    for count in [64, 65, 100, 1_000] {
        corpus.headers(&format!("Host: x\r\n{}", "A: b\r\n".repeat(count)), Refused);
    }
    for (bytes, wanted) in [(1_000, Served), (8_000, Served), (30_000, Served), (33_000, Refused), (60_000, Refused)] {
        corpus.headers(&format!("Host: x\r\nA: {}\r\n", "b".repeat(bytes)), wanted);
    }
    corpus.headers(&format!("Host: x\r\n{}: b\r\n", "A".repeat(5_000)), Served);
    corpus.headers(&format!("Host: x\r\n{}: b\r\n", "A".repeat(70_000)), Refused);
    for lines in [
        "Content-Type: a/b\r\n",
        "Content-Type:\r\n",
        "Content-Type: a/b\r\nContent-Type: c/d\r\n",
        "Content-Encoding: gzip\r\n",
        "Cookie: a\r\nCookie: b\r\n",
        "TE: trailers\r\n",
        "TE: chunked\r\n",
        "Trailer: Host\r\n",
        "Max-Forwards: 0\r\n",
        "Range: bytes=0-0\r\n",
        "X-HTTP-Method-Override: DELETE\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: 5\r\n",
        "X-Transfer-Encoding: chunked\r\n",
        "Content-Length2: 5\r\n",
        "Content-Lengt: 5\r\n",
        "X-Original-URL: /b\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "Forwarded: host=y\r\n",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    ] {
        corpus.headers(&format!("Host: x\r\n{lines}"), Served);
    }
}

fn connections(corpus: &mut Corpus) {
    for option in [
        "close",
        "Close",
        "CLOSE",
        " close ",
        "close,",
        "close, x",
        "x, close",
        "keep-alive, close",
        "close, keep-alive",
        "close\r\nConnection: keep-alive",
        "keep-alive\r\nConnection: close",
        "te, close",
        "x,close",
    ] {
        corpus.headers(&format!("Host: x\r\nConnection: {option}\r\n"), Last);
    }
    for option in [
        "keep-alive",
        "Keep-Alive",
        "",
        "x",
        "closed",
        "close-x",
        "xclose",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "TE",
        "upgrade",
        "keep-alive\r\nConnection: x",
        "keep-alive, x",
    ] {
        corpus.headers(&format!("Host: x\r\nConnection: {option}\r\n"), Served);
    }
    for (option, wanted) in
        [("keep-alive", Served), ("close", Last), ("x", Last), ("Keep-Alive", Served), ("keep-alive, close", Last)]
    {
        let request = format!("GET /a HTTP/1.0\r\nHost: x\r\nConnection: {option}\r\n\r\n");
        corpus.add("connection 1.0", &request, wanted, "GET /a ");
    }
    corpus.headers("Host: x\r\nProxy-Connection: close\r\n", Served);
    corpus.headers("Host: x\r\nKeep-Alive: timeout=0\r\n", Served);
    // The offer of h2c is ignored. Other protocols may be ignored (RFC 9110, section 7.8); we refuse them.
    for offer in ["h2c", "H2C"] {
        corpus.headers(&format!("Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\n"), Served);
    }
    for offer in ["websocket", "h2c, websocket", "TLS/1.0", "HTTP/2.0", "", "h2"] {
        corpus.headers(&format!("Host: x\r\nConnection: Upgrade\r\nUpgrade: {offer}\r\n"), Either);
    }
    for expect in ["100-continue", "100-Continue", " 100-continue "] {
        corpus.framing("HTTP/1.1", &format!("Content-Length: 5\r\nExpect: {expect}\r\n"), Served);
        corpus.coding("HTTP/1.1", &format!("Transfer-Encoding: chunked\r\nExpect: {expect}\r\n"), Served);
        corpus.headers(&format!("Host: x\r\nExpect: {expect}\r\n"), Served);
        corpus.coding("HTTP/1.0", &format!("Transfer-Encoding: chunked\r\nExpect: {expect}\r\n"), Refused);
        let chunked = format!("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: {expect}\r\n\r\n");
        // The first of the body is malformed, or something behind it; the response may follow an interim one.
        for body in ["x", "1;a=\x01\r\na\r\n0\r\n\r\n", "5\r\nhello\n", "5\r\nhello\r\n0\r\na\r\n"] {
            corpus.add("expect", &format!("{chunked}{body}"), Refused, "");
        }
        let empty = format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: {expect}\r\n\r\n");
        corpus.add("expect", &empty, Served, "POST /a ");
    }
    // An unknown expectation may be answered with 417 (RFC 9110, section 10.1.1).
    for expect in [
        "",
        "x",
        "200-ok",
        "100-continue, x",
        "100-continue;a=b",
        "x\r\nExpect: 100-continue",
        "100-continue\r\nExpect: 100-continue",
    ] {
        corpus.framing("HTTP/1.1", &format!("Content-Length: 5\r\nExpect: {expect}\r\n"), Either);
    }
    corpus.framing("HTTP/1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", Last);
    let unexpected = "Expect: 100-continue\r\nContent-Length: 5\r\nContent-Length: 5\r\n";
    corpus.framing("HTTP/1.1", unexpected, Refused);
}

fn content_lengths(corpus: &mut Corpus) {
    for value in ["5", "05", "005", "00000000000000000000005", "\t5", "5\t", "  5  ", "5 "] {
        corpus.framing("HTTP/1.1", &format!("Content-Length: {value}\r\n"), Served);
        corpus.framing("HTTP/1.0", &format!("Content-Length: {value}\r\n"), Last);
    }
    let invalid = [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "5.0",
        "5e0",
        "0x5",
        "0b101",
        "5 5",
        "5;a",
        "5a",
        "a5",
        "a",
        "'5'",
        "\"5\"",
        "5\0",
        "\x005",
        "5\x0b",
        "\x0b5",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5,6",
        "6,5",
        "99999999999999999999",
        "18446744073709551621",
        "\u{b5}",
        "5\u{a0}",
        "\u{a0}5",
        "NaN",
        "5_0",
        "1 5",
        "5-5",
        "(5)",
        "5#",
    ];
    for value in invalid {
        corpus.framing("HTTP/1.1", &format!("Content-Length: {value}\r\n"), Refused);
        corpus.framing("HTTP/1.1", &format!("Content-Length: 5\r\nContent-Length: {value}\r\n"), Refused);
    }
    for value in ["", "+5", "5,5", "5 5", "0x5", "-5"] {
        corpus.framing("HTTP/1.0", &format!("Content-Length: {value}\r\n"), Refused);
        corpus.add(
            "framing",
            &format!("GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: {value}\r\n\r\nhello"),
            Refused,
            "",
        );
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "content-length: 5\r\nCONTENT-LENGTH: 5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\t: 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length:\r\n 5\r\n",
        "Content-Length: 5\r\n 0\r\n",
        "Content-Length\0: 5\r\n",
        "Content-Length: 5\rX: 1\r\n",
        "Content-Length: 5\n",
        "X: 1\nContent-Length: 5\r\n",
        "X: 1\rContent-Length: 5\r\n",
        "Content Length: 5\r\n",
    ] {
        corpus.framing("HTTP/1.1", lines, Refused);
    }
    corpus.add("framing", "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", Served, "GET /a hello");
    corpus.add(
        "framing",
        "OPTIONS /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        Served,
        "OPTIONS /a hello",
    );
    corpus.add("framing", "HEAD /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", Served, "HEAD /a hello");
    corpus.add("framing", "POST /a HTTP/1.1\r\nHost: x\r\n\r\n", Served, "POST /a ");
    corpus.add("framing", "POST /a HTTP/1.0\r\nHost: x\r\n\r\n", Last, "POST /a ");
    corpus.add("framing", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Served, "POST /a ");
    corpus.add("framing", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nhello", Awaited, "");
    // A body that looks like a request.
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len();
    let outer = format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{inner}");
    corpus.add("framing", &outer, Served, &format!("POST /a {inner}"));
}

fn transfer_codings(corpus: &mut Corpus) {
    for value in ["chunked", "Chunked", "CHUNKED", " chunked", "chunked ", "\tchunked\t"] {
        corpus.coding("HTTP/1.1", &format!("Transfer-Encoding: {value}\r\n"), Served);
        // RFC 9112, section 6.1: a sign of a request that was tampered with.
        corpus.coding("HTTP/1.0", &format!("Transfer-Encoding: {value}\r\n"), Refused);
        corpus.coding("HTTP/1.1", &format!("Content-Length: 5\r\nTransfer-Encoding: {value}\r\n"), Refused);
        corpus.coding("HTTP/1.1", &format!("Transfer-Encoding: {value}\r\nContent-Length: 15\r\n"), Refused);
    }
    for value in [
        "",
        " ",
        "x",
        "gzip",
        "identity",
        "deflate",
        "compress",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "chunked;",
        "xchunked",
        "chunkedx",
        "chunke",
        "\"chunked\"",
        "'chunked'",
        "chunked\0",
        "\0chunked",
        "chunked\x0b",
        "\x0bchunked",
        "chun ked",
        "chunked chunked",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "chunked\x7f",
        "Chunked/1.1",
        "chunked q=1",
        "trailers",
    ] {
        corpus.coding("HTTP/1.1", &format!("Transfer-Encoding: {value}\r\n"), Refused);
        corpus.coding("HTTP/1.1", &format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {value}\r\n"), Refused);
        corpus.coding("HTTP/1.1", &format!("Content-Length: 15\r\nTransfer-Encoding: {value}\r\n"), Refused);
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: chunked\r\n ,x\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "X: 1\nTransfer-Encoding: chunked\r\n",
        "X: 1\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\n",
        "Transfer-Encoding: chunked\r\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\rX: 1\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
    ] {
        corpus.coding("HTTP/1.1", lines, Refused);
    }
    for verb in ["GET", "OPTIONS", "PUT", "HEAD"] {
        let request =
            format!("{verb} /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        corpus.add("coding", &request, Served, &format!("{verb} /a hello"));
    }
}

fn chunk_sizes(corpus: &mut Corpus) {
    for size in [
        "5",
        "05",
        "0000000000000005",
        "5;",
        "5;a",
        "5;a=b",
        "5;a=\"b\"",
        "5;a;b",
        "5;a=b;c=d",
        "5 ;a",
        "5\t;a",
        "5; a = b",
        "5;a=\"b;c\"",
        "5;a=\"\\\"\"",
    ] {
        let wanted = if size == "5;" { Either } else { Served };
        corpus.chunks(&format!("{size}\r\nhello\r\n0\r\n\r\n"), wanted);
        corpus.chunks(&format!("5\r\nhello\r\n{}\r\n\r\n", size.replace('5', "0")), wanted);
    }
    for size in [
        "",
        " ",
        "+5",
        "-5",
        "0x5",
        "5h",
        "h",
        "g",
        "5.0",
        "5,",
        "5 5",
        " 5",
        "\t5",
        "5=",
        "5:",
        "'5'",
        "\x005",
        "5\0",
        "5\x0b",
        "\u{b5}",
        "00000000000000005",
        "FFFFFFFFFFFFFFFF",
        "10000000000000005",
        "5\u{a0}",
        "_5",
        "5_",
        ";",
        ";a",
        "5 a",
        "5\ta",
        "5a5g",
        "5;\n",
        "5;a\n",
        "5;a\nb",
        "5;\r",
        "5;a\rb",
        "5;\0",
        "5;a\x01",
        "5;a\x7f",
        "5;a=\"\n\"",
        "5;a\n\r\n0\r\n",
        "5\n",
        "5\r",
        "5\r\r",
        "\r\n5",
        "\n5",
        "5 \n",
        "5\n;a",
    ] {
        corpus.chunks(&format!("{size}\r\nhello\r\n0\r\n\r\n"), Refused);
    }
    for size in [
        "",
        " ",
        "-0",
        "+0",
        "0x0",
        "0h",
        "00000000000000000",
        " 0",
        "0\0",
        "0;\n",
        "0;a\nb",
        "0\n",
        "0\r",
        ";",
        ";a",
        "0 0",
        "0,",
    ] {
        corpus.chunks(&format!("5\r\nhello\r\n{size}\r\n\r\n"), Refused);
    }
}

fn chunk_lines(corpus: &mut Corpus) {
    corpus.chunks("7000000000000005\r\nhello\r\n0\r\n\r\n", Awaited);
    corpus.chunks("5 \r\nhello\r\n0\r\n\r\n", Either);
    corpus.chunks("5\t\r\nhello\r\n0\r\n\r\n", Either);
    corpus.chunks("5\r\nhello\r\n0 \r\n\r\n", Either);
    corpus.chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100)), Served);
    corpus.chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(10_000)), Either);
    corpus.chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a;".repeat(50_000)), Refused);
    corpus.chunks("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Served);
    corpus.0.last_mut().expect("a case").expected = Expected::Served("POST /a 01234567890123456789".to_owned());
}

fn chunk_ends(corpus: &mut Corpus) {
    corpus.chunks("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", Served);
    corpus.chunks("1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n000\r\n\r\n", Served);
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello\n\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\0\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\n\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\r\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
        "hello",
        "hello\r\n\r\n",
        "5\r\nhello\r\n0\r\n \r\n\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        corpus.chunks(body, Refused);
    }
    for body in [
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\n\r",
        "5\r\nhell",
        "5",
        "",
        "5;a",
        "5\r\nhello\r\n0\r\nA: b\r\n",
    ] {
        corpus.chunks(body, Awaited);
    }
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    corpus.chunks(&format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()), Served);
    corpus.0.last_mut().expect("a case").expected = Expected::Served(format!("POST /a {inner}"));
}

fn trailers(corpus: &mut Corpus) {
    for line in [
        "A: b",
        "A:",
        "A: b\r\nC: d",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: y",
        "Connection: close",
        "A: b c\td",
        "A: \u{e9}",
    ] {
        corpus.chunks(&format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n"), Served);
    }
    for line in [
        "a",
        ": b",
        " A: b",
        "\tA: b",
        "A : b",
        "A b: c",
        "A: b\r\n c",
        "A: b\nC: d",
        "A: b\rC: d",
        "A: b\n",
        "A: b\r",
        "A: \0",
        "\0: b",
        "A(: b",
        "\n",
        "\r",
        "GET /smuggled HTTP/1.1",
    ] {
        corpus.chunks(&format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n"), Refused);
    }
    corpus.chunks(&format!("5\r\nhello\r\n0\r\n{}\r\n", "A: b\r\n".repeat(20)), Served);
    corpus.chunks(&format!("5\r\nhello\r\n0\r\n{}\r\n", "A: b\r\n".repeat(20_000)), Refused);
    corpus.chunks(&format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "b".repeat(100_000)), Refused);
}

fn other_protocols(corpus: &mut Corpus) {
    for bytes in [
        "PRI * HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI / HTTP/2.0\r\n\r\n",
        "XPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "EHLO x\r\n\r\n",
        "*1\r\n$4\r\nPING\r\n\r\n",
        "OPTIONS sip:x SIP/2.0\r\n\r\n",
        "{\"id\":1}\r\n\r\n",
        "<?xml version='1.0'?>\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "\u{ff}\u{fe}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "GET /a HTTP/1.1 Host: x\r\n\r\n",
        "get /a http/1.1\r\nhost: x\r\n\r\n",
    ] {
        corpus.add("protocol", bytes, Refused, "");
    }
}
