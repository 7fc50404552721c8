//! Text that is kept for long and is short nearly always: inline up to `N` bytes, on the heap
//! beyond that, so that state per user or per call needs no allocation for what usual peers send.

use std::fmt;
use std::ops::Deref;

/// Text of up to `N` bytes inline (`N` ≤ 255), longer text on the heap.
#[derive(Clone)]
pub struct Text<const N: usize>(Repr<N>);

#[derive(Clone)]
enum Repr<const N: usize> {
    Inline { length: u8, bytes: [u8; N] },
    Heap(Box<str>),
}

impl<const N: usize> Text<N> {
    /// No text.
    #[must_use]
    pub const fn new() -> Self {
        Self(Repr::Inline {
            length: 0,
            bytes: [0; N],
        })
    }

    /// The parts one after the other.
    #[must_use]
    pub fn concat(parts: &[&str]) -> Self {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let length = match u8::try_from(total) {
            Ok(length) if total <= N => length,
            Ok(_) | Err(_) => return Self(Repr::Heap(parts.concat().into())),
        };
        let (mut bytes, mut at) = ([0; N], 0);
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part.as_bytes());
            at += part.len();
        }
        Self(Repr::Inline { length, bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Inline { length, bytes } => {
                let text = &bytes[..usize::from(*length)];
                debug_assert!(std::str::from_utf8(text).is_ok());
                // SAFETY: `concat`, which alone fills in a length, copies whole strings, one behind the
                // other, and nobody changes them. Checking that again each time takes as long as the rest
                // of writing a message.
                unsafe { std::str::from_utf8_unchecked(text) }
            }
            Repr::Heap(text) => text,
        }
    }

    /// Bytes on the heap, zero for text of usual length.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap(text) => text.len(),
        }
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(text: &str) -> Self {
        Self::concat(&[text])
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_any_length_and_uses_the_heap_only_beyond_its_own() {
        for length in [0, 1, 7, 8, 9, 255, 256, 300] {
            let text = "x".repeat(length);
            let kept = Text::<8>::from(text.as_str());
            assert_eq!(kept.as_str(), text);
            assert_eq!(kept.heap_bytes(), if length > 8 { length } else { 0 });
            let (left, right) = text.split_at(length / 2);
            assert_eq!(Text::<8>::concat(&[left, "", right]), kept);
        }
        assert_eq!(Text::<8>::new().as_str(), "");
    }
}
