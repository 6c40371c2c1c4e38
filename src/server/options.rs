//! Options of the server, the same for all listeners.

use std::time::Duration;

/// Sizes, timeouts and connections of all listeners.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// Most bytes of bodies that are being read, over all listeners.
    pub bodies_bytes_max: usize,
    /// Time for a complete header on a new connection, from the first wait for a request.
    pub header_timeout: Duration,
    /// Time for a complete body, from the header.
    pub body_timeout: Duration,
    /// Time for one write to make progress.
    pub write_timeout: Duration,
    /// Time between two requests of a connection, including the header of the second.
    pub idle_timeout: Duration,
    /// Most connections at once, over all listeners that are drained at shutdown.
    pub connections_max: usize,
    /// Time for open connections to finish at shutdown.
    pub drain_timeout: Duration,
}
