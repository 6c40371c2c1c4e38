//! What the tests share: transcripts, the scripted upstream, the real binary.

pub(crate) mod binary;
pub(crate) mod http;
pub(crate) mod play;
pub(crate) mod sources;
pub(crate) mod transcript;
