//! A reply of the scripted upstream. A file of its own, because `fuzz/` compiles the transcript parser without the
//! rest.

#[derive(Clone, Debug)]
pub(crate) enum UpstreamReply {
    /// An HTTP response.
    Response { status: u16, body: Vec<u8> },
    /// The connection closes after the call was sent.
    Reset,
    /// The connection is refused.
    Refused,
    /// These bytes, then the end of the connection. On the wire only, for malformed HTTP.
    Raw(Vec<u8>),
}

impl UpstreamReply {
    /// Status 200 with this body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::Response { status: 200, body: body.as_bytes().to_vec() }
    }
}
