//! Backends of the store: the same suite for each, and the folder of the embedded one under every fault that a restart may
//! meet.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use capgate::domain::{Account, LegacyId};
use capgate::store::backend::{Backend, Change, Place, Space, Value};
use capgate::store::clock::SystemTimes;
use capgate::store::folder::{Folder, Opened};
use capgate::store::memory::MemoryBackend;
use capgate::store::metrics::StoreMetrics;
use capgate::store::snapshot::{FailureSnapshot, NativeIdSnapshot, ReportSnapshot, StateSnapshot, TaskSnapshot};
use capgate::store::{Store, secret_key, settled};
use capgate::telemetry::metrics::MetricsRegistry;

fn open(path: &Path, key_file: Option<&Path>) -> Result<Opened, String> {
    Folder::open(path, key_file, None, StoreMetrics::register(&MetricsRegistry::new()))
}

fn place(space: Space, key: u64) -> Place {
    Place { space, key }
}

fn put(key: u64, text: &str) -> Change {
    let value = Value { expires_unix_ms: 10_000, sealed: text.as_bytes().to_vec() };
    Change { place: place(Space::Tasks, key), value: Some(value) }
}

/// Runs the suite against each backend.
macro_rules! for_each_backend {
    ($($test:ident,)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::MemoryBackend::default()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                let folder = tempfile::tempdir().expect("a folder");
                let opened = super::open(&folder.path().join("store"), None).expect("created");
                super::$test(&opened.backend).await;
            })*
        }
    };
}

for_each_backend! {
    a_value_is_found_in_its_place_alone,
    the_last_of_several_changes_wins,
    a_scan_finds_each_value_once_and_ends_when_asked_to,
    expired_values_are_removed,
}

async fn a_value_is_found_in_its_place_alone(backend: &dyn Backend) {
    for key in [0, 1, u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1] {
        settled(backend.write(vec![put(key, &key.to_string())])).await.expect("written");
    }
    for key in [0, 1, u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1] {
        let found = backend.read(place(Space::Tasks, key)).await.expect("readable");
        assert_eq!(found.as_deref(), Some(key.to_string().as_bytes()));
        assert_eq!(backend.read(place(Space::AcceptedKeys, key)).await, Ok(None));
    }
    assert_eq!(backend.read(place(Space::Tasks, 2)).await, Ok(None));
    assert!(backend.is_available() && backend.trouble().is_none());
}

async fn the_last_of_several_changes_wins(backend: &dyn Backend) {
    let remove = |key| Change { place: place(Space::Tasks, key), value: None };
    let first = backend.write(vec![put(1, "a"), put(2, "a"), put(1, "b"), remove(2)]);
    let second = backend.write(vec![put(3, "a")]);
    let third = backend.write(vec![remove(3), put(2, "c"), remove(9)]);
    for written in [first, second, third] {
        settled(written).await.expect("written");
    }
    let read = async |key| backend.read(place(Space::Tasks, key)).await.expect("readable");
    assert_eq!(read(1).await.as_deref(), Some(&b"b"[..]));
    assert_eq!(read(2).await.as_deref(), Some(&b"c"[..]));
    assert_eq!(read(3).await, None);
}

async fn a_scan_finds_each_value_once_and_ends_when_asked_to(backend: &dyn Backend) {
    let changes = (0..2_500).map(|key| put(key * (u64::MAX / 2_500), "value")).collect();
    settled(backend.write(changes)).await.expect("written");
    let mut found = Vec::new();
    let mut each = |batch: Vec<(u64, Vec<u8>)>| {
        found.extend(batch.into_iter().map(|(key, _)| key));
        true
    };
    backend.scan(Space::Tasks, &mut each).await.expect("scanned");
    found.sort_unstable();
    assert_eq!(found, (0..2_500).map(|key| key * (u64::MAX / 2_500)).collect::<Vec<_>>());
    let mut batches = 0;
    let mut first_only = |_| {
        batches += 1;
        false
    };
    backend.scan(Space::Tasks, &mut first_only).await.expect("scanned");
    assert_eq!(batches, 1);
}

