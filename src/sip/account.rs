//! Who may register: accounts that follow from a rule, so that a million users need no file and
//! both ends agree without talking. User 42 is `u00000042`; its password is derived from a secret.

use std::fmt::Write as _;

use ring::digest;
use serde::{Deserialize, Serialize};

use super::text::Text;

/// Accounts that the number of a user can have: what eight digits hold.
pub const MAX_ACCOUNTS: u32 = 100_000_000;

/// User part of the address of whoever answers calls that are meant for nobody in particular.
pub const ANSWERING_USER: &str = "answer";

/// A user name; inline, since one is made for every message.
pub type Username = Text<16>;

/// A password; inline for the same reason.
pub type Password = Text<32>;

/// The accounts of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    domain: String,
    registrar_uri: String,
    secret: String,
    count: u32,
}

impl Accounts {
    /// The first `count` accounts (at most [`MAX_ACCOUNTS`]) of `domain`, which is their realm too.
    /// Who knows `secret` knows every password.
    #[must_use]
    pub fn new(domain: impl Into<String>, secret: impl Into<String>, count: u32) -> Self {
        let domain = domain.into();
        Self {
            registrar_uri: format!("sip:{domain}"),
            domain,
            secret: secret.into(),
            count: count.min(MAX_ACCOUNTS),
        }
    }

    /// Domain part of every address of record.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Request-URI of REGISTER (RFC 3261 §10.2): the domain.
    #[must_use]
    pub fn registrar_uri(&self) -> &str {
        &self.registrar_uri
    }

    /// Realm of digest authentication (RFC 3261 §22.1): the domain.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.domain
    }

    /// How many accounts there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// `u` and eight decimal digits. Meaningful for `index` below [`Accounts::count`].
    #[must_use]
    pub fn username(&self, index: u32) -> Username {
        let mut name = *b"u00000000";
        let mut rest = index;
        for digit in name[1..].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        Username::from(std::str::from_utf8(&name).expect("the name is ASCII"))
    }

    /// The account that a user name belongs to, if there is one.
    #[must_use]
    pub fn index(&self, username: &str) -> Option<u32> {
        let digits = username.strip_prefix('u')?;
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|&index| index < self.count)
    }

    /// The first 16 bytes of SHA-256(secret `:` user name), in hexadecimal digits.
    #[must_use]
    pub fn password(&self, index: u32) -> Password {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.secret.as_bytes());
        context.update(b":");
        context.update(self.username(index).as_bytes());
        let hash = context.finish();
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.as_ref()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
        }
        Password::from(std::str::from_utf8(&digits).expect("hexadecimal digits are ASCII"))
    }

    /// Address of record: `sip:u00000042@example.com`.
    #[must_use]
    pub fn aor(&self, index: u32) -> String {
        let mut aor = String::with_capacity(14 + self.domain.len());
        write!(aor, "sip:{}@{}", self.username(index), self.domain)
            .expect("writing to a String cannot fail");
        aor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_are_inverse() {
        let accounts = Accounts::new("hopbench.test", "secret", u32::MAX);
        assert_eq!(accounts.count(), MAX_ACCOUNTS);
        for index in [0, 42, 99_999_999] {
            assert_eq!(accounts.index(&accounts.username(index)), Some(index));
        }
        assert_eq!(accounts.aor(42), "sip:u00000042@hopbench.test");
        let few = Accounts::new("hopbench.test", "secret", 42);
        for name in [
            "u00000042",
            "u0000041",
            "u000000041",
            "u+0000041",
            "v00000041",
            "",
            "u",
        ] {
            assert_eq!(few.index(name), None, "{name}");
        }
        assert_eq!(few.index("u00000041"), Some(41));
    }

    #[test]
    fn passwords_follow_from_the_secret() {
        let accounts = Accounts::new("hopbench.test", "secret", 100);
        // printf 'secret:u00000042' | sha256sum
        assert_eq!(
            accounts.password(42).as_str(),
            "04dc6c6e9c358930253e4c9ff8b1a990"
        );
        assert_ne!(accounts.password(42), accounts.password(43));
        let others = Accounts::new("hopbench.test", "other", 100);
        assert_ne!(accounts.password(42), others.password(42));
    }
}
