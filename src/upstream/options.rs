//! Options of the upstream client.

use std::time::Duration;

use url::Url;

/// Timeouts, bounds and address of the upstream client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base address.
    pub url: Url,
    /// CA certificates in PEM, instead of the system's.
    pub ca_file: Option<String>,
    /// Limit for a new connection.
    pub connect_timeout: Duration,
    /// Limit for a whole call other than a submit.
    pub poll_timeout: Duration,
    /// Limit for a whole submit.
    pub submit_timeout: Duration,
    /// How long a connection may stay idle. Below the upstream's own limit, so that few connections die under a submit,
    /// which cannot be repeated.
    pub idle_timeout: Duration,
    /// Most idle connections.
    pub connections_idle_max: usize,
    /// Consecutive calls without an answer that eject an address. More than one, because a call may also fail for
    /// reasons of its own.
    pub eject_failures: u32,
    /// Longest time for which an address is ejected.
    pub eject_max: Duration,
    /// Interval between health checks of an address; `None` without health checks.
    pub health_check: Option<Duration>,
    /// Most bytes of a response body, after decompression.
    pub answer_bytes_max: usize,
}
