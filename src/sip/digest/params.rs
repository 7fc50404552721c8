//! The grammar that challenges and credentials share: `Digest name=value, name="value"` (RFC 3261
//! §25.1). Values lose their quotes and are otherwise left as they were written.

use super::DigestError;

/// Calls `apply` with the name in lower case; names too long to be known are skipped.
pub(super) fn match_name(name: &str, apply: impl FnOnce(&str)) {
    let mut lower = [0; 16];
    if let Some(lower) = lower.get_mut(..name.len()) {
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        apply(std::str::from_utf8(lower).unwrap_or_default());
    }
}

/// `name=value, name="value"` behind the scheme.
pub(super) struct AuthParams<'a> {
    rest: &'a str,
}

impl<'a> AuthParams<'a> {
    pub(super) fn of_digest(value: &'a str) -> Result<Self, DigestError> {
        let (scheme, rest) = value
            .split_once(|c: char| c.is_ascii_whitespace())
            .ok_or(DigestError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(DigestError::Scheme);
        }
        Ok(Self { rest })
    }
}

impl<'a> Iterator for AuthParams<'a> {
    type Item = Result<(&'a str, &'a str), DigestError>;

    fn next(&mut self) -> Option<Self::Item> {
        let separator = |c: char| c == ',' || c.is_ascii_whitespace();
        let rest = self.rest.trim_start_matches(separator);
        if rest.is_empty() {
            return None;
        }
        let Some((name, value)) = rest.split_once('=') else {
            self.rest = "";
            return Some(Err(DigestError::Malformed));
        };
        let value = value.trim_ascii_start();
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => {
                let Some(end) = end_of_quoted(quoted) else {
                    self.rest = "";
                    return Some(Err(DigestError::Malformed));
                };
                (&quoted[..end], &quoted[end + 1..])
            }
            None => {
                let (bare, rest) = value.split_at(value.find(separator).unwrap_or(value.len()));
                // It may be returned within quotes, which these would end.
                if bare.contains(['"', '\\']) {
                    self.rest = "";
                    return Some(Err(DigestError::Malformed));
                }
                (bare, rest)
            }
        };
        self.rest = rest;
        Some(Ok((name.trim_ascii(), value)))
    }
}

/// Offset of the closing quote; a backslash takes the quoting from what follows it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}
