//! Heads of messages that are like an earlier one: what was found in that holds for them, too.
//!
//! The counterpart of [`form`](super::form) for what is received. A peer writes its messages the same way each time,
//! with other identifiers in the same places. So a head is compared with those that were read lately: where it has
//! the same bytes, or other letters and digits in places where none of what was looked for depends on them, reading
//! it would find the same. Which places these are, who reads says ([`Familiar::learn`]). A head that is like none
//! is read, and remembered.

/// Heads that are remembered: a call's responses are four.
const HEADS: usize = 8;
/// Longer ones are not.
const HEAD_BYTES_MAX: usize = 1_024;
/// Bytes that are compared in one go. Shorter heads are not remembered.
const BLOCK_BYTES: usize = 32;
/// What is learnt from heads that come once is for nothing: so often at first, then only now and then.
const PATIENCE_MAX: u32 = 64;
const COST: u32 = 4;
const RARELY: u32 = 32;

/// Heads, and what was found in each. Allocates when it learns for the first time, and never again.
#[derive(Debug)]
pub(crate) struct Familiar<F> {
    heads: Vec<Head<F>>,
    /// A slot for each.
    bytes: Vec<[u8; HEAD_BYTES_MAX]>,
    /// Whether each byte may be another letter or digit.
    is_free: Vec<[bool; HEAD_BYTES_MAX]>,
    /// The one that the latest message was like.
    latest: usize,
    /// The one that is replaced next, once there are as many as may be.
    oldest: usize,
    patience: u32,
    misses: u32,
}

#[derive(Debug)]
struct Head<F> {
    length: usize,
    found: F,
    /// Which one followed it last.
    follower: usize,
}

impl<F> Default for Familiar<F> {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            bytes: Vec::new(),
            is_free: Vec::new(),
            latest: 0,
            oldest: 0,
            patience: PATIENCE_MAX / 2,
            misses: 0,
        }
    }
}

impl<F> Familiar<F> {
    /// What was found in a head like the one that `bytes` start with.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<&F> {
        let expected = self.heads.get(self.latest)?.follower;
        let place = if self.is_like(expected, bytes) {
            expected
        } else {
            let others = (0..self.heads.len()).filter(|&place| place != expected);
            let place = others
                .into_iter()
                .find(|&place| self.is_like(place, bytes))?;
            self.heads[self.latest].follower = place;
            place
        };
        self.latest = place;
        self.patience = (self.patience + 1).min(PATIENCE_MAX);
        Some(&self.heads[place].found)
    }

    /// `head`, a whole one, is like none of those that are known. `free` tells of each of its bytes whether nothing
    /// that was `found` depends on which letter or digit it is.
    pub(crate) fn learn(&mut self, head: &[u8], found: F, free: impl FnOnce(&mut [bool])) {
        let length = head.len();
        let may_be_kept = (BLOCK_BYTES..=HEAD_BYTES_MAX).contains(&length) && is_plain(head);
        if !may_be_kept || !self.is_worth_learning() {
            return;
        }
        if self.bytes.is_empty() {
            self.heads.reserve_exact(HEADS);
            self.bytes = vec![[0; HEAD_BYTES_MAX]; HEADS];
            self.is_free = vec![[false; HEAD_BYTES_MAX]; HEADS];
        }
        let mut known = Head {
            length,
            found,
            follower: 0,
        };
        let place = if self.heads.len() < HEADS {
            self.heads.push(known);
            self.heads.len() - 1
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % HEADS;
            std::mem::swap(&mut self.heads[place], &mut known);
            place
        };
        self.bytes[place][..length].copy_from_slice(head);
        let is_free = &mut self.is_free[place][..length];
        is_free.fill(false);
        free(is_free);
        for (is_free, byte) in is_free.iter_mut().zip(head) {
            *is_free &= byte.is_ascii_alphanumeric();
        }
        self.heads[self.latest].follower = place;
        self.latest = place;
    }

    fn is_worth_learning(&mut self) -> bool {
        self.misses = self.misses.wrapping_add(1);
        if self.patience < COST {
            return self.misses.is_multiple_of(RARELY);
        }
        self.patience -= COST;
        true
    }

    /// Whether `bytes` start with a head that differs from the one at `place` only where it may.
    fn is_like(&self, place: usize, bytes: &[u8]) -> bool {
        let length = self.heads[place].length;
        let Some(new) = bytes.get(..length) else {
            return false;
        };
        let (old, is_free) = (&self.bytes[place][..length], &self.is_free[place][..length]);
        let whole = new.as_chunks::<BLOCK_BYTES>().0.iter();
        let mut blocks = whole
            .zip(old.as_chunks().0)
            .zip(is_free.as_chunks().0)
            .map(|((new, old), is_free)| is_like(new, old, is_free));
        // What is left is compared together with the end of the last whole block.
        let ends = (new.last_chunk(), old.last_chunk(), is_free.last_chunk());
        blocks.all(|is_like| is_like)
            && matches!(ends, (Some(new), Some(old), Some(is_free)) if is_like(new, old, is_free))
    }
}

