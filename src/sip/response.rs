//! What a client transaction needs of a response: status, topmost branch, `CSeq`.
//!
//! Most responses say nothing else that anybody wants to know, so that is all that is looked for;
//! [`Response::whole`] parses the rest when it is asked for. A response that is not written the usual way – folded
//! lines, white space before colons, quoted parameters – is left to the parser right away. And whoever gets many
//! reads hardly any of them: [`Responses`] knows one that is like an earlier one.

use std::ops::Range;

use memchr::{memchr3, memrchr};

use super::familiar::{Familiar, free_values};
use super::framing::{HeaderLines, find_empty_line, is_token_byte};
use super::header::Method;
use super::message::Message;
use super::parse::{CSeq, Elements, NameAddr};

/// How a response of SIP/2.0 starts.
const VERSION: &[u8] = b"SIP/2.0 ";

/// Start line up to where the reason phrase begins or the line ends.
const STATUS_BYTES: usize = VERSION.len() + 3;

/// A response, as far as its transaction has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    bytes: &'a [u8],
    status: u16,
    branch: &'a str,
    sequence: u32,
    method: Method,
    /// The ends of its dialog, where they are known already.
    ends: Option<DialogEnds<'a>>,
}

/// What its bytes say: whether the ends of the dialog were looked up already is no part of it.
impl PartialEq for Response<'_> {
    fn eq(&self, other: &Self) -> bool {
        let said = |response: &Self| (response.status, response.sequence, response.method);
        self.bytes == other.bytes && self.branch == other.branch && said(self) == said(other)
    }
}

impl Eq for Response<'_> {}

/// What tells the ends of a dialog: the callee's tag, and where it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DialogEnds<'a> {
    pub(super) remote_tag: &'a str,
    pub(super) remote_target: &'a str,
}

impl<'a> Response<'a> {
    /// Looks at one message. `None` if it is no response, or one that no transaction could be found for.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        scan(bytes).or_else(|| {
            let message = Message::parse(bytes).ok()?;
            let (sequence, method) = message.cseq().ok()?;
            Some(Self {
                bytes,
                status: message.status()?,
                branch: message.via().ok()?.branch?,
                sequence,
                method,
                ends: None,
            })
        })
    }

    /// 100 to 699.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The branch of the topmost `Via`.
    #[must_use]
    pub fn branch(&self) -> &'a str {
        self.branch
    }

    /// The number in `CSeq`.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The method in `CSeq`: that of the request.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// All of it; `None` if the rest is no SIP message.
    #[must_use]
    pub fn whole(&self) -> Option<Message<'a>> {
        Message::parse(self.bytes).ok()
    }

    /// The ends of the dialog that it makes, if that has no route. `None` if anything is unusual, or is not there.
    pub(super) fn dialog_ends(&self) -> Option<DialogEnds<'a>> {
        self.ends.or_else(|| {
            let (to, contact) = self.ends_of_dialog()?;
            let contact = NameAddr::parse(Elements::new(contact).next()?)?;
            Some(DialogEnds {
                remote_tag: NameAddr::parse(to)?.tag()?,
                remote_target: contact.uri,
            })
        })
    }

    /// The values of `To` and of the first `Contact`, of a response that makes a dialog without a route. `None` if
    /// anything is unusual, or is not there.
    fn ends_of_dialog(&self) -> Option<(&'a str, &'a str)> {
        let mut lines = HeaderLines::new(&self.bytes[STATUS_BYTES..]);
        lines.next()?;
        let (mut to, mut contact) = (None, None);
        while !lines.is_at_empty_line() {
            let line = lines.next().filter(|line| line.is_plain)?.bytes;
            match line {
                [b't' | b'T', b'o' | b'O', b':', value @ ..] => {
                    to.get_or_insert(value);
                }
                [b'c' | b'C', ..] if names(line, b"contact") => {
                    contact.get_or_insert(line[7..].strip_prefix(b":")?);
                }
                // Routes, and names of one letter or with white space behind them.
                [b'r' | b'R', b'e' | b'E', b'c' | b'C', ..] => return None,
                [b't' | b'T' | b'm' | b'M', second, ..] if !is_token_byte(*second) => return None,
                [b't' | b'T', b'o' | b'O', third, ..] if !is_token_byte(*third) => return None,
                _ => {}
            }
        }
        let text = |value: &'a [u8]| std::str::from_utf8(value.trim_ascii()).ok();
        Some((text(to?)?, text(contact?)?))
    }

    /// The tag of `To`.
    #[must_use]
    pub fn to_tag(&self) -> Option<&'a str> {
        self.whole()?.to().ok()?.tag()
    }
}

