//! Keyed hashes of what peers say. Peers choose branches, Call-IDs and tags, so whoever could foretell a hash
//! could crowd one place of a table, or make a request that is taken for another one.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// Hashes of one server: nobody foretells them who does not know what it was made of.
pub(crate) struct Keyed {
    secret: u64,
    seed: u64,
    constants: SharedSeed,
}

impl Keyed {
    /// `entropy` is random and secret.
    pub(crate) fn new(entropy: &[u8; 32]) -> Self {
        // No key follows from another one, nor from the entropy, which is the nonces' key.
        let derived = |name: &str| {
            let mut hasher = DefaultHasher::new();
            (entropy, name).hash(&mut hasher);
            hasher.finish()
        };
        Self {
            secret: derived("secret"),
            seed: derived("seed"),
            constants: SharedSeed::from_u64(derived("constants")),
        }
    }

    /// A hash that stays here: peers see neither it nor what follows from it.
    ///
    /// By foldhash, since SipHash takes several times as long for a branch and its like, and each request takes three of
    /// them. It is no cryptography: who saw hashes could find the key. But nobody does, the key is random as a whole (with
    /// foldhash's own constants some inputs would collide whatever the seed), and what peers could learn from time alone
    /// is bounded: a table here has a limit, and a collision lets nobody do what knowing the other's branch
    /// would not.
    pub(crate) fn inside(&self, value: impl Hash) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.constants);
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// A hash that peers may see: by SipHash, which tells them nothing of the key. The same `value` is another hash
    /// for another `purpose`.
    pub(crate) fn outside(&self, purpose: &str, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, purpose, value).hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A secret is in no log.
        f.write_str("Keyed")
    }
}

/// Passes keys on that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are hashes of 64 bits");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_differ_by_key_value_and_purpose() {
        let (one, other) = (Keyed::new(&[7; 32]), Keyed::new(&[8; 32]));
        let mut seen = HashSet::new();
        for keyed in [&one, &other] {
            for value in [("a", "b"), ("ab", ""), ("", "ab"), ("b", "a")] {
                assert!(seen.insert(keyed.inside(value)), "{value:?}");
                assert!(seen.insert(keyed.outside("x", value)), "{value:?}");
                assert!(seen.insert(keyed.outside("y", value)), "{value:?}");
            }
        }
        assert_eq!(one.inside("a"), Keyed::new(&[7; 32]).inside("a"));
        assert_eq!(format!("{one:?}"), "Keyed");
    }

    /// A table of powers of two looks at the low bits first, and hashbrown at the seven highest.
    #[test]
    fn branches_that_count_up_spread_over_the_places_of_a_table() {
        let keyed = Keyed::new(&[7; 32]);
        let mut places = [0_u32; 64];
        let mut groups = [0_u32; 128];
        for serial in 0..6_400 {
            let hash = keyed.inside((format!("z9hG4bK{serial:016x}"), "192.0.2.1", Some(5060)));
            places[(hash % 64) as usize] += 1;
            groups[(hash >> 57) as usize] += 1;
        }
        // Expected 100 and 50: eight standard deviations are 80 and 57.
        assert!(
            places.iter().all(|&count| (20..180).contains(&count)),
            "{places:?}"
        );
        assert!(
            groups.iter().all(|&count| (1..107).contains(&count)),
            "{groups:?}"
        );
    }
}
