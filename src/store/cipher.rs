//! Encryption of stored values: XChaCha20-Poly1305, whose nonces are long enough to be random without a limit on the
//! number of values.
//!
//! A sealed value names its key and is bound to its place in the store, so that nobody who can write to the store can
//! move one account's answer to another task.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};

use super::hex::to_hex;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// The key that seals new values, and earlier keys that only open values.
pub struct Cipher {
    current: NamedKey,
    earlier: Vec<NamedKey>,
}

struct NamedKey {
    id: [u8; KEY_ID_BYTES],
    aead: XChaCha20Poly1305,
    digest_key: hmac::Key,
}

/// Why a value was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It was sealed with a key that is not configured.
    UnknownKey,
    /// It was changed, cut off, or moved from another place.
    Damaged,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({} keys)", 1 + self.earlier.len())
    }
}

impl NamedKey {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        // A digest of a random key of 256 bits reveals nothing about it.
        let digest = digest::digest(&digest::SHA256, &[b"capgate store key id", key.as_slice()].concat());
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        // Another key, because no key should serve two algorithms.
        let digest_key = digest::digest(&digest::SHA256, &[b"capgate store digest key", key.as_slice()].concat());
        let digest_key = hmac::Key::new(hmac::HMAC_SHA256, digest_key.as_ref());
        Self { id, aead: XChaCha20Poly1305::new(key.into()), digest_key }
    }
}

impl Cipher {
    /// Creates a cipher that seals with `current`, and opens what it or one of `earlier` has sealed.
    pub fn new(current: &[u8; KEY_BYTES], earlier: &[[u8; KEY_BYTES]]) -> Self {
        Self { current: NamedKey::new(current), earlier: earlier.iter().map(NamedKey::new).collect() }
    }

    /// Seals a value for its place: 4 bytes of key id, 24 of nonce, the encrypted value, 16 of tag. Returns `None` if
    /// the system has no randomness or the value is longer than the algorithm allows (256 GiB).
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let NamedKey { id, aead, .. } = &self.current;
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let encrypted = aead.encrypt(&nonce.into(), Payload { msg: value, aad: place }).ok()?;
        let mut sealed = Vec::with_capacity(KEY_ID_BYTES + NONCE_BYTES + encrypted.len());
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&encrypted);
        Some(sealed)
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (id, rest) = sealed.split_at_checked(KEY_ID_BYTES).ok_or(OpenError::Damaged)?;
        let (nonce, encrypted) = rest.split_at_checked(NONCE_BYTES).ok_or(OpenError::Damaged)?;
        let key = [&self.current].into_iter().chain(&self.earlier).find(|key| key.id == id);
        let nonce: &XNonce = nonce.try_into().map_err(|_| OpenError::Damaged)?;
        let opened = key.ok_or(OpenError::UnknownKey)?.aead.decrypt(nonce, Payload { msg: encrypted, aad: place });
        opened.map_err(|_| OpenError::Damaged)
    }

    /// Returns the id of the key that seals new values, as text.
    pub fn current_key_id(&self) -> String {
        to_hex(&self.current.id)
    }

    /// Whether values can be opened that the key of this id has sealed.
    pub fn has_key(&self, key_id: &str) -> bool {
        std::iter::once(&self.current).chain(&self.earlier).any(|key| to_hex(&key.id) == key_id)
    }

    /// Returns a number by which a value can be found, and that reveals nothing about it without the key.
    pub fn digest(&self, value: &[u8]) -> u64 {
        let tag = hmac::sign(&self.current.digest_key, value);
        tag.as_ref().iter().take(size_of::<u64>()).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Whether the current key has sealed a value.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.current.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; KEY_BYTES] = [1; KEY_BYTES];
    const NEW: [u8; KEY_BYTES] = [2; KEY_BYTES];

    #[test]
    fn a_value_opens_only_in_its_place_and_unchanged() {
        let cipher = Cipher::new(&NEW, &[]);
        let sealed = cipher.seal(b"task 1", b"secret").expect("sealed");
        assert_eq!(cipher.open(b"task 1", &sealed).as_deref(), Ok(&b"secret"[..]));
        assert_eq!(cipher.open(b"task 2", &sealed), Err(OpenError::Damaged));
        for at in KEY_ID_BYTES..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(cipher.open(b"task 1", &changed), Err(OpenError::Damaged), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(cipher.open(b"task 1", &sealed[..length]).is_err(), "{length} bytes");
        }
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(cipher.seal(b"task 1", b"secret").expect("sealed"), sealed, "a nonce is never used twice");
    }

    #[test]
    fn an_earlier_key_still_opens_and_a_removed_one_is_named() {
        let sealed = Cipher::new(&OLD, &[]).seal(b"p", b"value").expect("sealed");
        let rotated = Cipher::new(&NEW, &[OLD]);
        assert_eq!(rotated.open(b"p", &sealed).as_deref(), Ok(&b"value"[..]));
        assert!(!rotated.is_current(&sealed) && rotated.is_current(&rotated.seal(b"p", b"v").expect("sealed")));
        assert_eq!(Cipher::new(&NEW, &[]).open(b"p", &sealed), Err(OpenError::UnknownKey));
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?}", Cipher::new(&NEW, &[OLD])), "Cipher(2 keys)");
    }
}
