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
        while let Some((at, is_end)) = self.breaks.next() {
            if !is_end {
                is_tidy = false;
            } else if let Some(b' ' | b'\t') = self.bytes.get(at + 2) {
                is_folded = true;
            } else {
                self.at = at + 2;
                return Some(HeaderLine {
                    bytes: &self.bytes[start..at],
                    is_tidy,
                    is_plain: is_tidy && !is_folded,
                });
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

/// The places of all line ends, and of CRs and LFs that are on their own.
#[derive(Clone, Debug)]
struct Breaks<'a> {
    bytes: &'a [u8],
    /// Where the block starts that is looked at next. Many ask for no line at all.
    next: usize,
    /// Those of the block before that are still to come, a bit for each of its bytes.
    mask: u64,
    /// Which of them are the CR of a line end.
    ends: u64,
}

/// Which bytes of a block are CR, and which are LF.
type Masks = (u64, u64);

impl<'a> Breaks<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            mask: 0,
            ends: 0,
        }
    }

    /// The next one, and whether it is a line end.
    #[inline]
    fn next(&mut self) -> Option<(usize, bool)> {
        while self.mask == 0 {
            if self.next >= self.bytes.len() {
                return None;
            }
            self.look();
        }
        let place = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        let is_end = self.ends >> place & 1 == 1;
        Some((self.next - BLOCK_BYTES + place as usize, is_end))
    }

    /// Looks at the next block: much more seldom than for a line, whose search is to stay small.
    #[inline(never)]
    fn look(&mut self) {
        let rest = &self.bytes[self.next..];
        let (cr, lf) = match rest.first_chunk() {
            Some(block) => masks_of(block),
            None => {
                let mut block = [0; BLOCK_BYTES];
                block[..rest.len()].copy_from_slice(rest);
                masks_of(&block)
            }
        };
        // The last bit belongs to the LF of the next block, if that begins with one.
        let follows = u64::from(rest.get(BLOCK_BYTES) == Some(&b'\n'));
        let belongs = u64::from(self.next > 0 && self.bytes[self.next - 1] == b'\r');
        self.ends = cr & (lf >> 1 | follows << (BLOCK_BYTES - 1));
        // A line end is found by its CR.
        self.mask = cr | (lf & !(cr << 1 | belongs));
        self.next += BLOCK_BYTES;
    }
}

#[cfg(target_arch = "x86_64")]
fn masks_of(block: &[u8; BLOCK_BYTES]) -> Masks {
    // SAFETY: SSE2 is a part of x86-64, so every such processor has it.
    unsafe { masks_by_sse2(block) }
}

/// Compares sixteen bytes with one instruction, and has another tell by a bit each what came of it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn masks_by_sse2(block: &[u8; BLOCK_BYTES]) -> Masks {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let (lanes, _) = block.as_chunks();
    let (mut cr, mut lf) = (0, 0);
    for (place, lane) in lanes.iter().enumerate() {
        let lane = u128::from_le_bytes(*lane);
        let lane = _mm_set_epi64x((lane >> 64) as i64, lane as i64);
        let bits = |byte: u8| {
            let is_byte = _mm_cmpeq_epi8(lane, _mm_set1_epi8(byte as i8));
            u64::from(_mm_movemask_epi8(is_byte) as u16) << (16 * place)
        };
        cr |= bits(b'\r');
        lf |= bits(b'\n');
    }
    (cr, lf)
}

#[cfg(not(target_arch = "x86_64"))]
fn masks_of(block: &[u8; BLOCK_BYTES]) -> Masks {
    masks_of_any_block(block)
}

/// Written so that compilers compare many bytes with one instruction.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn masks_of_any_block(block: &[u8; BLOCK_BYTES]) -> Masks {
    /// Moves the lowest bit of byte `n` of a word to bit `56 + n`.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mask = |wanted: u8| {
        let is_wanted = block.map(|byte| u8::from(byte == wanted));
        let (words, _) = is_wanted.as_chunks();
        words.iter().enumerate().fold(0, |mask, (place, word)| {
            let bits = u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56;
            mask | bits << (8 * place)
        })
    };
    (mask(b'\r'), mask(b'\n'))
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
            prop_assert!(masks_of(&block).0 & 1 << cr != 0);
            prop_assert_eq!(masks_of(&block), masks_of_any_block(&block));
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
