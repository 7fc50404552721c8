//! What a client flow has to know about whose flow it is. An [`Agent`] is put together for each step of
//! a flow, so that a million idle flows hold no copy of it.

use std::net::SocketAddr;
use std::time::Instant;

use super::account::{Accounts, host_label};
use super::emit::{Value, Writer, hex_digits};
use super::header::Method;
use super::stationery::{Piece, Stationery};
use super::text::Text;
use super::timer::Timing;
use super::transaction::Reliability;

/// Start of every branch of RFC 3261 (§8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One user agent at one end of one flow.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a> {
    /// Accounts, and the domain that they belong to.
    pub accounts: &'a Accounts,
    /// Index of the agent's account.
    pub user: u32,
    /// `UDP`, `TCP` or `TLS`, as `Via` names it.
    pub transport: &'static str,
    /// Whether to retransmit.
    pub reliability: Reliability,
    /// The flow's own address, as `Via` names it.
    pub sent_by: SocketAddr,
    /// Timer values.
    pub timing: &'a Timing,
    /// Makes identifiers unique beyond this process: differs between workers and between runs.
    pub seed: u64,
    /// An instant before every other that flows of this seed see, the same for all of them.
    pub epoch: Instant,
    /// Lifetime that registrations ask for.
    pub expires_seconds: u32,
    /// Of its accounts: of no others.
    pub stationery: &'a Stationery,
}

impl Agent<'_> {
    /// Seed of the identifiers of one dialog: unique by worker (`seed`), flow (`key`) and time.
    pub(crate) fn identity(&self, key: u32, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        mix(self.seed ^ mix(since ^ mix(u64::from(key) << 32 | u64::from(self.user))))
    }

    /// `sip:u00000042@example.com`
    pub(crate) fn write_aor(&self, line: &mut Value<'_>, user: &str) {
        line.text("sip:");
        line.text(user);
        line.text("@");
        line.text(self.accounts.domain());
    }

    /// `Via` and the header fields that need nothing of the flow.
    pub(crate) fn write_via(&self, writer: &mut Writer<'_>, branch: Branch) {
        let mut line = writer.lines();
        self.stationery.write(self, Piece::Via, &mut line);
        branch.write_digits(&mut line);
        line.text(";rport\r\nMax-Forwards: 70\r\n");
    }

    /// `<sip:u00000042@host;transport=tcp>`: where further requests of a dialog go.
    pub(crate) fn write_contact_uri(&self, line: &mut Value<'_>, host: ContactHost) {
        let username = self.accounts.username(self.user);
        line.text("<sip:");
        line.text(&username);
        line.text("@");
        match host {
            ContactHost::Flow => {
                line.text(&host_label(self.user));
                line.text(".invalid");
            }
            ContactHost::Address => line.address(self.sent_by),
        }
        // TLS is named by the scheme or by nothing (RFC 3261 §26.2.2 deprecates transport=tls).
        line.text(match self.reliability {
            Reliability::Datagram => "",
            Reliability::Stream => ";transport=tcp",
        });
        line.text(match host {
            ContactHost::Flow => ">",
            ContactHost::Address => ";ob>",
        });
    }
}

/// What a `Contact` names as its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContactHost {
    /// A name that resolves to nothing, since the user is reached over the flow only; stable
    /// across flows, so that a registration over a new one replaces the binding.
    Flow,
    /// The flow's own address; `;ob` asks that what a dialog brings comes over the flow (RFC 5626
    /// §4.3).
    Address,
}

/// The branch of a transaction: the magic cookie, then eight hexadecimal digits of `key`, then eight of
/// `nonce`. The key lets who sent the request find its flow without a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) key: u32,
    pub(crate) nonce: u32,
}

impl Branch {
    /// The branch of the transaction of `method` and `sequence` within a dialog.
    pub(crate) fn new(key: u32, identity: u64, sequence: u32, method: Method) -> Self {
        let place = u64::from(sequence) << 8 | method as u64;
        let nonce = mix(identity ^ mix(place)) as u32;
        Self { key, nonce }
    }

    fn write_digits(self, line: &mut Value<'_>) {
        line.written(&self.digits());
    }

    /// What follows the magic cookie.
    pub(crate) fn digits(self) -> [u8; 16] {
        hex_digits(u64::from(self.key) << 32 | u64::from(self.nonce))
    }

    /// Whether `text` is this branch.
    pub(crate) fn is(self, text: &str) -> bool {
        let Some(digits) = text.as_bytes().strip_prefix(MAGIC_COOKIE.as_bytes()) else {
            return false;
        };
        // As it was written, unless somebody on the way prefers capitals.
        digits.eq_ignore_ascii_case(&self.digits())
    }
}

/// The key of the flow that a branch was made for; `None` if the branch was not made here.
#[must_use]
pub fn key_of_branch(branch: &[u8]) -> Option<u32> {
    let digits = branch.strip_prefix(MAGIC_COOKIE.as_bytes())?;
    if digits.len() != 16 {
        return None;
    }
    hex_u32(&digits[..8])
}

/// Eight hexadecimal digits.
pub(crate) fn hex_u32(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value: u32, &digit| {
        let digit = HEX[usize::from(digit)];
        (digit < 16).then_some(value << 4 | u32::from(digit))
    })
}

/// What each byte is as a hexadecimal digit; 16 if it is none. A table, since the branch of every response is
/// read.
const HEX: [u8; 256] = {
    let mut table = [16; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Sixteen hexadecimal digits.
pub(crate) fn hex16(value: u64) -> Text<16> {
    let digits = hex_digits(value);
    Text::from(std::str::from_utf8(&digits).expect("digits are ASCII"))
}

/// A bijection that spreads every bit of its input over the output: the finaliser of SplitMix64.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn branches_carry_their_key() {
        let branch = Branch::new(0xabcdef, 7, 1, Method::Invite);
        let mut out = MAGIC_COOKIE.as_bytes().to_vec();
        branch.write_digits(&mut Value::new(&mut out));
        assert_eq!(key_of_branch(&out), Some(0xabcdef));
        let text = std::str::from_utf8(&out).unwrap();
        assert!(branch.is(text));
        assert!(!Branch::new(0xabcdef, 7, 1, Method::Bye).is(text));
        assert!(!Branch::new(0xabcdef, 7, 2, Method::Invite).is(text));
        assert!(!Branch::new(0xabcdef, 8, 1, Method::Invite).is(text));
        assert_eq!(hex_u32(b"0189aFfE"), Some(0x0189_affe));
        for foreign in [
            "",
            "z9hG4bK",
            "z9hG4bK0000000g00000000",
            "z9hG4bK000000 000000000",
            "z9hG4bK00000000000000000",
        ] {
            assert_eq!(key_of_branch(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
