//! The native dialect: uCaptcha's JSON API. Pure: [`call`] writes requests, [`answer`] reads answers, [`Rate`] what they say of the limit.
//!
//! Every call is `POST /<endpoint>` with a JSON body that holds the key as `clientKey` (uCaptcha, API overview).

pub mod answer;
pub mod call;
mod codes;
mod rate;

pub use answer::Answer;
pub use call::{Call, Endpoint};
pub use rate::Rate;
