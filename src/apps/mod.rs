//! The applications that answer on a listener.

pub mod admin;
pub mod legacy;
pub mod sandbox;
