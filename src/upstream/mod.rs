//! The HTTP client, on Pingora's connectors: [`client`] sends native calls over pooled connections; `capgate storm`
//! uses [`http`] without a pool.

mod ca_file;
pub mod client;
mod decompress;
mod health;
pub mod http;
mod metrics;
pub mod options;
pub mod resolver;
mod retry_budget;