/// Written so that compilers compare many bytes with one instruction.
#[inline]
fn is_like(
    new: &[u8; BLOCK_BYTES],
    old: &[u8; BLOCK_BYTES],
    is_free: &[bool; BLOCK_BYTES],
) -> bool {
    let mut differs = 0;
    for place in 0..BLOCK_BYTES {
        let byte = new[place];
        let is_letter = u8::from((byte | 0x20).wrapping_sub(b'a') < 26);
        let is_digit = u8::from(byte.wrapping_sub(b'0') < 10);
        let may_differ = (is_letter | is_digit) & u8::from(is_free[place]);
        differs |= u8::from(byte != old[place]) & !may_differ;
    }
    differs & 1 == 0
}

/// Whether no header line of a head is folded and no CR or LF stands on its own: a line is what is between two LFs.
fn is_plain(head: &[u8]) -> bool {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n');
    lines.all(|line| match line {
        [text @ .., b'\r', b'\n'] => !matches!(text, [b' ' | b'\t', ..]) && !text.contains(&b'\r'),
        _ => false,
    })
}

/// Frees the values of those header lines of a head of which nothing was looked at.
pub(crate) fn free_values(head: &[u8], is_free: &mut [bool], is_read: impl Fn(&[u8]) -> bool) {
    let mut at = 0;
    for (place, line) in head.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let colon = line.iter().position(|&byte| byte == b':');
        // The start line is none.
        if let Some(colon) = colon
            && place > 0
            && !is_read(line)
        {
            is_free[at + colon..at + line.len()].fill(true);
        }
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"SIP/2.0 200 OK\r\nCall-ID: 17af\r\nCSeq: 1 BYE\r\n\r\n";

    fn knows(head: &[u8]) -> Familiar<u32> {
        let mut familiar = Familiar::default();
        familiar.learn(head, 7, |is_free| {
            free_values(head, is_free, |line| line.starts_with(b"CSeq"));
        });
        familiar
    }

    #[test]
    fn other_letters_and_digits_where_nothing_depends_on_them_are_familiar() {
        let at = |old: &str, new: &str| {
            let head = String::from_utf8_lossy(HEAD).replace(old, new);
            knows(HEAD).find(head.as_bytes()).copied()
        };
        assert_eq!(at("17af", "Z9az"), Some(7));
        for (old, new) in [
            ("17af", "17a;"),
            ("17af", "17\raf"),
            ("17af", "17afa"),
            ("1 BYE", "2 BYE"),
            ("OK", "OK"),
            ("ID", "IE"),
            ("200", "201"),
        ] {
            let expected = (old == new).then_some(7);
            assert_eq!(at(old, new), expected, "{old} -> {new}");
        }
        assert_eq!(knows(HEAD).find(&HEAD[..HEAD.len() - 1]), None);
        let folded = b"SIP/2.0 200 OK\r\nCall-ID: 17af\r\nCSeq:\r\n 1: BYE\r\n\r\n";
        assert_eq!(knows(folded).find(folded), None, "it is read each time");
    }

    #[test]
    fn as_many_heads_as_a_call_has_are_known_at_a_time() {
        let head =
            |place: u32| format!("SIP/2.0 {place} and so on until it is long enough\r\n\r\n");
        let mut familiar = Familiar::default();
        for place in 100..104 {
            familiar.learn(head(place).as_bytes(), place, |_| {});
        }
        for place in [100, 101, 102, 103, 100, 103, 102, 101, 101] {
            let found = familiar.find(head(place).as_bytes());
            assert_eq!(found.copied(), Some(place));
        }
        assert_eq!(familiar.find(head(104).as_bytes()), None);
    }

    #[test]
    fn heads_that_come_once_are_hardly_ever_learnt() {
        let head =
            |place: u32| format!("SIP/2.0 {place} and so on until it is long enough\r\n\r\n");
        let mut familiar = Familiar::default();
        let mut learnt = 0;
        for place in 1_000..2_000 {
            familiar.learn(head(place).as_bytes(), place, |_| learnt += 1);
            assert!(familiar.heads.len() <= HEADS);
        }
        assert!(learnt <= PATIENCE_MAX / COST + 1_000 / RARELY, "{learnt}");
    }
}
