//! The server's nonces. A nonce proves by itself that it is ours and how old it is, so that requests
//! without credentials cost no memory; only who has authenticated is remembered, with one
//! [`Replay`](super::Replay) each.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::sip::text::Text;

const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;

/// Which nonce: those issued later are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NonceId(u64);

#[cfg(test)]
impl NonceId {
    pub(super) fn of_test(serial: u64) -> Self {
        Self(serial)
    }
}

/// What a nonce in credentials is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceState {
    /// Ours and within its life.
    Fresh(NonceId),
    /// Ours, and too old.
    Stale,
    /// Not ours.
    Foreign,
}

/// Issues nonces and knows them again: 40 bits of milliseconds since `start`, a serial number of 24
/// bits, and the first 16 bytes of their HMAC-SHA-256.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    start: Instant,
    life: Duration,
    serial: u32,
}

impl Nonces {
    /// `key` is secret and random; a nonce can be used for `life` after it was issued.
    #[must_use]
    pub fn new(key: &[u8; 32], start: Instant, life: Duration) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            start,
            life,
            serial: 0,
        }
    }

    /// How long a nonce can be used.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// A new nonce of 32 characters.
    pub fn issue(&mut self, now: Instant) -> Text<32> {
        // From 1, so that no nonce has the default id.
        self.serial = self.serial % 0xff_ffff + 1;
        let id = self.since_start_ms(now) << 24 | u64::from(self.serial);
        let mut bytes = [0; NONCE_BYTES];
        bytes[..ID_BYTES].copy_from_slice(&id.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes[..ID_BYTES]);
        bytes[ID_BYTES..].copy_from_slice(&tag.as_ref()[..NONCE_BYTES - ID_BYTES]);
        let mut text = [0; 32];
        URL_SAFE_NO_PAD
            .encode_slice(bytes, &mut text)
            .expect("24 bytes are 32 characters");
        Text::from(std::str::from_utf8(&text).expect("base 64 is ASCII"))
    }

    /// Judges a nonce that came back.
    #[must_use]
    pub fn judge(&self, nonce: &str, now: Instant) -> NonceState {
        let mut bytes = [0; NONCE_BYTES];
        if nonce.len() != 32 || URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes) != Ok(NONCE_BYTES) {
            return NonceState::Foreign;
        }
        let (id_bytes, tag) = bytes.split_at(ID_BYTES);
        let signed = hmac::sign(&self.key, id_bytes);
        if !super::same_in_constant_time(&signed.as_ref()[..tag.len()], tag) {
            return NonceState::Foreign;
        }
        let id = id_bytes
            .iter()
            .fold(0, |id, &byte| id << 8 | u64::from(byte));
        let age_ms = self.since_start_ms(now).saturating_sub(id >> 24);
        if u128::from(age_ms) > self.life.as_millis() {
            return NonceState::Stale;
        }
        NonceState::Fresh(NonceId(id))
    }

    /// Every nonce that has not expired is at least this one.
    #[must_use]
    pub fn oldest_fresh(&self, now: Instant) -> NonceId {
        let life_ms = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        // The default id is never issued.
        NonceId((self.since_start_ms(now).saturating_sub(life_ms) << 24).max(1))
    }

    fn since_start_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}
