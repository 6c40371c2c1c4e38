//! `capgate storm`: a load generator for legacy services.
//!
//! This folder plans the load and evaluates it, without I/O and without a clock; [`net`] sends it. All times are
//! relative to the start of the storm.
//!
//! The load is open loop: [`schedule`] fixes when each poll is due before anything is sent, and delays are measured
//! from then. A server that stalls therefore delays every poll that becomes due meanwhile, not only the one in flight.

pub mod delays;
pub mod guard;
pub mod net;
pub mod plan;
pub mod random;
pub mod reply;
mod schedule;
pub mod summary;
pub mod tally;
pub mod upstream_calls;