/// Responses of those who send many that are alike.
#[derive(Debug, Default)]
pub struct Responses {
    known: Familiar<Found>,
}

/// What was found in a response, and where.
#[derive(Clone, Debug)]
struct Found {
    status: u16,
    sequence: u32,
    method: Method,
    branch: Range<usize>,
    ends: Option<(Range<usize>, Range<usize>)>,
}

impl Responses {
    /// As [`Response::parse`].
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Option<Response<'a>> {
        if let Some(found) = self.known.find(bytes) {
            return Some(found.within(bytes));
        }
        let Some(response) = scan(bytes) else {
            return Response::parse(bytes);
        };
        if let Some(end) = find_empty_line(bytes)
            && let Some(found) = Found::of(&response)
        {
            let head = &bytes[..end + 4];
            let free = |is_free: &mut [bool]| found.free(head, is_free);
            self.known.learn(head, found.clone(), free);
        }
        Some(response)
    }
}

impl Found {
    fn of(response: &Response<'_>) -> Option<Self> {
        let Response {
            bytes,
            status,
            branch,
            sequence,
            method,
            ..
        } = *response;
        let makes_dialog = method == Method::Invite && (200..300).contains(&status);
        let ends = makes_dialog.then(|| response.dialog_ends()).flatten();
        let place = |text: &str| place_of(text, bytes);
        Some(Self {
            status,
            sequence,
            method,
            branch: place(branch)?,
            ends: ends.and_then(|ends| Some((place(ends.remote_tag)?, place(ends.remote_target)?))),
        })
    }

    /// The same, as far as it may differ, in a response that is like the one that this was found in.
    fn within<'a>(&self, bytes: &'a [u8]) -> Response<'a> {
        let text = |place: &Range<usize>| {
            let text = &bytes[place.clone()];
            debug_assert!(std::str::from_utf8(text).is_ok());
            // SAFETY: in the response that this was found in it was a string, and one that is like it has the same
            // bytes there, or an ASCII letter or digit in place of another. Checking that again takes as long as
            // finding it.
            unsafe { std::str::from_utf8_unchecked(text) }
        };
        let ends = self.ends.as_ref();
        Response {
            bytes,
            status: self.status,
            branch: text(&self.branch),
            sequence: self.sequence,
            method: self.method,
            ends: ends.map(|(tag, target)| DialogEnds {
                remote_tag: text(tag),
                remote_target: text(target),
            }),
        }
    }

    /// Frees what nothing of this depends on: lines that were not looked at, branch and tag themselves, and of `Via`
    /// what is in front of all parameters and what is behind the branch.
    fn free(&self, head: &[u8], is_free: &mut [bool]) {
        free_values(head, is_free, |line| match line[0] | 0x20 {
            b'v' => true,
            b'c' => names(line, b"cseq") || self.ends.is_some() && names(line, b"contact"),
            b't' | b'm' => self.ends.is_some(),
            _ => false,
        });
        let branch = self.branch.clone();
        let start = memrchr(b'\n', &head[..branch.start]).map_or(0, |at| at + 1);
        let line = &head[start..branch.start];
        let place = |byte: u8| line.iter().position(|&other| other == byte);
        if let (Some(colon), Some(parameters)) = (place(b':'), place(b';')) {
            is_free[start + colon..start + parameters].fill(true);
        }
        let behind = &head[branch.start..];
        let end = memchr::memchr(b'\n', behind).unwrap_or(behind.len());
        is_free[branch.start..branch.start + end].fill(true);
        if let Some((tag, _)) = &self.ends {
            is_free[tag.clone()].fill(true);
        }
    }
}

/// Where a part of `bytes` is in it.
fn place_of(part: &str, bytes: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    let place = start..start + part.len();
    (bytes.get(place.clone()) == Some(part.as_bytes())).then_some(place)
}

/// The fast way. `None` if anything is unusual.
fn scan(bytes: &[u8]) -> Option<Response<'_>> {
    let status = status(bytes)?;
    let mut lines = HeaderLines::new(&bytes[STATUS_BYTES..]);
    // What is left of the start line.
    lines.next().filter(|line| line.is_plain)?;
    let (mut branch, mut cseq) = (None, None);
    loop {
        let line = lines.next().filter(|line| line.is_plain)?.bytes;
        // Names compare without case; either of these two may be anywhere.
        match line.first()? | 0x20 {
            b'v' if branch.is_none() => branch = Some(branch_of(line)?),
            b'c' if cseq.is_none() && names(line, b"cseq") => {
                let value = line[4..].strip_prefix(b":")?;
                let value = std::str::from_utf8(value.trim_ascii()).ok()?;
                cseq = Some(CSeq::parse(value)?);
            }
            _ => {}
        }
        if let (Some(branch), Some(cseq)) = (branch, cseq) {
            return Some(Response {
                bytes,
                status,
                branch,
                sequence: cseq.number,
                method: Method::from_token(cseq.method_text),
                ends: None,
            });
        }
    }
}

