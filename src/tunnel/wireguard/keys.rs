//! Static keys by rule: the server's and every user's are derived from one seed, so that a million
//! users need no key file.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use ring::digest;
use serde::{Deserialize, Serialize};

/// What the static keys of a server and its users are derived from. Whoever has the seed has all
/// keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireguardKeys {
    /// What all keys are derived from.
    pub seed: [u8; 32],
    /// The server knows the users `0..peers`.
    pub peers: u32,
}

/// A static key pair as text, to configure another WireGuard with: 32 bytes each in Base64
/// (RFC 4648 §4), as `wg setconf` reads them.
#[derive(Clone, PartialEq, Eq)]
pub struct WireguardKeyPair {
    /// Whoever has it is its owner.
    pub private: String,
    /// What peers know the owner by.
    pub public: String,
}

impl WireguardKeys {
    /// Keys from a random seed.
    ///
    /// # Panics
    /// When the system has no random numbers.
    #[must_use]
    pub fn generate(peers: u32) -> Self {
        Self {
            seed: rand::random(),
            peers,
        }
    }

    /// The server's key pair, for another implementation that takes the server's place.
    #[must_use]
    pub fn server_keys(&self) -> WireguardKeyPair {
        WireguardKeyPair::of(&self.server())
    }

    /// The key pair of `user`, for another implementation that takes the user's place.
    #[must_use]
    pub fn user_keys(&self, user: u32) -> WireguardKeyPair {
        WireguardKeyPair::of(&self.user(user))
    }

    pub(super) fn server(&self) -> StaticSecret {
        self.derive(b"hopbench wireguard server", 0)
    }

    pub(super) fn user(&self, user: u32) -> StaticSecret {
        self.derive(b"hopbench wireguard user", user)
    }

    fn derive(&self, label: &[u8], number: u32) -> StaticSecret {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(label);
        context.update(&self.seed);
        context.update(&number.to_be_bytes());
        let bytes: [u8; 32] = context
            .finish()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        StaticSecret::from(bytes)
    }
}

impl fmt::Debug for WireguardKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireguardKeys")
            .field("seed", &"(private)")
            .field("peers", &self.peers)
            .finish()
    }
}

impl WireguardKeyPair {
    fn of(secret: &StaticSecret) -> Self {
        Self {
            private: STANDARD.encode(secret.to_bytes()),
            public: STANDARD.encode(PublicKey::from(secret).as_bytes()),
        }
    }
}

impl fmt::Debug for WireguardKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireguardKeyPair")
            .field("private", &"(private)")
            .field("public", &self.public)
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEYS: WireguardKeys = WireguardKeys {
        seed: [7; 32],
        peers: 2,
    };

    #[test]
    fn every_end_has_a_key_pair_of_its_own_and_always_the_same() {
        let pairs = [KEYS.server_keys(), KEYS.user_keys(0), KEYS.user_keys(1)];
        for (index, pair) in pairs.iter().enumerate() {
            let private: [u8; 32] = STANDARD.decode(&pair.private).unwrap().try_into().unwrap();
            let public = PublicKey::from(&StaticSecret::from(private));
            assert_eq!(pair.public, STANDARD.encode(public.as_bytes()));
            assert!(
                pairs[..index]
                    .iter()
                    .all(|other| other.public != pair.public)
            );
        }
        let again = [KEYS.server_keys(), KEYS.user_keys(0), KEYS.user_keys(1)];
        assert_eq!(again, pairs);
    }

    #[test]
    fn nothing_private_is_printed() {
        let pair = KEYS.user_keys(0);
        let printed = format!("{KEYS:?} {pair:?}");
        assert!(printed.contains(&pair.public));
        assert!(!printed.contains(&pair.private));
        assert!(!printed.contains("7, 7"), "the seed");
    }
}
