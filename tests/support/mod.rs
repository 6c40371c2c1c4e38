//! Shared by the tests: transcripts and their player, the scripted upstream, the capgate process, raw HTTP, and the
//! import graph of the sources.

pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod placeholders;
pub(crate) mod player;
pub(crate) mod process;
pub(crate) mod samples;
pub(crate) mod scripted_upstream;
pub(crate) mod sources;
pub(crate) mod transcript;
pub(crate) mod upstream_reply;
