//! The HTTP client for the native API, on Pingora's connectors.

pub mod client;
pub mod resolver;
