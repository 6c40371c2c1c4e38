//! The legacy dialect: 2captcha's `in.php` and `res.php`. Pure: bytes in, bytes out.
//!
//! | script | operation | file |
//! |---|---|---|
//! | `in.php` | submit one task: `method=` and its parameters | [`submit`] |
//! | `res.php` | `action=get`, `get2` (with the price), `get` with `ids=` | [`decode`](mod@decode) |
//! | `res.php` | `action=getbalance`, `reportgood`, `reportbad` | [`decode`](mod@decode) |
//!
//! [`decode()`] turns an [`Inbound`](crate::http::Inbound) into a [`Request`]; [`render`] turns the result into a
//! [`Reply`]. Every reply has HTTP status 200, even a refusal, because clients take any other status for a network
//! error (2captcha-python polls on until its timeout, 2captcha-go and 2captcha-ruby give up). `json=1` asks for JSON,
//! and refusals honour it.

pub mod base64;
pub mod codes;
mod decode;
pub mod form;
mod limits;
mod multipart;
mod reply;
mod script;
mod style;
mod submit;

pub use decode::{Request, decode};
pub use form::Form;
pub use limits::{FormLimits, Limits, SELECTION_MODES, SubmitLimits, is_provider_name};
pub use reply::{Reply, render, render_preflight};
pub use script::Script;
pub use style::{Notation, ReplyContext, Style};
pub use submit::COMMON_PARAMETERS;
