//! Characters, and a place in a text: what the grammar in [`parse`](super) is made of.

use std::net::Ipv6Addr;

/// `token` (RFC 3261 §25.1).
pub(super) const TOKEN: u16 = 1;
/// Linear white space, with the line ends of folded lines.
pub(super) const WHITE: u16 = 1 << 1;
/// A display name without quotes: tokens and white space, and what is not ASCII.
pub(super) const DISPLAY: u16 = 1 << 2;
/// Value of a header field's parameter: `token` and `host`, and what some put into tags besides.
pub(super) const VALUE: u16 = 1 << 3;
/// Name or value of a parameter that was found valid before.
pub(super) const KNOWN: u16 = 1 << 4;
/// A URI as header fields hold it; whether it is a valid one is for [`Uri`](super::Uri) to say.
pub(super) const URI: u16 = 1 << 5;
/// A URI that is not in angle brackets, where `;`, `?` and `,` do not belong to it.
pub(super) const BARE_URI: u16 = 1 << 6;
/// `user` without its escapes.
pub(super) const USER: u16 = 1 << 7;
/// `password` without its escapes.
pub(super) const PASSWORD: u16 = 1 << 8;
/// `paramchar` without its escapes.
pub(super) const URI_PARAM: u16 = 1 << 9;
/// What follows the `?` of a URI, without escapes.
pub(super) const URI_HEADERS: u16 = 1 << 10;
/// A label of a host name but for its hyphens, and the underscore that some have in theirs.
const LABEL: u16 = 1 << 11;
/// Decimal digits.
pub(super) const DIGIT: u16 = 1 << 12;

/// A table, since every byte of every value is asked for.
const CLASSES: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        table[at] = classes_of(at as u8);
        at += 1;
    }
    table
};

const fn classes_of(byte: u8) -> u16 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let unreserved = alphanumeric || is_in(byte, b"-_.!~*'()");
    let graphic = byte > b' ' && byte != 0x7f;
    let white = is_in(byte, b" \t\r\n");
    let token = alphanumeric || is_in(byte, b"-.!%*_+`'~");
    let uri = graphic && !is_in(byte, b"<>\"");
    let mut classes = 0;
    classes |= bit(token, TOKEN);
    classes |= bit(white, WHITE);
    classes |= bit(token || white || byte >= 0x80, DISPLAY);
    classes |= bit(graphic && byte < 0x80 && !is_in(byte, b"\";,<>\\"), VALUE);
    classes |= bit(!white && !is_in(byte, b";=\""), KNOWN);
    classes |= bit(uri, URI);
    classes |= bit(uri && !is_in(byte, b";?,"), BARE_URI);
    classes |= bit(unreserved || is_in(byte, b"&=+$,;?/"), USER);
    classes |= bit(unreserved || is_in(byte, b"&=+$,"), PASSWORD);
    classes |= bit(unreserved || is_in(byte, b"[]/:&+$"), URI_PARAM);
    classes |= bit(unreserved || is_in(byte, b"[]/?:+$=&"), URI_HEADERS);
    classes |= bit(alphanumeric || byte == b'_', LABEL);
    classes | bit(byte.is_ascii_digit(), DIGIT)
}

const fn bit(holds: bool, class: u16) -> u16 {
    if holds { class } else { 0 }
}

