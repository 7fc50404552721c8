//! Writes SIP messages into a byte buffer that the caller reuses: one header field after the
//! other, no formatting machinery, no allocation once the buffer has grown.
//!
//! Nothing here checks what it is given: text goes out as it came, so callers pass what they made
//! themselves or what the parser accepted.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::header::Header;
use super::reply::write_status_line;

/// Writes one message at the end of a buffer: start line first, then header fields, then
/// [`Writer::finish`] or one of the bodies.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    /// Starts a request: `method` and Request-URI as they are to be written.
    pub fn request(out: &'b mut Vec<u8>, method: &str, uri: &str) -> Self {
        Self::request_with(out, method, |line| line.text(uri))
    }

    /// Starts a request whose Request-URI is written piece by piece.
    pub fn request_with(
        out: &'b mut Vec<u8>,
        method: &str,
        uri: impl FnOnce(&mut Value<'_>),
    ) -> Self {
        let mut line = Value { out };
        line.text(method);
        line.text(" ");
        uri(&mut line);
        line.text(" SIP/2.0\r\n");
        Self { out }
    }

    /// Starts a response with the usual reason phrase.
    pub fn response(out: &'b mut Vec<u8>, status: u16) -> Self {
        write_status_line(out, status);
        Self { out }
    }

    /// Goes on with a message whose start line is there.
    pub(crate) fn further(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Writes `name: value`.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        self.header_with(name, |line| line.text(value))
    }

    /// Writes a header field whose value is composed piece by piece.
    pub fn header_with(&mut self, name: &str, value: impl FnOnce(&mut Value<'_>)) -> &mut Self {
        let mut line = Value { out: self.out };
        line.text(name);
        line.text(": ");
        value(&mut line);
        line.text("\r\n");
        self
    }

    /// Whole lines, names and line ends too, are written to what this returns.
    pub(crate) fn lines(&mut self) -> Value<'_> {
        Value { out: self.out }
    }

    /// Writes `CSeq`.
    pub fn cseq(&mut self, number: u32, method: &str) -> &mut Self {
        self.header_with(Header::CSeq.name(), |line| {
            line.decimal(number.into());
            line.text(" ");
            line.text(method);
        })
    }

    /// Ends a message without body.
    pub fn finish(self) {
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Ends a message with `body`.
    pub fn body(self, content_type: &str, body: &[u8]) {
        self.body_with(content_type, |out| out.extend_from_slice(body));
    }

    /// Ends a message with the body that `write` appends to the buffer.
    pub fn body_with(mut self, content_type: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.header(Header::ContentType.name(), content_type);
        self.out.extend_from_slice(b"Content-Length: \r\n\r\n");
        let body_from = self.out.len();
        write(self.out);
        // The length is known only now: make room for its digits in front.
        let mut digits = Digits::<20>::default();
        digits.decimal((self.out.len() - body_from) as u64);
        let digits = digits.written();
        let end = self.out.len();
        self.out.extend_from_slice(digits);
        let at = body_from - 4;
        self.out.copy_within(at..end, at + digits.len());
        self.out[at..at + digits.len()].copy_from_slice(digits);
    }
}

/// All hexadecimal digits of a number, in lower case. Eight at a time: every request has four dozen.
pub(super) fn hex_digits(number: u64) -> [u8; 16] {
    let half = |number: u64| {
        // A nibble a byte.
        let spread = (number & 0xffff_0000) << 16 | number & 0xffff;
        let spread = (spread & 0x0000_ff00_0000_ff00) << 8 | spread & 0x0000_00ff_0000_00ff;
        let spread = (spread & 0x00f0_00f0_00f0_00f0) << 4 | spread & 0x000f_000f_000f_000f;
        let is_letter = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        let letters = is_letter * u64::from(b'a' - b'0' - 10);
        (spread + 0x3030_3030_3030_3030 + letters).to_be_bytes()
    };
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&half(number >> 32));
    digits[8..].copy_from_slice(&half(number & 0xffff_ffff));
    digits
}

