//! Where a SIP message ends in a stream of bytes.
//!
//! A stream carries messages back to back; `Content-Length` is what separates them (RFC 3261
//! §18.3), with keep-alives of bare line ends in between (RFC 5626 §3.5.1). [`next`] looks at the
//! start of a receive buffer and says what lies there. It is the only part of `sip` that
//! transports use, and it does not parse: whether a framed message is a valid one is for
//! the parser to say.
//!
//! Peers are not trusted here. Whatever cannot become a SIP message is refused with the first line
//! that shows it, so nobody can make us buffer 64 KiB of garbage.

mod lines;

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use super::familiar::{Familiar, free_values};
pub(crate) use lines::HeaderLines;

/// Longest message that is accepted, from start line to the end of the body.
pub const MAX_MESSAGE_BYTES: usize = 65_536;

/// Most header fields that a message may have. Checked by the parser, which can still answer 400.
pub const MAX_HEADERS: usize = 128;

/// Longest start line that is accepted, its line end included.
pub const MAX_START_LINE_BYTES: usize = 8_192;

/// What a ping of RFC 5626 §3.5.1 consists of.
pub const PING: &[u8] = b"\r\n\r\n";

/// What answers a ping.
pub const PONG: &[u8] = b"\r\n";

/// What lies at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message.
    Message {
        /// From start line to the end of its body, in bytes.
        length: usize,
    },
    /// A keep-alive that is answered with [`PONG`]; as long as [`PING`].
    Ping,
    /// An empty line: the answer to a ping, or one that a sender put before a start line
    /// (RFC 3261 §7.5) and that is skipped; as long as [`PONG`].
    Pong,
    /// More bytes are needed to tell.
    Incomplete,
}

/// Why what lies at the start of a buffer can never become a message. The stream cannot be
/// resynchronised, so its connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// The first line is no start line of SIP.
    #[error("expected a SIP start line, found {0}")]
    NotSip(&'static str),
    /// The header fields do not end within the size of a message.
    #[error("expected the header fields to end within {MAX_MESSAGE_BYTES} bytes, found no end")]
    HeadersTooLong,
    /// Header fields and body together exceed the limit.
    #[error("expected a message of at most {MAX_MESSAGE_BYTES} bytes, found one of {bytes}")]
    MessageTooLong {
        /// Size that the message would have.
        bytes: usize,
    },
    /// A message on a stream must say how long its body is.
    #[error("expected a Content-Length, which a stream requires, found none")]
    NoContentLength,
    /// `Content-Length` is not a number.
    #[error("expected a number in Content-Length, found something else")]
    BadContentLength,
    /// `Content-Length` occurs twice with different values.
    #[error("expected one Content-Length, found {first} and {second}")]
    ConflictingContentLength {
        /// The value that came first.
        first: usize,
        /// The value that contradicts it.
        second: usize,
    },
}

/// Says what lies at the start of `buffer`, the bytes of a stream that were not consumed yet.
/// The caller consumes the frame and calls again; after [`Frame::Incomplete`] it reads more first.
///
/// A buffer of exactly one empty line is [`Frame::Incomplete`], since it may be the first half of a
/// ping. The end that sent a ping, and so expects a pong and no ping, asks [`is_pong`] as well.
///
/// # Errors
/// When no further bytes could make a message of what is there.
pub fn next(buffer: &[u8]) -> Result<Frame, FramingError> {
    if let [b'\r', rest @ ..] = buffer {
        return match rest {
            [b'\n', b'\r', b'\n', ..] => Ok(Frame::Ping),
            [] | [b'\n'] | [b'\n', b'\r'] => Ok(Frame::Incomplete),
            [b'\n', ..] => Ok(Frame::Pong),
            [_, ..] => Err(FramingError::NotSip("a carriage return alone")),
        };
    }
    let Some(start_line_bytes) = start_line(buffer)? else {
        return Ok(Frame::Incomplete);
    };
    let within = &buffer[..buffer.len().min(MAX_MESSAGE_BYTES)];
    let mut lines = HeaderLines::new(&within[start_line_bytes..]);
    let mut body_bytes = Ok(None);
    while !lines.is_at_empty_line() {
        let Some(line) = lines.next() else {
            return if buffer.len() >= MAX_MESSAGE_BYTES {
                Err(FramingError::HeadersTooLong)
            } else {
                Ok(Frame::Incomplete)
            };
        };
        // What is wrong counts only of a head that is whole.
        if let Ok(found) = body_bytes {
            body_bytes = content_length(line.bytes, found);
        }
    }
    let head_bytes = start_line_bytes + lines.at() + 2;
    let body_bytes = body_bytes?.ok_or(FramingError::NoContentLength)?;
    let length = head_bytes.saturating_add(body_bytes);
    if length > MAX_MESSAGE_BYTES {
        return Err(FramingError::MessageTooLong { bytes: length });
    }
    if length > buffer.len() {
        return Ok(Frame::Incomplete);
    }
    Ok(Frame::Message { length })
}

