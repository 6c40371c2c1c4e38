//! The scripts of the legacy service.

/// One of the two scripts of the legacy service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// `in.php`: submits.
    In,
    /// `res.php`: everything else.
    Res,
}

impl Script {
    /// Finds the script that a path names. Several clients join a base address and a path with a doubled slash, so
    /// extra leading slashes are accepted. Any other deviation is not, so that a filter in front of the gateway reads
    /// the same path.
    pub fn from_path(path: &str) -> Option<Self> {
        if !path.starts_with('/') {
            return None;
        }
        match path.trim_start_matches('/') {
            "in.php" => Some(Self::In),
            "res.php" => Some(Self::Res),
            _ => None,
        }
    }
}