/// The value of a header field, or a Request-URI, while it is being written.
#[derive(Debug)]
pub struct Value<'w> {
    out: &'w mut Vec<u8>,
}

impl<'w> Value<'w> {
    /// Writes at the end of `out`, for text that is no part of a message that [`Writer`] writes.
    pub fn new(out: &'w mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends what was written before.
    #[inline]
    pub(crate) fn written(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends text as it is.
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Appends a number in decimal digits.
    pub fn decimal(&mut self, number: u64) {
        let mut digits = Digits::<20>::default();
        digits.decimal(number);
        self.out.extend_from_slice(digits.written());
    }

    /// Appends the low `digits` hexadecimal digits of a number, at most 16, in lower case.
    pub fn hex(&mut self, number: u64, digits: u32) {
        let text = hex_digits(number);
        let from = text.len() - digits.min(16) as usize;
        self.out.extend_from_slice(&text[from..]);
    }

    /// Appends bytes as hexadecimal digits, in lower case.
    pub fn hex_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.hex(byte.into(), 2);
        }
    }

    /// Appends an IP address; a version 6 address without brackets.
    pub fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                let mut text = Digits::<ADDRESS_BYTES_MAX>::default();
                text.ipv4(ip);
                self.out.extend_from_slice(text.written());
            }
            IpAddr::V6(ip) => {
                write!(self.out, "{ip}").expect("writing to a Vec cannot fail");
            }
        }
    }

    /// Appends `host:port`, a version 6 address in brackets.
    pub fn address(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                let mut text = Digits::<ADDRESS_BYTES_MAX>::default();
                text.ipv4(*address.ip());
                text.push(b':');
                text.decimal(address.port().into());
                self.out.extend_from_slice(text.written());
            }
            SocketAddr::V6(address) => {
                self.text("[");
                self.ip((*address.ip()).into());
                self.text("]:");
                self.decimal(address.port().into());
            }
        }
    }
}

/// Longest `host:port` of version 4.
const ADDRESS_BYTES_MAX: usize = "255.255.255.255:65535".len();

/// Short text that is put together before it is appended in one go: every message has a handful of
/// addresses, and to append takes longer than to write digits.
struct Digits<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Digits<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Digits<N> {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn decimal(&mut self, mut number: u64) {
        let from = self.length;
        loop {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes[from..self.length].reverse();
    }

    fn ipv4(&mut self, ip: Ipv4Addr) {
        for (index, octet) in ip.octets().into_iter().enumerate() {
            if index > 0 {
                self.push(b'.');
            }
            self.decimal(octet.into());
        }
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(write: impl FnOnce(&mut Value<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Value::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses() {
        for number in [0, 9, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(value(|v| v.decimal(number)), number.to_string());
        }
        assert_eq!(value(|v| v.hex(0xabc, 8)), "00000abc");
        assert_eq!(value(|v| v.hex_bytes(&[0, 0xff])), "00ff");
        for address in ["192.0.2.1:5060", "255.255.255.255:65535", "[2001:db8::1]:1"] {
            let parsed = address.parse().unwrap();
            assert_eq!(value(|v| v.address(parsed)), address);
        }
    }

    #[test]
    fn content_length_is_that_of_the_body() {
        for length in [0, 1, 9, 10, 999, 12_345] {
            let mut out = b"kept".to_vec();
            let mut writer = Writer::request(&mut out, "OPTIONS", "sip:a");
            writer.cseq(7, "OPTIONS");
            writer.body("text/plain", &vec![b'x'; length]);
            let text = String::from_utf8(out).unwrap();
            let expected = format!(
                "keptOPTIONS sip:a SIP/2.0\r\nCSeq: 7 OPTIONS\r\nContent-Type: text/plain\r\n\
                 Content-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            );
            assert_eq!(text, expected);
        }
    }
}