/// Says what [`next`] does, for whoever looks at many messages: heads that are like an earlier one are not searched
/// for their end. Remembers what it needs for that, a few of them.
#[derive(Debug, Default)]
pub struct Framer {
    /// How long the message is of which each is the head.
    lengths: Familiar<usize>,
}

impl Framer {
    /// As [`next`].
    ///
    /// # Errors
    /// As [`next`].
    pub fn next(&mut self, buffer: &[u8]) -> Result<Frame, FramingError> {
        if let Some(&length) = self.lengths.find(buffer) {
            return Ok(if length > buffer.len() {
                Frame::Incomplete
            } else {
                Frame::Message { length }
            });
        }
        let frame = next(buffer)?;
        if let Frame::Message { length } = frame
            && let Some(end) = find_empty_line(&buffer[..length])
        {
            let head = &buffer[..end + 4];
            let is_read = |line: &[u8]| may_be_content_length(line);
            self.lengths.learn(head, length, |is_free| {
                free_values(head, is_free, is_read);
            });
        }
        Ok(frame)
    }
}

/// The head of a message whose end cannot be found though its head is whole: `error` is what [`next`]
/// says of `buffer`. A request deserves an answer before its connection is closed (RFC 3261 §18.3).
#[must_use]
pub fn unframed_head<'b>(buffer: &'b [u8], error: &FramingError) -> Option<&'b [u8]> {
    match error {
        FramingError::NotSip(_) | FramingError::HeadersTooLong => None,
        FramingError::MessageTooLong { .. }
        | FramingError::NoContentLength
        | FramingError::BadContentLength
        | FramingError::ConflictingContentLength { .. } => {
            find_empty_line(buffer).map(|end| &buffer[..end + 4])
        }
    }
}

/// Byte offset of the line end that precedes the first empty line.
pub(crate) fn find_empty_line(bytes: &[u8]) -> Option<usize> {
    // Preparing the search would take longer than searching a message.
    static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    EMPTY_LINE.find(bytes)
}

/// Whether `buffer` is one empty line and nothing else: the whole answer to a ping. Only the end
/// that sent a ping can know that no second half follows.
#[must_use]
pub fn is_pong(buffer: &[u8]) -> bool {
    buffer == PONG
}

/// Length of the start line with its line end, or `None` if the line is not complete and could
/// still become one.
fn start_line(buffer: &[u8]) -> Result<Option<usize>, FramingError> {
    let within = &buffer[..buffer.len().min(MAX_START_LINE_BYTES)];
    let control = within.iter().position(|&byte| byte < 0x20 || byte == 0x7f);
    let line = &within[..control.unwrap_or(within.len())];
    if line.first().is_some_and(|&byte| !is_token_byte(byte)) {
        return Err(FramingError::NotSip(
            "a first byte that starts neither a method nor a version",
        ));
    }
    let Some(control) = control else {
        return if within.len() == MAX_START_LINE_BYTES {
            Err(FramingError::NotSip("a line beyond the limit"))
        } else {
            Ok(None)
        };
    };
    match within[control..] {
        [b'\r', b'\n', ..] if names_sip(line) => Ok(Some(control + 2)),
        [b'\r', b'\n', ..] => Err(FramingError::NotSip("a line that does not name SIP")),
        [b'\r'] if within.len() < MAX_START_LINE_BYTES => Ok(None),
        _ => Err(FramingError::NotSip("a control character")),
    }
}

/// Whether a complete first line carries the protocol's name, as first word (response) or as last
/// (request). The version is left to the parser, since an unknown one deserves an answer (505).
fn names_sip(line: &[u8]) -> bool {
    let is_version = |word: &[u8]| {
        word.get(..4)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/"))
    };
    let last_word = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next();
    is_version(line) || last_word.is_some_and(|word| word.len() < line.len() && is_version(word))
}

