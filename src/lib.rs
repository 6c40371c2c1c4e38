//! capgate: a compatibility gateway. Downstream it speaks the legacy 2captcha HTTP API (`in.php`, `res.php`), upstream
//! the native uCaptcha JSON API. An integration that was written against 2captcha changes its host name and nothing
//! else.
//!
//! The life of one poll:
//!
//! | step | from → to | where | pure? |
//! |---|---|---|---|
//! | 1 | bytes → [`http::Inbound`] | [`server`] | no |
//! | 2 | `Inbound` → [`legacy::Form`]: the parameters, wherever the client put them | [`legacy::form`] | yes |
//! | 3 | `Form` → [`legacy::Request`]: account, operation, and the style of the reply | [`legacy`] | yes |
//! | 4 | account, id, now → [`ledger::Admit`]: what the ledger decides | [`ledger`] | yes |
//! | 5 | [`domain::TaskRef`] → [`native::Call`], by the leader of a flight | [`native::call`] | yes |
//! | 6 | `Call` → [`native::Answer`], within the budget | [`gateway`], [`upstream`] | no |
//! | 7 | `Answer` → [`domain::Outcome`] or [`domain::Failure`]; settles the record, and every follower gets it | [`native::answer`] | yes |
//! | 8 | outcome and style → [`legacy::Reply`], once per client | [`legacy`] | yes |
//!
//! [`gateway`] connects the steps. `docs/ARCHITECTURE.md` has the map and the invariants.

pub mod apps;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod http;
pub mod json;
pub mod ledger;
pub mod legacy;
pub mod memory;
pub mod methods;
pub mod native;
pub mod process;
pub mod sandbox;
pub mod server;
pub mod store;
pub mod storm;
pub mod telemetry;
pub mod translate;
pub mod upgrade;
pub mod upstream;
pub mod wiring;
