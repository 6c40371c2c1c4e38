//! Core files and tracing: both would show the keys that are in memory.

use rlimit::Resource;

/// Makes sure that a crash leaves no core file and that no other process of the user reads this one's memory. Debuggers
/// and profilers then need root.
///
/// # Errors
/// If the system refuses, as some sandboxes do. Names what was refused.
pub fn forbid() -> Result<(), String> {
    let refuse = |what: &str, error: &dyn std::fmt::Display| format!("core files may contain keys: {what}: {error}");
    let limited = rlimit::setrlimit(Resource::CORE, 0, 0).map_err(|error| refuse("cannot set RLIMIT_CORE", &error));
    // The kernel ignores the limit if it pipes core files to a program (core(5)).
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false).map_err(|error| refuse("cannot clear PR_SET_DUMPABLE", &error))?;
    limited
}
