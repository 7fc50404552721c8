//! The branch that a proxy puts into its `Via` (RFC 3261 §16.6 step 8): it finds the response context
//! without a look-up, cannot be guessed, and tells a loop from a spiral (RFC 5393 §4.2.1).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::sip::agent::{MAGIC_COOKIE, hex_u32};
use crate::sip::emit::Value;
use crate::sip::header::Header;
use crate::sip::message::Message;

/// Hexadecimal digits behind the magic cookie: slot, nonce, and what tells loops.
const DIGITS: usize = 8 + 16 + 8;

/// A branch that a proxy made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyBranch {
    /// Place of the response context.
    pub(crate) slot: u32,
    /// Which of the slot's contexts; unpredictable, so that nobody can forge a response.
    pub(crate) nonce: u64,
    /// The same for two requests that are routed alike.
    pub(crate) route_hash: u32,
}

impl ProxyBranch {
    pub(crate) fn write(self, line: &mut Value<'_>) {
        line.text(MAGIC_COOKIE);
        line.hex(self.slot.into(), 8);
        line.hex(self.nonce, 16);
        line.hex(self.route_hash.into(), 8);
    }

    /// `None` if no proxy of this kind made it.
    pub(crate) fn parse(branch: &str) -> Option<Self> {
        let digits = branch.strip_prefix(MAGIC_COOKIE)?.as_bytes();
        if digits.len() != DIGITS {
            return None;
        }
        let nonce =
            u64::from(hex_u32(&digits[8..16])?) << 32 | u64::from(hex_u32(&digits[16..24])?);
        Some(Self {
            slot: hex_u32(&digits[..8])?,
            nonce,
            route_hash: hex_u32(&digits[24..])?,
        })
    }
}

/// Hash of what decides where a request goes, and of what makes it this request.
pub(crate) fn route_hash(secret: u64, request: &Message<'_>, uri: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    uri.hash(&mut hasher);
    for header in [Header::CallId, Header::CSeq, Header::ProxyRequire] {
        request.header(header).hash(&mut hasher);
    }
    for route in request.lines(Header::Route) {
        route.hash(&mut hasher);
    }
    let from = request.from().ok();
    from.and_then(|from| from.tag()).hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let branch = ProxyBranch {
            slot: 0xabc,
            nonce: 0x0123_4567_89ab_cdef,
            route_hash: 0xfedc_ba98,
        };
        let mut out = Vec::new();
        branch.write(&mut Value::new(&mut out));
        let text = String::from_utf8(out).expect("digits are ASCII");
        assert_eq!(text, "z9hG4bK00000abc0123456789abcdeffedcba98");
        assert_eq!(ProxyBranch::parse(&text), Some(branch));
        for foreign in [
            "",
            "z9hG4bK",
            "z9hG4bK00000abc0123456789abcdeffedcba9g",
            &text[1..],
        ] {
            assert_eq!(ProxyBranch::parse(foreign), None, "{foreign}");
        }
    }
}