/// The value of `Content-Length` if `line` is one, else what was `found` before.
fn content_length(line: &[u8], found: Option<usize>) -> Result<Option<usize>, FramingError> {
    // Most lines are not, and show it.
    let header = Some(line).filter(|line| may_be_content_length(line));
    let header = header.and_then(split_header);
    let Some((name, value)) = header else {
        return Ok(found);
    };
    if !(name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"l")) {
        return Ok(found);
    }
    let value = decimal(value).ok_or(FramingError::BadContentLength)?;
    match found {
        Some(first) if first != value => Err(FramingError::ConflictingContentLength {
            first,
            second: value,
        }),
        Some(_) | None => Ok(Some(value)),
    }
}

/// Whether a header line starts as `Content-Length` does, or as its short form.
fn may_be_content_length(line: &[u8]) -> bool {
    match line {
        [b'c' | b'C', ..] => line.get(8).is_some_and(|byte| byte | 0x20 == b'l'),
        [b'l' | b'L', second, ..] => !is_token_byte(*second),
        _ => false,
    }
}

/// Splits a header line at its colon; white space around name and value does not belong to either.
fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let name = trim_end(&line[..colon]);
    Some((name, trim(&line[colon + 1..])))
}

/// Strips the linear white space of RFC 3261 §25.1, folded line ends included.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = value {
        value = rest;
    }
    trim_end(value)
}

fn trim_end(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = value {
        value = rest;
    }
    value
}

/// Digits and nothing else, at most nine after leading zeros.
fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0_usize, |value, digit| {
        let value = value * 10 + usize::from(digit - b'0');
        (value < 1_000_000_000).then_some(value)
    })
}

