//! Secrets stay in the process: no output, no core file and no other process shows them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tokio::process::Command;

use crate::support::process::Process;

/// Starts a gateway as a user other than root. Returns it with the id of the user.
async fn start_as_user(folder: &tempfile::TempDir, settings: &[(&str, &str)]) -> (Process, u32) {
    /// The usual id of `nobody`.
    const NOBODY: u32 = 65_534;
    // The build folder may be hidden from other users.
    let binary = folder.path().join("capgate");
    if !binary.exists() {
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("changed");
        std::fs::copy(env!("CARGO_BIN_EXE_capgate"), &binary).expect("copied");
    }
    let own_id = folder.path().metadata().expect("a folder").uid();
    let mut child = Command::new("/bin/sh");
    child.args(["-c", "ulimit -S -c unlimited 2>/dev/null; exec \"$0\" run"]).arg(&binary);
    let id = if own_id == 0 { NOBODY } else { own_id };
    if own_id == 0 {
        child.uid(NOBODY).gid(NOBODY);
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (Process::spawn(child, "run", &settings).await, id)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_neither_dumped_nor_readable_unless_that_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let soft_limit = |process: &Process| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("limits");
        let line =
            limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit of core files");
        line.split_whitespace().next().expect("a soft limit").to_owned()
    };
    // The kernel gives the files of a process to root if no other process of the user may read its memory (proc(5)).
    let owner = |process: &Process| {
        std::fs::metadata(format!("/proc/{}/environ", process.id())).expect("a running process").uid()
    };

    let (mut process, id) = start_as_user(&folder, &[]).await;
    assert_ne!(id, 0);
    assert_eq!((soft_limit(&process).as_str(), owner(&process)), ("0", 0));
    process.signal("QUIT");
    assert_eq!(process.wait().await, Some(0));

    let (mut process, id) = start_as_user(&folder, &[("CAPGATE_SERVER_CORE_DUMPS", "true")]).await;
    assert_eq!(owner(&process), id);
    process.stop().await;
}
