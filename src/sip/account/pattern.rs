//! Text in which a number goes: how the names, passwords and callees of a million users are told in
//! a few bytes. Both directions: from number to text, and from text to number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sip::emit::Value;
use crate::sip::text::Text;

/// Decimal digits that a number can have.
const DIGITS_MAX: usize = 10;

/// Text with at most one place for a number: `alice{}` makes `alice7`, `alice{:04}` makes `alice0007`,
/// `alice` stays as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    before: String,
    /// Fewest digits of the number, `None` without a place for one.
    width: Option<u8>,
    after: String,
}

/// Why text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A brace that does not belong to the one place for a number.
    #[error(
        "expected at most one place for a number, {{}} or {{:04}}, and no other braces, found `{found}`"
    )]
    Braces {
        /// The text.
        found: String,
    },
    /// A place for a number that says how in a way that is not known.
    #[error(
        "expected {{}} or {{:0N}} with N from 1 to 10 as the place for a number, found `{{{found}}}`"
    )]
    Format {
        /// What the braces hold.
        found: String,
    },
}

impl Pattern {
    /// Whether different numbers make different texts.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.width.is_some()
    }

    /// The text of a number, inline up to `N` bytes.
    #[must_use]
    pub fn text<const N: usize>(&self, number: u32) -> Text<N> {
        let mut digits = [0; DIGITS_MAX];
        Text::concat(&[&self.before, self.digits(number, &mut digits), &self.after])
    }

    /// Writes the text of a number.
    pub(crate) fn write(&self, line: &mut Value<'_>, number: u32) {
        line.text(&self.before);
        line.text(self.digits(number, &mut [0; DIGITS_MAX]));
        line.text(&self.after);
    }

    /// The number that makes `text`; `None` if none does, or if the pattern has no place for one.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<u32> {
        let digits = text
            .strip_prefix(self.before.as_str())?
            .strip_suffix(self.after.as_str())?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse().ok()?;
        // Only as it would be written: `007` is not 7.
        (digits == self.digits(number, &mut [0; DIGITS_MAX])).then_some(number)
    }

    /// The decimal digits that take the place of the number.
    fn digits<'d>(&self, number: u32, digits: &'d mut [u8; DIGITS_MAX]) -> &'d str {
        let Some(width) = self.width else {
            return "";
        };
        let fewest = usize::from(width).clamp(1, DIGITS_MAX);
        let (mut rest, mut at) = (number, DIGITS_MAX);
        while rest > 0 || DIGITS_MAX - at < fewest {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        std::str::from_utf8(&digits[at..]).expect("digits are ASCII")
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let braces = || PatternError::Braces {
            found: text.to_owned(),
        };
        let Some((before, rest)) = text.split_once('{') else {
            return match text.contains('}') {
                true => Err(braces()),
                false => Ok(Self {
                    before: text.to_owned(),
                    width: None,
                    after: String::new(),
                }),
            };
        };
        let (place, after) = rest.split_once('}').ok_or_else(braces)?;
        if [before, place, after]
            .iter()
            .any(|part| part.contains(['{', '}']))
        {
            return Err(braces());
        }
        let width = match place.strip_prefix(":0") {
            None if place.is_empty() => Some(0),
            None => None,
            Some(width) => width.parse().ok().filter(|width| (1..=10).contains(width)),
        };
        Ok(Self {
            before: before.to_owned(),
            width: Some(width.ok_or_else(|| PatternError::Format {
                found: place.to_owned(),
            })?),
            after: after.to_owned(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        match self.width {
            None => {}
            Some(0) => f.write_str("{}")?,
            Some(width) => write!(f, "{{:0{width}}}")?,
        }
        f.write_str(&self.after)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_inverse() {
        // Pattern, number, text.
        let cases = [
            ("u{:08}", 42, "u00000042"),
            ("u{:08}", 123_456_789, "u123456789"),
            ("alice{}", 0, "alice0"),
            ("alice{}", u32::MAX, "alice4294967295"),
            ("{:04}", 7, "0007"),
            ("sip:echo{:02}@example.org", 7, "sip:echo07@example.org"),
            ("{:010}", 1, "0000000001"),
        ];
        for (pattern, number, text) in cases {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.text::<16>(number).as_str(), text, "{pattern}");
            assert_eq!(parsed.number(text), Some(number), "{pattern}");
            assert_eq!(parsed.to_string(), pattern);
            assert!(parsed.is_numbered());
            let mut written = Vec::new();
            parsed.write(&mut Value::new(&mut written), number);
            assert_eq!(written, text.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn only_what_the_pattern_would_write_is_read() {
        // Pattern, text that no number makes.
        for (pattern, text) in [
            ("u{:08}", "u0000042"),
            ("u{:08}", "u000000042"),
            ("u{:08}", "u+0000042"),
            ("u{:08}", "U00000042"),
            ("u{:08}", "u"),
            ("u{}", "u007"),
            ("u{}", "u4294967296"),
            ("a{}a", "a"),
            ("alice", "alice"),
            ("alice", "bob"),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.number(text), None, "{pattern} {text}");
        }
        let plain: Pattern = "alice".parse().unwrap();
        assert!(!plain.is_numbered());
        assert_eq!(plain.text::<16>(7).as_str(), "alice");
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let braces = |found: &str| PatternError::Braces {
            found: found.to_owned(),
        };
        let format = |found: &str| PatternError::Format {
            found: found.to_owned(),
        };
        for (text, expected) in [
            ("u{", braces("u{")),
            ("u}", braces("u}")),
            ("u{}{}", braces("u{}{}")),
            ("u{{}}", braces("u{{}}")),
            ("u{:4}", format(":4")),
            ("u{:00}", format(":00")),
            ("u{:011}", format(":011")),
            ("u{d}", format("d")),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn travels_as_text() {
        let pattern: Pattern = "alice{:04}".parse().unwrap();
        let json = serde_json::to_string(&pattern).unwrap();
        assert_eq!(json, "\"alice{:04}\"");
        assert_eq!(serde_json::from_str::<Pattern>(&json).unwrap(), pattern);
        assert!(serde_json::from_str::<Pattern>("\"alice{\"").is_err());
    }
}
