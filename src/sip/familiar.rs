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
type Block = [u8; BLOCK_BYTES];
/// A bit for each byte of a block.
type Mask = u32;
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
    /// Which bytes may be another letter or digit, of each block. As bits, since who has slept finds nothing of this in
    /// its caches.
    free: Vec<[Mask; HEAD_BYTES_MAX / BLOCK_BYTES]>,
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
    /// Which of its last bytes may be another letter or digit: a block that may begin within another one.
    free_at_end: Mask,
    found: F,
    /// Which one followed it last.
    follower: usize,
}

impl<F> Default for Familiar<F> {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            bytes: Vec::new(),
            free: Vec::new(),
            latest: 0,
            oldest: 0,
            patience: PATIENCE_MAX / 2,
            misses: 0,
        }
    }
}

impl<F> Familiar<F> {
    /// What was found in a head like the one that `bytes` start with: it has the same bytes, or an ASCII letter or
    /// digit in place of another. Unsafe code relies on that.
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
            self.free = vec![[0; HEAD_BYTES_MAX / BLOCK_BYTES]; HEADS];
        }
        let mut is_free = [false; HEAD_BYTES_MAX];
        let is_free = &mut is_free[..length];
        free(is_free);
        for (is_free, byte) in is_free.iter_mut().zip(head) {
            *is_free &= byte.is_ascii_alphanumeric();
        }
        let mut known = Head {
            length,
            free_at_end: mask(&is_free[length - BLOCK_BYTES..]),
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
        for (free, is_free) in self.free[place].iter_mut().zip(is_free.chunks(BLOCK_BYTES)) {
            *free = mask(is_free);
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
        let Head {
            length,
            free_at_end,
            ..
        } = self.heads[place];
        let Some(new) = bytes.get(..length) else {
            return false;
        };
        let (old, free) = (&self.bytes[place][..length], &self.free[place]);
        is_like(new, old, free, free_at_end)
    }
}

/// A bit for each of at most a block's bytes.
fn mask(is_free: &[bool]) -> Mask {
    let bits = is_free.iter().rev();
    bits.fold(0, |mask, is_free| mask << 1 | Mask::from(*is_free))
}

/// Whether `new` differs from `old`, which is as long, only where it is free, at the end also.
#[cfg(target_arch = "x86_64")]
fn is_like(new: &[u8], old: &[u8], free: &[Mask], free_at_end: Mask) -> bool {
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { is_like_by_avx2(new, old, free, free_at_end) };
    }
    are_all_like(new, old, free, free_at_end, is_block_like)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_like(new: &[u8], old: &[u8], free: &[Mask], free_at_end: Mask) -> bool {
    are_all_like(new, old, free, free_at_end, is_block_like)
}

/// Has registers as long as a block.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn is_like_by_avx2(new: &[u8], old: &[u8], free: &[Mask], free_at_end: Mask) -> bool {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8,
        _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };
    are_all_like(new, old, free, free_at_end, |new, old, free| {
        // SAFETY: a block is as long as what is read, which may begin anywhere.
        let lanes = |block: &Block| unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
        let is_within = |lanes: __m256i, first: u8, count: u8| {
            let distance = _mm256_add_epi8(lanes, _mm256_set1_epi8(first.wrapping_neg() as i8));
            let furthest = _mm256_set1_epi8(count as i8 - 1);
            _mm256_cmpeq_epi8(_mm256_min_epu8(distance, furthest), distance)
        };
        let (new, old) = (lanes(new), lanes(old));
        let same = _mm256_movemask_epi8(_mm256_cmpeq_epi8(new, old)) as Mask;
        // Most blocks are.
        if same == Mask::MAX {
            return true;
        }
        let is_digit = is_within(new, b'0', 10);
        let is_letter = is_within(_mm256_or_si256(new, _mm256_set1_epi8(0x20)), b'a', 26);
        let may_differ = _mm256_movemask_epi8(_mm256_or_si256(is_digit, is_letter)) as Mask;
        same | may_differ & free == Mask::MAX
    })
}

