//! Bounds and settings of decoding, set by the configuration.

use crate::domain::Routing;
use crate::methods::Table;

/// Bounds on a request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bounds on the form.
    pub form: FormLimits,
    /// Bounds and settings of submits.
    pub submit: SubmitLimits,
    /// Most ids in one `ids=`.
    pub ids_max: usize,
}

/// Bounds on the form of one request.
#[derive(Clone, Debug)]
pub struct FormLimits {
    /// Most parameters and file parts in query and body together.
    pub pairs_max: usize,
}

/// Bounds and settings of submits.
#[derive(Clone, Debug)]
pub struct SubmitLimits {
    /// Largest image, in bytes after base64 decoding. 2captcha documents 600 kB.
    pub image_bytes_max: usize,
    /// The method table.
    pub table: Table,
    /// Defaults for uCaptcha's own options.
    pub routing: Routing,
}

/// Values of `selectionMode` (uCaptcha, createTask page).
pub const SELECTION_MODES: &[&str] = &["autoCheapest", "autoFastest", "autoMostReliable", "priority"];

/// Whether a text can be the name of a provider. Any other text is refused.
pub fn is_provider_name(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
