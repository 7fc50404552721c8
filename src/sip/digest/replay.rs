//! The server's memory of used nonces, one [`Replay`] for each user who has authenticated.

use super::NonceId;

/// Nonces of one user that can be in use at a time, the latest not counted: several devices, and calls
/// besides registrations, each answer a challenge of their own.
const EARLIER: usize = 3;

/// Counts behind the highest that may still arrive: requests overtake each other over datagrams.
const WINDOW: u32 = u32::BITS;

/// Uses of nonces by one user. Each count of each nonce is good for one request (RFC 7616 §3.4);
/// whoever comes with a nonce that is too old to be remembered learns a fresh one.
#[derive(Debug, Default)]
pub struct Replay {
    latest: Window,
    /// Nonces issued before the latest that have not expired. Most users have none.
    earlier: Option<Box<Earlier>>,
}

/// Which counts of a nonce have been used: a sliding window as that of RFC 4303 §3.4.3.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    nonce: NonceId,
    highest: u32,
    /// Bit `n`: whether `highest - n` was used.
    seen: u32,
}

#[derive(Debug, Default)]
struct Earlier {
    /// Those with the default nonce, which is never issued, are free.
    windows: [Window; EARLIER],
    /// Nonces up to this one may have been used and are forgotten.
    floor: NonceId,
}

impl Replay {
    /// Whether this use is the first of its kind; remembers it if so. Nonces issued before
    /// `oldest` have expired, so that nothing has to be known of them.
    pub fn accept(&mut self, nonce: NonceId, count: u32, oldest: NonceId) -> bool {
        if count == 0 {
            // Clients count from 1 (RFC 7616 §3.4).
            return false;
        }
        if let Some(earlier) = &mut self.earlier {
            earlier.expire(oldest);
            if earlier.is_free() {
                self.earlier = None;
            }
        }
        if nonce > self.latest.nonce {
            let displaced = std::mem::replace(&mut self.latest, Window::of(nonce));
            if displaced.nonce >= oldest && displaced.nonce != NonceId::default() {
                self.earlier.get_or_insert_default().keep(displaced);
            }
        }
        if nonce == self.latest.nonce {
            return self.latest.accept(count);
        }
        let earlier = self.earlier.get_or_insert_default();
        match earlier.window(nonce) {
            Some(window) => window.accept(count),
            None => {
                let mut window = Window::of(nonce);
                window.accept(count) && earlier.keep(window)
            }
        }
    }
}

impl Window {
    fn of(nonce: NonceId) -> Self {
        Self {
            nonce,
            ..Self::default()
        }
    }

    fn accept(&mut self, count: u32) -> bool {
        if let Some(ahead) = count.checked_sub(self.highest).filter(|&ahead| ahead > 0) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let is_new = behind < WINDOW && self.seen & 1 << behind == 0;
        if is_new {
            self.seen |= 1 << behind;
        }
        is_new
    }
}

impl Earlier {
    fn window(&mut self, nonce: NonceId) -> Option<&mut Window> {
        self.windows.iter_mut().find(|window| window.nonce == nonce)
    }

    fn expire(&mut self, oldest: NonceId) {
        for window in &mut self.windows {
            if window.nonce < oldest {
                *window = Window::default();
            }
        }
    }

    fn is_free(&self) -> bool {
        let mut windows = self.windows.iter();
        windows.all(|window| window.nonce == NonceId::default())
    }

    /// Takes a window in, if need be for the one whose nonce was issued first. `false` if it
    /// is that one itself.
    fn keep(&mut self, window: Window) -> bool {
        let by_age = |window: &&mut Window| window.nonce;
        let first = self.windows.iter_mut().min_by_key(by_age);
        let first = first.expect("there is room for some");
        if window.nonce < first.nonce || window.nonce <= self.floor {
            return false;
        }
        self.floor = self.floor.max(first.nonce);
        *first = window;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn id(serial: u64) -> NonceId {
        NonceId::of_test(serial)
    }

    /// Nonce, count → accepted.
    fn check(oldest: u64, replay: &mut Replay, table: &[(u64, u32, bool)]) {
        for (step, &(nonce, count, accepted)) in table.iter().enumerate() {
            let found = replay.accept(id(nonce), count, id(oldest));
            assert_eq!(found, accepted, "step {step}: {nonce} {count}");
        }
    }

    #[test]
    fn each_count_of_a_nonce_is_good_once_in_any_order() {
        let table = [
            (5, 0, false),
            (5, 1, true),
            (5, 1, false),
            (5, 5, true),
            (5, 3, true),
            (5, 3, false),
            (5, 4, true),
            (5, 36, true),
            // Out of the window by now, and it must not be taken for unused.
            (5, 4, false),
            (5, 2, false),
            (5, 5, false),
            (5, 6, true),
            (5, u32::MAX, true),
            (5, u32::MAX, false),
            (5, 36, false),
        ];
        check(1, &mut Replay::default(), &table);
    }

    #[test]
    fn registrations_and_calls_with_nonces_of_their_own_do_not_disturb_each_other() {
        let table = [
            (10, 1, true),
            (20, 1, true),
            (10, 2, true),
            (20, 1, false),
            (10, 1, false),
            (20, 2, true),
            // Issued in between, used late.
            (15, 1, true),
            (15, 1, false),
            (10, 3, true),
        ];
        check(1, &mut Replay::default(), &table);
    }

    #[test]
    fn beyond_its_bound_the_nonce_issued_first_is_refused() {
        let mut replay = Replay::default();
        let table = [
            (10, 1, true),
            (20, 1, true),
            (30, 1, true),
            (40, 1, true),
            (50, 1, true),
            // 10 is forgotten: nothing of it and nothing older is believed any more.
            (10, 1, false),
            (10, 2, false),
            (9, 1, false),
            (11, 1, false),
            (20, 2, true),
            (20, 1, false),
        ];
        check(1, &mut replay, &table);
        // All but the latest expire: what they took is free again.
        check(50, &mut replay, &[(50, 2, true), (50, 1, false)]);
        assert!(replay.earlier.is_none());
    }

    proptest! {
        /// Whatever the order and whatever has expired: nothing is accepted twice.
        #[test]
        fn nothing_is_accepted_twice(
            uses in proptest::collection::vec((1..12_u64, 1..80_u32, 0..2_u64), 0..200)
        ) {
            let mut replay = Replay::default();
            let (mut oldest, mut accepted) = (1, HashSet::new());
            for (ahead, count, step) in uses {
                oldest += step;
                let nonce = oldest + ahead - 1;
                if replay.accept(id(nonce), count, id(oldest)) {
                    prop_assert!(accepted.insert((nonce, count)), "{nonce} {count}");
                }
            }
        }
    }
}
