//! Replaces the running process by a new one without a failed request. The running process starts its program anew and
//! passes on its listening sockets; once the new process serves, the old one finishes its connections and exits. A new
//! process that cannot start leaves the old one serving (`docs/decisions/0018-upgrade.md`).

pub mod control;
pub mod files;
pub mod predecessor;
pub mod successor;