/// `token` of RFC 3261 §25.1.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// A table, since every byte of every header name is asked for.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let extra = b"-.!%*_+`'~";
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        table[extra[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nContent-Length: 4\r\n\r\nbody";

    const LONG: &[u8] =
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nCall-ID: 1\r\n\
        Content-Length: 4\r\nCSeq: 1 OPTIONS\r\n\r\nbody and the next";

    #[test]
    fn a_familiar_head_is_framed_with_what_is_behind_it() {
        let mut framer = Framer::default();
        let length = LONG.len() - 13;
        assert_eq!(framer.next(LONG), Ok(Frame::Message { length }));
        let other = String::from_utf8_lossy(LONG).replace("Call-ID: 1", "Call-ID: z");
        assert_eq!(framer.lengths.find(other.as_bytes()), Some(&length));
        for end in 0..length {
            let expected = Ok(Frame::Incomplete);
            assert_eq!(framer.next(&other.as_bytes()[..end]), expected, "{end}");
        }
        let longer = other.replace("Length: 4", "Length: 5");
        let length = length + 1;
        assert_eq!(
            framer.next(longer.as_bytes()),
            Ok(Frame::Message { length })
        );
    }

    fn message(headers: &str, body: &str) -> Vec<u8> {
        format!("OPTIONS sip:a@b SIP/2.0\r\n{headers}\r\n{body}").into_bytes()
    }

    #[test]
    fn every_prefix_is_incomplete_and_the_whole_is_a_message() {
        for end in 0..MESSAGE.len() {
            assert_eq!(next(&MESSAGE[..end]), Ok(Frame::Incomplete), "{end} bytes");
        }
        let length = MESSAGE.len();
        assert_eq!(next(MESSAGE), Ok(Frame::Message { length }));
        let two = [MESSAGE, MESSAGE].concat();
        assert_eq!(next(&two), Ok(Frame::Message { length }));
    }

    #[test]
    fn keep_alives() {
        let table: [(&[u8], Frame); 8] = [
            (b"", Frame::Incomplete),
            (b"\r", Frame::Incomplete),
            (b"\r\n", Frame::Incomplete),
            (b"\r\n\r", Frame::Incomplete),
            (b"\r\n\r\n", Frame::Ping),
            (b"\r\n\r\n\r\n", Frame::Ping),
            (b"\r\nSIP/2.0", Frame::Pong),
            (b"\r\n\r\nSIP/2.0", Frame::Ping),
        ];
        for (bytes, expected) in table {
            assert_eq!(next(bytes), Ok(expected), "{bytes:?}");
        }
        assert!(is_pong(b"\r\n") && !is_pong(b"\r\n\r\n"));
    }

    #[test]
    fn content_length_in_every_spelling() {
        for header in [
            "Content-Length: 4",
            "l:4",
            "L : 4",
            "CONTENT-LENGTH\t:\t0004 ",
            "content-length:\r\n 4",
            "Content-Length: 4\r\nl: 4",
            "Subject: folded\r\n Content-Length: 9\r\nContent-Length: 4",
            "Subject: bare \n Content-Length: 9\r\nContent-Length: 4",
        ] {
            let bytes = message(&format!("{header}\r\n"), "body");
            let length = bytes.len();
            assert_eq!(next(&bytes), Ok(Frame::Message { length }), "{header}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_framed() {
        let conflict = FramingError::ConflictingContentLength {
            first: 4,
            second: 5,
        };
        for (headers, error) in [
            ("Via: x\r\n", FramingError::NoContentLength),
            ("", FramingError::NoContentLength),
            ("l:\r\n", FramingError::BadContentLength),
            ("l: -1\r\n", FramingError::BadContentLength),
            ("l: 4 4\r\n", FramingError::BadContentLength),
            (
                "l: 99999999999999999999\r\n",
                FramingError::BadContentLength,
            ),
            ("l: 4\r\nContent-Length: 5\r\n", conflict),
        ] {
            assert_eq!(next(&message(headers, "body")), Err(error), "{headers}");
        }
    }

    #[test]
    fn refuses_garbage_with_its_first_line() {
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"GET / HTTP/1.1\r\n",
            b"SIP/2.0\0",
            b"OPTIONS sip:a@b SIP/2.0\n",
            b"\rx",
            b" OPTIONS",
            b"SIPS/2.0 200 OK\r\n",
            b"OPTIONS\r\n",
            &[b'a'; MAX_START_LINE_BYTES],
        ] {
            assert!(
                matches!(next(garbage), Err(FramingError::NotSip(_))),
                "{garbage:?}"
            );
        }
        // An unknown version is the parser's business.
        assert_eq!(next(b"OPTIONS sip:a@b SIP/7.0\r\n"), Ok(Frame::Incomplete));
    }

    #[test]
    fn limits_are_exact() {
        let head = message("Content-Length: 00000\r\n", "").len();
        let fits = MAX_MESSAGE_BYTES - head;
        let header = |bytes: usize| format!("Content-Length: {bytes:05}\r\n");
        let bytes = message(&header(fits), &"x".repeat(fits));
        assert_eq!(bytes.len(), MAX_MESSAGE_BYTES);
        let length = MAX_MESSAGE_BYTES;
        assert_eq!(next(&bytes), Ok(Frame::Message { length }));
        // Refused from the head alone, before the body is buffered.
        assert_eq!(
            next(&message(&header(fits + 1), "")),
            Err(FramingError::MessageTooLong {
                bytes: MAX_MESSAGE_BYTES + 1
            })
        );
        let mut endless = message("", "");
        endless.truncate(endless.len() - 2);
        endless.resize(MAX_MESSAGE_BYTES - 1, b'x');
        assert_eq!(next(&endless), Ok(Frame::Incomplete));
        endless.push(b'x');
        assert_eq!(next(&endless), Err(FramingError::HeadersTooLong));
    }

    proptest! {
        /// Whatever was framed before, a buffer is framed as by whoever sees it first.
        #[test]
        fn what_is_known_changes_nothing(
            has_both_forms in any::<bool>(),
            changes in proptest::collection::vec(
                (0..LONG.len(), 0..3_usize, "[\\r\\n :lL0-9a-z]{0,3}", any::<bool>()),
                1..20,
            ),
        ) {
            let mut framer = Framer::default();
            let mut last = LONG.to_vec();
            if has_both_forms {
                let long = std::str::from_utf8(LONG).expect("it is text");
                let short_first = "\r\nl: 4\r\nContent-Length: 4\r\n";
                last = long.replace("\r\nContent-Length: 4\r\n", short_first).into_bytes();
                prop_assert_ne!(&last, LONG);
            }
            for (cut, removed, insert, keeps_length) in changes {
                let removed = if keeps_length { insert.len() } else { removed };
                let cut = cut.min(last.len());
                let behind = (cut + removed).min(last.len());
                let bytes = [&last[..cut], insert.as_bytes(), &last[behind..]].concat();
                let framed = framer.next(&bytes);
                prop_assert_eq!(&framed, &next(&bytes), "{}", String::from_utf8_lossy(&bytes));
                if let (true, Ok(Frame::Message { .. })) = (keeps_length, framed) {
                    last = bytes;
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = next(&bytes);
            let _ = next(&[MESSAGE, &bytes].concat());
            let _ = next(&[&MESSAGE[..30], &bytes].concat());
        }

        #[test]
        fn a_frame_lies_within_the_buffer(cut in 0..MESSAGE.len(), insert in "[\r\n :lL0-9]{0,8}") {
            let bytes = [&MESSAGE[..cut], insert.as_bytes(), &MESSAGE[cut..]].concat();
            if let Ok(Frame::Message { length }) = next(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
