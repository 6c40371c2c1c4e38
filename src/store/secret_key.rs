//! The keys of the [cipher](super::cipher): one per line of a file, 64 hexadecimal digits each. The first seals and
//! opens, the others only open what was sealed before a rotation.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::cipher::{Cipher, KEY_BYTES};
use super::hex::to_hex;

/// Most keys. Each rotation adds one, and a value outlives its key by a day at most.
const KEYS_MAX: usize = 8;
/// Most bytes of a key file, comments included.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Parses the text of a key file. Ignores empty lines, and lines that begin with `#`.
///
/// # Errors
/// The number of the first wrong line, without its text.
pub fn parse(text: &str) -> Result<Cipher, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let mut keys = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        keys.push(parse_key(line).ok_or_else(|| format!("line {} is not 64 hexadecimal digits", index + 1))?);
    }
    match keys.split_first() {
        None => Err("there is no key".to_owned()),
        Some(_) if keys.len() > KEYS_MAX => Err(format!("there are more than {KEYS_MAX} keys")),
        Some((current, earlier)) => Ok(Cipher::new(current, earlier)),
    }
}

fn parse_key(line: &str) -> Option<[u8; KEY_BYTES]> {
    if line.len() != 2 * KEY_BYTES || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Reads a key file.
///
/// # Errors
/// If the file cannot be read, other users may read it, or its text is wrong.
pub fn read(path: &Path) -> Result<Cipher, String> {
    read_text(path).and_then(|text| parse(&text)).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = OpenOptions::new().read(true).open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    if mode & 0o077 != 0 {
        return Err(format!("other users can access it (mode {:03o}): run chmod 600", mode & 0o777));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Reads a key file, and creates it with a random key and mode 0600 if it is missing. Returns whether it was created.
///
/// # Errors
/// As [`read`], or if the file cannot be created.
pub fn read_or_create(path: &Path) -> Result<(Cipher, bool), String> {
    let is_new = create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((read(path)?, is_new))
}

/// Creates a key file, unless there is one. Returns whether it was missing. A crash leaves a complete file or none.
fn create(path: &Path) -> std::io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(generate().map_err(std::io::Error::other)?.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces the key of another process that starts at the same time.
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
        Ok(()) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
            Ok(true)
        }
    }
}

/// Returns a random key as a line of a key file.
///
/// # Errors
/// If the system has no randomness.
pub fn generate() -> Result<String, String> {
    let mut key = [0_u8; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| "the system has no randomness".to_owned())?;
    Ok(to_hex(&key) + "\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_rotated_file_opens_what_both_keys_sealed() {
        let (old, new) = (generate().expect("a key"), generate().expect("a key"));
        let sealed = parse(&old).expect("a cipher").seal(b"p", b"v").expect("sealed");
        let rotated = parse(&format!("# since today\n{new}\n{old}")).expect("a cipher");
        assert_eq!(rotated.open(b"p", &sealed).as_deref(), Ok(&b"v"[..]));
        assert!(!rotated.is_current(&sealed));
    }

    #[test]
    fn a_wrong_file_is_refused_without_its_text() {
        for (text, error) in [
            ("", "there is no key"),
            ("# only a comment\n", "there is no key"),
            ("\nabc", "line 2 is not 64 hexadecimal digits"),
            (&"é".repeat(32), "line 1 is not 64 hexadecimal digits"),
            (&format!("{}\n", "0".repeat(64)).repeat(9), "there are more than 8 keys"),
        ] {
            assert_eq!(parse(text).expect_err(text), error);
        }
    }

    #[test]
    fn a_missing_file_is_created_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let (first, is_new) = read_or_create(&path).expect("created");
        assert!(is_new);
        assert_eq!(std::fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        let sealed = first.seal(b"p", b"v").expect("sealed");
        let (second, is_new) = read_or_create(&path).expect("read");
        assert!(!is_new && second.open(b"p", &sealed).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = read(&path).expect_err("others may read it");
        assert!(error.contains("mode 640"), "{error}");
    }
}
