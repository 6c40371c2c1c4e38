//! The native dialect: uCaptcha's JSON API. Pure: [`call`] writes requests, [`answer`] parses answers, and [`Rate`]
//! parses their rate-limit headers.
//!
//! Every call is `POST /<endpoint>` with a JSON body that contains the key as `clientKey` (uCaptcha, API overview).

pub mod answer;
pub mod call;
mod codes;
mod draft;
mod rate;

pub use answer::Answer;
pub use call::{Call, Endpoint};
pub use codes::MaskedCause;
pub use rate::Rate;
