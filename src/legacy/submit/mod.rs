//! `in.php`: the parameters of a submit, checked against the row of the method table that they select.
//!
//! Everything that can be refused here is refused here, with the legacy service's own code and without an upstream
//! call, because a submit costs money.
//!
//! | file | content |
//! |---|---|
//! | `decode` | the form of a submit → its tasks |
//! | `known` | which parameters a submit may have |
//! | `value` | one parameter → one native value, by its kind |
//! | `media` | images and audio |
//! | `proxy` | the client's proxy |
//! | `text` | URLs, hosts and cookies |

mod decode;
mod known;
mod media;
mod proxy;
mod text;
mod value;

pub(super) use decode::decode;
pub use known::COMMON_PARAMETERS;
pub(super) use known::is_known_parameter;
