//! Configuration: `conf/capgate.toml` and the environment, validated and split into one options struct per owner.
//!
//! | file | subject |
//! |---|---|
//! | `values` | types of values; each rejects what is out of range |
//! | `sections` | keys and defaults, one struct per section of the file |
//! | `environment` | the variables `CAPGATE_<SECTION>_<KEY>`, which override the file |
//! | `method_rows` | `[methods.<name>]`: changed rows of the method table |
//! | `validate` | rules across several keys |
//! | `load` | file and environment → [`Config`] |
//! | `owners` | [`Config`] → the options of each owner |
//!
//! Keys are private to this module: every other part gets its options from a method of [`Config`].

mod environment;
mod error;
mod load;
mod method_rows;
mod owners;
mod sections;
mod validate;
mod values;

pub use error::ConfigError;
pub use load::Config;