fn status(bytes: &[u8]) -> Option<u16> {
    let [first @ b'1'..=b'6', second, third, b' ' | b'\r', ..] = bytes.strip_prefix(VERSION)?
    else {
        return None;
    };
    let digits = [*first, *second, *third];
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let value = digits.iter().fold(0, |value, digit| {
        value * 10 + u16::from(digit.wrapping_sub(b'0'))
    });
    is_number.then_some(value)
}

/// Whether a line starts with that name, which is in lower case.
fn names(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// The branch of the first element of a `Via` line.
fn branch_of(line: &[u8]) -> Option<&str> {
    let value = match line {
        [_, b':', value @ ..] => value,
        [_, b'i' | b'I', b'a' | b'A', b':', value @ ..] => value,
        _ => return None,
    };
    let mut rest = value;
    let branch = loop {
        let at = memchr3(b';', b',', b'"', rest)?;
        // Behind a comma is another element, and a quoted value could hold anything.
        if rest[at] != b';' {
            return None;
        }
        rest = &rest[at + 1..];
        if let Some(branch) = rest.strip_prefix(b"branch=") {
            break branch;
        }
    };
    let end = branch.iter().position(|byte| !is_token_byte(*byte));
    let end = end.unwrap_or(branch.len());
    let is_whole = matches!(branch.get(end), None | Some(b';' | b','));
    let branch = std::str::from_utf8(&branch[..end]).ok()?;
    (is_whole && !branch.is_empty()).then_some(branch)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::sip::header::Header;

    const USUAL: &str = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/TCP 192.0.2.1:5070;branch=z9hG4bK0000000100000002;rport=5070;received=192.0.2.1\r\n\
        Via: SIP/2.0/TCP 192.0.2.2:5070;branch=z9hG4bKother\r\n\
        From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\nCall-ID: c\r\n\
        CSeq: 7 INVITE\r\nContact: <sip:b@192.0.2.2>\r\nContent-Length: 0\r\n\r\n";

    fn parsed(text: &str) -> Option<(u16, &str, u32, Method)> {
        let response = Response::parse(text.as_bytes())?;
        let Response {
            status,
            branch,
            sequence,
            method,
            ..
        } = response;
        Some((status, branch, sequence, method))
    }

    #[test]
    fn a_usual_response_needs_no_parser() {
        let response = scan(USUAL.as_bytes()).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.branch(), "z9hG4bK0000000100000002");
        assert_eq!(
            (response.sequence(), response.method()),
            (7, Method::Invite)
        );
        assert_eq!(response.to_tag(), Some("2"));
        assert_eq!(response.whole().unwrap().call_id(), Ok("c"));
    }

    #[test]
    fn an_unusual_one_says_the_same() {
        for (usual, unusual) in [
            ("Via:", "v:"),
            ("Via:", "VIA :"),
            ("Via: ", "Via:\r\n "),
            (";branch=z", " ;\tBranch = z"),
            (";branch=z", ";x=\";branch=y\";branch=z"),
            ("CSeq: 7 INVITE", "cseq:\t7\r\n\tINVITE"),
            ("CSeq", "Subject: CSeq: 8 BYE\r\nCSeq"),
            ("200 OK", "200"),
            ("SIP/2.0 200", "sip/2.0 200"),
        ] {
            let text = USUAL.replacen(usual, unusual, 1);
            let expected = Some((200, "z9hG4bK0000000100000002", 7, Method::Invite));
            assert_eq!(parsed(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_ends_of_a_usual_dialog_need_no_parser() {
        let of = |text: &str| {
            let response = Response::parse(text.as_bytes()).unwrap();
            let (to, contact) = response.ends_of_dialog()?;
            Some((to.to_owned(), contact.to_owned()))
        };
        let ends = ("<sip:b@example.com>;tag=2", "<sip:b@192.0.2.2>");
        let ends = Some((ends.0.to_owned(), ends.1.to_owned()));
        assert_eq!(of(USUAL), ends);
        let further = USUAL.replace(
            "Content-L",
            "Contact: <sip:c@192.0.2.2>\r\nTopic: x\r\nContent-L",
        );
        assert_eq!(of(&further), ends, "the first Contact counts");
        let cases = USUAL
            .replace("Contact:", "CONTACT:\t")
            .replace("To:", "to:");
        assert_eq!(of(&cases), ends);
        for (usual, unusual) in [
            ("Contact:", "m:"),
            ("Contact:", "Contact :"),
            ("Contact:", "Nothing:"),
            ("To:", "t:"),
            ("To:", "To :"),
            ("To: ", "To:\r\n "),
            ("Call-ID", "Record-Route: <sip:192.0.2.9;lr>\r\nCall-ID"),
            ("\r\n\r\n", "\r\n"),
        ] {
            assert_eq!(of(&USUAL.replace(usual, unusual)), None, "{unusual}");
        }
    }

    /// What a response says, as whoever reads it asks.
    fn said(response: Option<Response<'_>>) -> impl PartialEq + std::fmt::Debug + '_ {
        response.map(|response| {
            let ends = response.dialog_ends();
            let Response { status, branch, .. } = response;
            (status, branch, response.sequence, response.method, ends)
        })
    }

    #[test]
    fn one_that_is_like_an_earlier_one_says_what_it_says_itself() {
        let mut responses = Responses::default();
        for text in [USUAL, &USUAL.replace("200 OK", "180 Ringing")] {
            assert!(responses.parse(text.as_bytes()).is_some());
        }
        for (old, new) in [
            ("0000000100000002", "0000000a0000000b"),
            ("tag=2", "tag=z"),
            ("192.0.2.1:5070", "192.0.2.9:6180"),
            ("Call-ID: c", "Call-ID: X"),
        ] {
            let text = USUAL.replace(old, new);
            assert!(responses.known.find(text.as_bytes()).is_some(), "{new}");
            let found = responses.parse(text.as_bytes());
            assert_eq!(said(found), said(Response::parse(text.as_bytes())));
        }
        for (old, new) in [
            ("7 INVITE", "8 INVITE"),
            ("b@192.0.2.2", "c@192.0.2.2"),
            (";branch=z", ";brancg=z"),
            ("Call-ID: c", "Call-ID: ;"),
        ] {
            let text = USUAL.replace(old, new);
            assert!(responses.known.find(text.as_bytes()).is_none(), "{new}");
        }
    }

    #[test]
    fn what_belongs_to_no_transaction_is_none() {
        for (found, lacks) in [
            ("Via", "Nothing"),
            ("CSeq: 7", "CSeq: x"),
            (" 200 ", " 2000 "),
            (" 200 ", " 700 "),
            ("SIP/2.0 200 OK", "BYE sip:a SIP/2.0"),
        ] {
            let text = USUAL.replace(found, lacks);
            assert_eq!(parsed(&text), None, "{text}");
        }
        assert_eq!(parsed(""), None);
    }

    proptest! {
        /// Whatever was read before, a response says what it says to whoever reads it first.
        #[test]
        fn what_is_known_changes_nothing(
            changes in prop::collection::vec(
                (0..USUAL.len(), 0..3_usize, "[\\r\\n :;,=\"a-zA-Z0-9]{0,3}", any::<bool>()),
                1..20,
            ),
        ) {
            let mut responses = Responses::default();
            let mut last = USUAL.to_owned();
            for (cut, removed, insert, keeps_length) in changes {
                let removed = if keeps_length { insert.len() } else { removed };
                let cut = cut.min(last.len());
                let behind = (cut + removed).min(last.len());
                let text = format!("{}{insert}{}", &last[..cut], &last[behind..]);
                let found = responses.parse(text.as_bytes());
                prop_assert_eq!(said(found), said(Response::parse(text.as_bytes())), "{}", text);
                if keeps_length && found.is_some() {
                    last = text;
                }
            }
        }

        /// Where the fast way finds something, the parser finds the same, or has a reason to refuse the
        /// head that nobody asked about.
        #[test]
        fn both_ways_agree(
            cut in 0..USUAL.len(),
            removed in 0..20_usize,
            insert in "[\\r\\n :;,=\"a-zA-Z0-9]{0,12}",
        ) {
            let behind = (cut + removed).min(USUAL.len());
            let text = format!("{}{insert}{}", &USUAL[..cut], &USUAL[behind..]);
            if let Some(fast) = scan(text.as_bytes())
                && let Ok(message) = Message::parse(text.as_bytes())
                && message.check().is_ok()
            {
                prop_assert_eq!(message.status(), Some(fast.status));
                prop_assert_eq!(message.via().unwrap().branch, Some(fast.branch));
                prop_assert_eq!(message.cseq().unwrap(), (fast.sequence, fast.method));
                if let Some((to, contact)) = fast.ends_of_dialog() {
                    prop_assert_eq!(message.header(Header::To), Some(to));
                    prop_assert_eq!(message.header(Header::Contact), Some(contact));
                    prop_assert_eq!(message.header(Header::RecordRoute), None);
                }
            }
        }
    }
}
