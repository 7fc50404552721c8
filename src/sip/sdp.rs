//! The smallest session description that offer and answer can agree on: one PCMU audio stream
//! (RFC 4566, RFC 3264). Bodies are carried, not interpreted; no media flows.

use std::net::SocketAddr;

use super::emit::Value;

/// Media type of a session description.
pub const CONTENT_TYPE: &str = "application/sdp";

/// Appends an offer, or the answer that accepts one. `session` identifies it (RFC 4566 §5.2);
/// `media` is where audio would be received.
pub fn write(out: &mut Vec<u8>, session: u32, media: SocketAddr) {
    let mut body = Value::new(out);
    let family = if media.is_ipv6() { "IP6 " } else { "IP4 " };
    body.text("v=0\r\no=- ");
    body.decimal(session.into());
    body.text(" 1 IN ");
    body.text(family);
    body.ip(media.ip());
    body.text("\r\ns=-\r\nc=IN ");
    body.text(family);
    body.ip(media.ip());
    body.text("\r\nt=0 0\r\nm=audio ");
    body.decimal(media.port().into());
    body.text(" RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn has_the_mandatory_lines_in_order() {
        let mut out = Vec::new();
        write(&mut out, 7, "[2001:db8::1]:4000".parse().unwrap());
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\n"));
        let kinds: String = text
            .lines()
            .filter_map(|line| line.chars().next())
            .collect();
        assert_eq!(kinds, "vosctma");
        assert!(text.contains("o=- 7 1 IN IP6 2001:db8::1\r\n"));
        assert!(text.contains("m=audio 4000 RTP/AVP 0\r\n"));
    }
}