const fn is_in(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// How many bytes of one of the classes `bytes` start with.
pub(super) fn prefix(bytes: &[u8], classes: u16) -> usize {
    // Two at a time: bounds are checked and counters raised half as often.
    let (pairs, last) = bytes.as_chunks();
    for (index, &[one, two]) in pairs.iter().enumerate() {
        if !is(one, classes) {
            return 2 * index;
        }
        if !is(two, classes) {
            return 2 * index + 1;
        }
    }
    2 * pairs.len() + usize::from(last.first().is_some_and(|&byte| is(byte, classes)))
}

/// Whether a byte is of one of the classes.
pub(super) fn is(byte: u8, classes: u16) -> bool {
    CLASSES[usize::from(byte)] & classes != 0
}

/// A place in a text. What a method returns lies in front of where it leaves the cursor.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What has not been looked at yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Steps over a byte if it is the expected one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps over a byte that has to be there.
    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    /// Steps over all bytes of one of the classes, of which there may be none.
    pub(super) fn run(&mut self, classes: u16) -> &'a str {
        let from = self.at;
        self.at += prefix(&self.text.as_bytes()[from..], classes);
        &self.text[from..self.at]
    }

    /// Like [`Cursor::run`] for at least one byte.
    pub(super) fn some(&mut self, classes: u16) -> Option<&'a str> {
        match self.run(classes) {
            "" => None,
            run => Some(run),
        }
    }

    /// Bytes of one of the classes and `%HH` escapes, of which there may be none.
    pub(super) fn escaped(&mut self, classes: u16) -> Option<&'a str> {
        let from = self.at;
        loop {
            self.run(classes);
            if !self.eat(b'%') {
                return Some(&self.text[from..self.at]);
            }
            let digits = self.text.as_bytes().get(self.at..self.at + 2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            self.at += 2;
        }
    }

    /// Steps over white space. Returns whether there was any.
    #[inline]
    pub(super) fn white(&mut self) -> bool {
        match self.peek() {
            Some(byte) if is(byte, WHITE) => !self.run(WHITE).is_empty(),
            Some(_) | None => false,
        }
    }

    /// A quoted string, its quotes included.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let close = closing_quote(rest).filter(|_| rest.starts_with('"'))?;
        self.at += close + 1;
        Some(&rest[..=close])
    }

    /// Value of a parameter that was found valid before, unless it is quoted.
    pub(super) fn value(&mut self) -> &'a str {
        let from = self.at;
        while !self.run(KNOWN).is_empty() || self.eat(b'=') {}
        &self.text[from..self.at]
    }

    /// A host: name, IPv4 address, or IPv6 address in its brackets.
    pub(super) fn host(&mut self) -> Option<&'a str> {
        if self.peek() == Some(b'[') {
            let rest = self.rest();
            let end = memchr::memchr(b']', rest.as_bytes())?;
            ipv6(&rest[1..end])?;
            self.at += end + 1;
            return Some(&rest[..=end]);
        }
        let from = self.at;
        self.at += host_length(&self.text.as_bytes()[from..])?;
        Some(&self.text[from..self.at])
    }

    /// A port number.
    pub(super) fn port(&mut self) -> Option<u16> {
        let digits = self.some(DIGIT)?.bytes();
        digits.into_iter().try_fold(0_u16, |port, digit| {
            port.checked_mul(10)?.checked_add((digit - b'0').into())
        })
    }
}

/// Byte offset of the quote that closes the quoted string which `value` starts with.
pub(super) fn closing_quote(value: &str) -> Option<usize> {
    let bytes = value.as_bytes();
    let mut from = 1;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Length of the host name or IPv4 address that `bytes` start with. No label is empty, starts or ends
/// with a hyphen; a last one that starts with a digit is none of a name (RFC 3261 §25.1).
fn host_length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut label, mut last_label) = (0, 0, 0);
    loop {
        let run = prefix(&bytes[at..], LABEL);
        let is_empty = at + run == label;
        at += run;
        if !is_empty {
            last_label = label;
        }
        match bytes.get(at) {
            Some(b'.') if run > 0 => label = at + 1,
            Some(b'-') if !is_empty => {}
            // Nothing need follow the last dot.
            _ if run > 0 || (is_empty && at > 0) => break,
            _ => return None,
        }
        at += 1;
    }
    let host = bytes[..at].strip_suffix(b".").unwrap_or(&bytes[..at]);
    (!bytes[last_label].is_ascii_digit() || is_ipv4(host)).then_some(at)
}

fn is_ipv4(host: &[u8]) -> bool {
    let (mut dots, mut digits, mut value) = (0, 0, 0_u16);
    for &byte in host {
        if byte == b'.' && digits > 0 {
            (dots, digits, value) = (dots + 1, 0, 0);
        } else if byte.is_ascii_digit() && digits < 3 {
            (digits, value) = (digits + 1, value * 10 + u16::from(byte - b'0'));
        } else {
            return false;
        }
        if value > 255 {
            return false;
        }
    }
    dots == 3 && digits > 0
}

/// An IPv6 address without brackets. The third colon that RFC 3261's grammar lets precede an
/// embedded IPv4 address is tolerated (RFC 5118 §4.10).
pub(super) fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (front, back) = text.split_once(":::")?;
        let is_ipv4 = is_ipv4(back.as_bytes());
        is_ipv4.then(|| format!("{front}::{back}").parse().ok())?
    })
}
