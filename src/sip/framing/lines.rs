//! Header lines, and the line ends between them, which are looked for 64 bytes at a time: a message has a dozen
//! lines, and to start a search for each of them takes longer than the search.

/// Bytes that are looked at in one go, a bit for each.
const BLOCK_BYTES: usize = 64;

/// The header lines of a message, with their folded continuations (RFC 3261 §7.3.1). Framing and parsing share
/// this, so that they can never disagree about what a line is.
#[derive(Clone, Debug)]
pub(crate) struct HeaderLines<'a> {
    bytes: &'a [u8],
    at: usize,
    breaks: Breaks<'a>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderLine<'a> {
    /// Without its line end.
    pub(crate) bytes: &'a [u8],
    /// Whether CR and LF occur in it only where it is folded. One that is on its own is invalid, and
    /// would be a line end to those who are lenient.
    pub(crate) is_tidy: bool,
    /// Whether it is tidy, not folded, and has a line end.
    pub(crate) is_plain: bool,
}

impl<'a> HeaderLines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            breaks: Breaks::new(bytes),
        }
    }

    /// Where the next line starts, or what follows the last one.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Whether the line that is next has nothing in it: the one that ends a head.
    pub(crate) fn is_at_empty_line(&self) -> bool {
        self.bytes[self.at..].starts_with(b"\r\n")
    }
}

impl<'a> Iterator for HeaderLines<'a> {
    type Item = HeaderLine<'a>;

    fn next(&mut self) -> Option<HeaderLine<'a>> {
        let start = self.at;
        if start == self.bytes.len() {
            return None;
        }
        let (mut is_tidy, mut is_folded) = (true, false);
        // What lies before belongs to a line end that has been seen.
        let mut from = start;
        for at in self.breaks.by_ref() {
            if at < from {
                continue;
            }
            match self.bytes[at..] {
                [b'\r', b'\n', b' ' | b'\t', ..] => {
                    is_folded = true;
                    from = at + 2;
                }
                [b'\r', b'\n', ..] => {
                    self.at = at + 2;
                    return Some(HeaderLine {
                        bytes: &self.bytes[start..at],
                        is_tidy,
                        is_plain: is_tidy && !is_folded,
                    });
                }
                _ => is_tidy = false,
            }
        }
        self.at = self.bytes.len();
        Some(HeaderLine {
            bytes: &self.bytes[start..],
            is_tidy,
            is_plain: false,
        })
    }
}

/// The places of all CRs and LFs.
#[derive(Clone, Debug)]
struct Breaks<'a> {
    bytes: &'a [u8],
    /// Where the block starts that is looked at next. Many ask for no line at all.
    next: usize,
    /// Those of the block before that are still to come, a bit for each of its bytes.
    mask: u64,
}

impl<'a> Breaks<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            mask: 0,
        }
    }
}

impl Iterator for Breaks<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if self.next >= self.bytes.len() {
                return None;
            }
            self.mask = mask_of(&self.bytes[self.next..]);
            self.next += BLOCK_BYTES;
        }
        let place = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(self.next - BLOCK_BYTES + place)
    }
}

/// Which of the first bytes are CR or LF. Asked for much more seldom than for a line, whose search is to stay small.
#[inline(never)]
fn mask_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(block) => mask_of_block(block),
        None => {
            let mut block = [0; BLOCK_BYTES];
            block[..bytes.len()].copy_from_slice(bytes);
            mask_of_block(&block)
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn mask_of_block(block: &[u8; BLOCK_BYTES]) -> u64 {
    // SAFETY: SSE2 is a part of x86-64, so every such processor has it.
    unsafe { mask_by_sse2(block) }
}

/// Compares sixteen bytes with one instruction, and has another tell by a bit each what came of it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn mask_by_sse2(block: &[u8; BLOCK_BYTES]) -> u64 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let (lanes, _) = block.as_chunks();
    let mut mask = 0;
    for (place, lane) in lanes.iter().enumerate() {
        let lane = u128::from_le_bytes(*lane);
        let lane = _mm_set_epi64x((lane >> 64) as i64, lane as i64);
        let is_cr = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'\r' as i8));
        let is_lf = _mm_cmpeq_epi8(lane, _mm_set1_epi8(b'\n' as i8));
        let bits = _mm_movemask_epi8(_mm_or_si128(is_cr, is_lf));
        mask |= u64::from(bits as u16) << (16 * place);
    }
    mask
}

#[cfg(not(target_arch = "x86_64"))]
fn mask_of_block(block: &[u8; BLOCK_BYTES]) -> u64 {
    mask_of_any_block(block)
}

/// Written so that compilers compare many bytes with one instruction.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn mask_of_any_block(block: &[u8; BLOCK_BYTES]) -> u64 {
    /// Moves the lowest bit of byte `n` of a word to bit `56 + n`.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut is_break = [0; BLOCK_BYTES];
    for (is_break, byte) in is_break.iter_mut().zip(block) {
        *is_break = u8::from((*byte == b'\r') | (*byte == b'\n'));
    }
    let (words, _) = is_break.as_chunks();
    words.iter().enumerate().fold(0, |mask, (place, word)| {
        let bits = u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56;
        mask | bits << (8 * place)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the RFC has it, a byte at a time.
    fn line(bytes: &[u8]) -> (HeaderLine<'_>, usize) {
        let (mut is_tidy, mut is_folded, mut at) = (true, false, 0);
        loop {
            match bytes[at..] {
                [] => break,
                [b'\r', b'\n', b' ' | b'\t', ..] => {
                    is_folded = true;
                    at += 3;
                }
                [b'\r', b'\n', ..] => break,
                [b'\r' | b'\n', ..] => {
                    is_tidy = false;
                    at += 1;
                }
                [_, ..] => at += 1,
            }
        }
        let line = HeaderLine {
            bytes: &bytes[..at],
            is_tidy,
            is_plain: is_tidy && !is_folded && at < bytes.len(),
        };
        (line, bytes.len().min(at + 2))
    }

    proptest! {
        #[test]
        fn processors_agree(block in proptest::collection::vec(any::<u8>(), BLOCK_BYTES), cr in 0..BLOCK_BYTES) {
            let mut block: [u8; BLOCK_BYTES] = block.try_into().unwrap_or([0; BLOCK_BYTES]);
            block[cr] = b'\r';
            prop_assert!(mask_of_block(&block) & 1 << cr != 0);
            prop_assert_eq!(mask_of_block(&block), mask_of_any_block(&block));
        }

        #[test]
        fn lines_are_those_that_are_found_a_byte_at_a_time(
            text in "(\\r\\n|\\r|\\n|[ \\ta:]{1,5}|b{10,70}){0,30}",
        ) {
            let bytes = text.as_bytes();
            let mut lines = HeaderLines::new(bytes);
            let mut at = 0;
            while at < bytes.len() {
                prop_assert_eq!(lines.at(), at);
                prop_assert_eq!(lines.is_at_empty_line(), bytes[at..].starts_with(b"\r\n"));
                let (expected, with_end) = line(&bytes[at..]);
                prop_assert_eq!(lines.next(), Some(expected));
                at += with_end;
            }
            prop_assert_eq!((lines.next(), lines.at()), (None, at));
        }
    }
}
