//! The captcha-method table: the only place that maps legacy names to native names.
//!
//! A method is a row of data. If data cannot express a conversion, a small function directly below the rows does; it
//! takes neutral [`Value`]s, never a raw form or JSON text. Rows do not define how a parameter is read from a request
//! or written to the wire; [`Kind`] only names its type.
//!
//! | file | content |
//! |---|---|
//! | `row` | the types of a row, and constructors for its parts |
//! | `token`, `recaptcha`, `puzzle`, `clicks`, `image` | the rows, one file per family |
//! | `table` | all rows in order, and the look-up |
//! | `value` | values that pass between the dialects |
//!
//! To add a method, add a row to the file of its family, and add a transcript. A new family also needs an entry in
//! [`METHODS`].

mod clicks;
mod image;
mod puzzle;
mod recaptcha;
mod row;
mod table;
mod token;
mod value;

pub use row::{Certainty, Kind, Method, Need, Param, Solution, TaskType};
pub use table::{METHODS, Table};
pub use value::{Payload, Value, is_true, json_string};