/// The same of one block.
fn is_block_like(new: &Block, old: &Block, free: Mask) -> bool {
    let mut places = (0..BLOCK_BYTES).filter(|&place| new[place] != old[place]);
    places.all(|place| new[place].is_ascii_alphanumeric() && free >> place & 1 == 1)
}

#[inline(always)]
fn are_all_like(
    new: &[u8],
    old: &[u8],
    free: &[Mask],
    free_at_end: Mask,
    is_like: impl Fn(&Block, &Block, Mask) -> bool,
) -> bool {
    let whole = new.as_chunks().0.iter().zip(old.as_chunks().0);
    let mut whole = whole.zip(free);
    // What is left is compared together with the end of the last whole block.
    whole.all(|((new, old), free)| is_like(new, old, *free))
        && matches!(
            (new.last_chunk(), old.last_chunk()),
            (Some(new), Some(old)) if is_like(new, old, free_at_end)
        )
}

/// Whether no header line of a head is folded and no CR or LF stands on its own: a line is what is between two LFs.
fn is_plain(head: &[u8]) -> bool {
    let is_folded = |at: usize| matches!(head.get(at), Some(b' ' | b'\t'));
    let mut lines = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        if !head[..end].ends_with(b"\r") || is_folded(end + 1) {
            return false;
        }
        lines += 1;
    }
    // As many as are before an LF: so there is no other.
    let is_tidy = memchr::memchr_iter(b'\r', head).count() == lines;
    is_tidy && !is_folded(0) && head.ends_with(b"\n")
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
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"SIP/2.0 200 OK\r\nCall-ID: 17af\r\nCSeq: 1 BYE\r\n\r\n";

    /// Line by line.
    fn is_plain_by_lines(head: &[u8]) -> bool {
        let mut lines = head.split_inclusive(|&byte| byte == b'\n');
        lines.all(|line| match line {
            [text @ .., b'\r', b'\n'] => {
                !matches!(text, [b' ' | b'\t', ..]) && !text.contains(&b'\r')
            }
            _ => false,
        })
    }

    proptest! {
        #[test]
        fn heads_are_plain_whose_lines_are(text in "(a|b|\r\n|\r\n|\r|\n| |\t){1,12}") {
            for head in [text.clone(), format!("{text}\r\n")] {
                let head = head.as_bytes();
                prop_assert_eq!(is_plain(head), is_plain_by_lines(head));
            }
        }
    }

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

    #[test]
    fn letters_and_digits_are_what_ascii_says() {
        // Within a whole block, and within the one at the end.
        let old = [b'-'; BLOCK_BYTES + 8];
        for place in [3, BLOCK_BYTES + 5] {
            let mut is_free = [false; BLOCK_BYTES + 8];
            is_free[place] = true;
            let free: Vec<Mask> = is_free.chunks(BLOCK_BYTES).map(mask).collect();
            let at_end = mask(&is_free[8..]);
            for byte in 0..=u8::MAX {
                let mut new = old;
                new[place] = byte;
                let expected = byte == b'-' || byte.is_ascii_alphanumeric();
                assert_eq!(is_like(&new, &old, &free, at_end), expected, "{byte}");
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_by_the_block_are_bytes_one_by_one(
            old in proptest::collection::vec(any::<u8>(), BLOCK_BYTES..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
        ) {
            let (mut new, mut is_free) = (old.clone(), vec![false; old.len()]);
            for (place, byte, frees) in changes {
                let place = place.index(old.len());
                (new[place], is_free[place]) = (byte, frees);
            }
            let places = 0..old.len();
            let expected = places.into_iter().all(|place| {
                new[place] == old[place] || is_free[place] && new[place].is_ascii_alphanumeric()
            });
            let free: Vec<Mask> = is_free.chunks(BLOCK_BYTES).map(mask).collect();
            let at_end = mask(&is_free[old.len() - BLOCK_BYTES..]);
            prop_assert_eq!(is_like(&new, &old, &free, at_end), expected);
            prop_assert_eq!(are_all_like(&new, &old, &free, at_end, is_block_like), expected);
        }
    }
}