async fn expired_values_are_removed(backend: &dyn Backend) {
    let lasting = Value { expires_unix_ms: u64::MAX, sealed: vec![1] };
    let lasting = Change { place: place(Space::System, 0), value: Some(lasting) };
    settled(backend.write(vec![put(1, "a"), lasting])).await.expect("written");
    backend.expire(11_001);
    for _ in 0..2_000 {
        if backend.read(place(Space::Tasks, 1)).await == Ok(None) {
            assert!(backend.read(place(Space::System, 0)).await.expect("readable").is_some());
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the value stays");
}

fn write_keys(path: &Path, keys: &[&str]) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    std::io::Write::write_all(&mut file, keys.concat().as_bytes()).expect("written");
}

#[tokio::test]
async fn a_store_is_private_and_continues_where_it_ended() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("a/store");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let mut blocks = Vec::new();
    for _ in 0..3 {
        let Opened { backend, cipher, .. } = open(&path, None).expect("opened");
        let store = Store::new(Arc::new(backend), cipher);
        let session = store.begin(SystemTimes::now()).await.expect("begun");
        blocks.push((session.ids.offset, session.ids.block));
        assert_eq!(mode(&path), 0o700);
        for file in std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
    let offset = blocks[0].0;
    assert_eq!(blocks, [(offset, 0), (offset, 2), (offset, 4)]);
}

#[tokio::test]
async fn no_file_of_a_store_contains_a_key_or_an_answer() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("store");
    let Opened { backend, cipher, .. } = open(&path, None).expect("opened");
    let store = Store::new(Arc::new(backend), cipher);
    let task = TaskSnapshot {
        legacy_id: 7,
        account_key: SECRET.to_owned(),
        method: "turnstile".to_owned(),
        upstream: 0,
        native_id: Some(NativeIdSnapshot::Text(SECRET.to_owned())),
        pingback: Some(format!("https://example.com/{SECRET}")),
        state: StateSnapshot::Failed(FailureSnapshot::Code(SECRET.to_owned())),
        report: ReportSnapshot::None,
        expires_unix_ms: u64::MAX,
    };
    settled(store.save_task(&task)).await.expect("written");
    settled(store.save_accepted_key(&Account::new(SECRET).expect("a key"), 0)).await.expect("written");
    assert_eq!(store.load_task(LegacyId(7)).await, Ok(Some(task)));
    let files: Vec<_> =
        std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(files.iter().any(|file| file.ends_with("tasks.sqlite-wal")), "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("readable");
        let has_secret = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!has_secret, "{}", file.display());
    }
}

#[test]
fn an_incomplete_store_is_never_taken_for_a_new_one() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("store");
    let remove = |name: &str| std::fs::remove_file(path.join(name)).expect("removed");
    let reopen = || {
        let opened = open(&path, None);
        opened.map(drop)
    };
    reopen().expect("created");
    let identity = std::fs::read(path.join("capgate.store")).expect("an identity");
    let key = std::fs::read(path.join("capgate.key")).expect("a key");
    for name in ["tasks.sqlite", "capgate.store", "capgate.key"] {
        let kept = std::fs::read(path.join(name)).expect("a file");
        remove(name);
        let error = reopen().expect_err(name);
        assert!(error.contains(name), "{error}, not about {name}");
        std::fs::write(path.join(name), kept).expect("restored");
    }
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path.join("capgate.key"), private).expect("chmod");
    for (identity, expected) in [
        (&b""[..], "not the identity"),
        (b"capgate store\nformat 2\nid x\nkey x\n", "format 2"),
        (&identity[..20], "incomplete"),
    ] {
        std::fs::write(path.join("capgate.store"), identity).expect("written");
        let error = reopen().expect_err(expected);
        assert!(error.contains(expected), "{error}, not {expected}");
    }
    // A creation that a crash has interrupted is finished.
    std::fs::rename(path.join("tasks.sqlite"), path.join("unrelated")).expect("renamed");
    std::fs::write(path.join("capgate.store.new"), &identity).expect("written");
    remove("capgate.store");
    std::fs::write(path.join("tasks.sqlite"), "").expect("written");
    reopen().expect("created");
    assert_eq!(std::fs::read(path.join("capgate.key")).expect("a key"), key);
    reopen().expect("opened again");
}

#[test]
fn only_one_process_uses_a_store() {
    let parent = tempfile::tempdir().expect("a folder");
    let first = open(parent.path(), None).expect("opened");
    let error = open(parent.path(), None).expect_err("in use");
    assert!(error.contains("another process uses this store"), "{error}");
    drop(first);
    open(parent.path(), None).expect("opened");
}

#[test]
fn a_path_that_cannot_be_used_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let file = parent.path().join("file");
    std::fs::write(&file, "").expect("written");
    let path = file.join("store");
    assert!(open(&path, None).expect_err("below a file").starts_with(path.to_str().expect("UTF-8")));
    // A read-only file system; root may write to any other folder.
    let error = open(Path::new("/proc/capgate-store"), None).expect_err("read-only");
    assert!(error.starts_with("/proc/capgate-store: "), "{error}");
    let missing = open(parent.path(), Some(&parent.path().join("no-key"))).expect_err("no key");
    assert!(missing.contains("store.key_file") && missing.contains("no-key"), "{missing}");
}

#[tokio::test]
async fn keys_are_rotated_and_a_missing_one_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let (path, key_file) = (parent.path().join("store"), parent.path().join("keys"));
    let (old, new) = (secret_key::generate().expect("a key"), secret_key::generate().expect("a key"));
    write_keys(&key_file, &[&old]);
    drop(open(&path, Some(&key_file)).expect("created"));
    write_keys(&key_file, &[&new]);
    let error = open(&path, Some(&key_file)).expect_err("the wrong key");
    assert!(error.contains("sealed with key") && !error.contains(old.trim()), "{error}");
    write_keys(&key_file, &[&new, &old]);
    let mut opened = open(&path, Some(&key_file)).expect("opened");
    assert!(opened.folder.has_earlier_keys());
    opened.folder.forget_earlier_keys(opened.cipher.current_key_id()).expect("noted");
    drop(opened);
    write_keys(&key_file, &[&new]);
    assert!(!open(&path, Some(&key_file)).expect("opened").folder.has_earlier_keys());
}
