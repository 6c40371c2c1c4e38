//! The identity of a store: a small text file beside the database, written once the database is complete. With it, an
//! empty, missing or foreign database is told from a store that has not been created yet.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::hex::to_hex;

/// Name of the file.
pub const FILE_NAME: &str = "capgate.store";
/// Name of the file while the database is created.
pub const UNFINISHED_NAME: &str = "capgate.store.new";
/// Newest format of a store that this program knows.
pub const FORMAT: u32 = 1;

const FIRST_LINE: &str = "capgate store";
const FILE_BYTES_MAX: u64 = 4_096;

/// What identifies a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A random number, which the database holds too.
    pub id: String,
    /// Ids of the keys that may have sealed values of this store.
    pub key_ids: Vec<String>,
}

impl Identity {
    /// Returns a new identity.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate(key_id: String) -> Result<Self, String> {
        let mut bytes = [0_u8; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no randomness".to_owned())?;
        Ok(Self { id: to_hex(&bytes), key_ids: vec![key_id] })
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) || !text.ends_with('\n') {
            return Err("it is not the identity of a capgate store, or is incomplete".to_owned());
        }
        let (mut format, mut id, mut key_ids) = (None, None, Vec::new());
        for line in lines {
            match line.split_once(' ') {
                Some(("format", number)) => format = number.parse::<u32>().ok(),
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("key", text)) => key_ids.push(text.to_owned()),
                _ => {}
            }
        }
        match (format, id) {
            (Some(format), _) if format > FORMAT => {
                Err(format!("the store has format {format}, but this version of capgate knows only {FORMAT}"))
            }
            (Some(_), Some(id)) if !key_ids.is_empty() => Ok(Self { id, key_ids }),
            _ => Err("it is incomplete".to_owned()),
        }
    }

    /// Returns the text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nformat {FORMAT}\nid {}\n", self.id);
        for key_id in &self.key_ids {
            // Writing to a string does not fail.
            let _ = writeln!(text, "key {key_id}");
        }
        text
    }

    /// Reads a file in this folder. Returns `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or is wrong.
    pub fn read(folder: &Path, name: &str) -> Result<Option<Self>, String> {
        let path = folder.join(name);
        let refuse = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| refuse(&error))?,
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| refuse(&error))?;
        Self::parse(&text).map(Some).map_err(|error| refuse(&error))
    }

    /// Writes the file [`UNFINISHED_NAME`] in this folder, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_unfinished(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(UNFINISHED_NAME);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(self.to_text().as_bytes())?;
            file.sync_all()?;
            sync_folder(folder)
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Makes [`UNFINISHED_NAME`] the identity of the store, durably.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn finish(folder: &Path) -> Result<(), String> {
        std::fs::rename(folder.join(UNFINISHED_NAME), folder.join(FILE_NAME))
            .and_then(|()| sync_folder(folder))
            .map_err(|error| format!("{}: {error}", folder.join(FILE_NAME).display()))
    }
}

/// Makes the creation and renaming of files in a folder durable.
///
/// # Errors
/// The system's.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_and_no_part_of_it_is_accepted() {
        let identity =
            Identity { key_ids: vec!["aa".into(), "bb".into()], ..Identity::generate("x".into()).expect("new") };
        let text = identity.to_text();
        assert_eq!(Identity::parse(&text), Ok(identity));
        for length in 0..text.len() {
            let part = &text[..length];
            let is_shorter_list = part.ends_with("key aa\n");
            assert_eq!(Identity::parse(part).is_ok(), is_shorter_list, "{part}");
        }
        let newer = text.replace("format 1", "format 2");
        assert!(Identity::parse(&newer).expect_err("newer").contains("format 2"));
    }
}
