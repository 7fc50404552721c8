//! Flow tokens (RFC 5626 §5.2): the user part of the URIs that a proxy puts into `Record-Route` and
//! `Path`. They name the side that a request is to leave by and, where a user agent can be reached
//! over its own flow only, that flow; sealed, so that nobody can make one. So the proxy keeps no
//! state for them, and knows its own URIs by them, whatever their host part says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sip::emit::Value;
use crate::sip::parse::Uri;

/// Longest token: interface, port, version 6 address, seal.
const DIGITS_MAX: usize = 2 + 4 + 32 + 16;

/// Where a request that carries it goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowToken {
    /// The way out, as a place in the server's interfaces.
    pub(crate) interface: usize,
    /// The peer whose flow is to be used; `None` if the rest of the request says where it goes.
    pub(crate) peer: Option<SocketAddr>,
}

impl FlowToken {
    /// Writes `interface port? address? seal` in hexadecimal digits.
    pub(crate) fn write(self, secret: u64, line: &mut Value<'_>) {
        line.hex(self.interface as u64, 2);
        if let Some(peer) = self.peer {
            line.hex(peer.port().into(), 4);
            match peer.ip() {
                IpAddr::V4(ip) => line.hex(u32::from(ip).into(), 8),
                IpAddr::V6(ip) => line.hex_bytes(&ip.octets()),
            }
        }
        line.hex(self.seal(secret), 16);
    }

    /// The token of a URI; `None` if this server did not make it.
    pub(crate) fn of(secret: u64, uri: &Uri<'_>) -> Option<Self> {
        let digits = uri.user?.as_bytes();
        if digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let (place, seal) = digits.split_at_checked(digits.len().checked_sub(16)?)?;
        let (interface, peer) = place.split_at_checked(2)?;
        let address: Option<IpAddr> = match peer.len() {
            0 => None,
            12 => Some(Ipv4Addr::from(hex::<4>(&peer[4..])?).into()),
            36 => Some(Ipv6Addr::from(hex::<16>(&peer[4..])?).into()),
            _ => return None,
        };
        let port = |_| hex::<2>(&peer[..4]).map(u16::from_be_bytes);
        let token = Self {
            interface: hex::<1>(interface)?[0].into(),
            peer: address.and_then(|ip| Some(SocketAddr::new(ip, port(ip)?))),
        };
        (token.seal(secret).to_be_bytes() == hex::<8>(seal)?).then_some(token)
    }

    fn seal(self, secret: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (secret, "flow token", self.interface).hash(&mut hasher);
        let peer = self.peer.map(|peer| (peer.ip(), peer.port()));
        peer.hash(&mut hasher);
        hasher.finish()
    }
}

/// Pairs of hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_maker_knows_its_tokens() {
        for peer in [None, Some("192.0.2.7:40000"), Some("[2001:db8::1]:5060")] {
            let token = FlowToken {
                interface: 1,
                peer: peer.map(|peer| peer.parse().unwrap()),
            };
            let mut out = b"sip:".to_vec();
            token.write(7, &mut Value::new(&mut out));
            out.extend_from_slice(b"@192.0.2.1:5060;lr");
            let text = String::from_utf8(out).unwrap();
            let uri = Uri::parse(&text).unwrap();
            assert_eq!(FlowToken::of(7, &uri), Some(token), "{text}");
            assert_eq!(FlowToken::of(8, &uri), None);
            // Any other digit breaks the seal.
            for at in 4..text.find('@').unwrap() {
                let mut forged = text.clone().into_bytes();
                forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
                let forged = String::from_utf8(forged).unwrap();
                assert_eq!(FlowToken::of(7, &Uri::parse(&forged).unwrap()), None);
            }
        }
        for text in [
            "sip:192.0.2.1",
            "sip:@x",
            "sip:alice@x",
            "sip:00@x",
            "sip:\u{e9}00000000000000000@x",
        ] {
            let token = Uri::parse(text).ok().and_then(|uri| FlowToken::of(7, &uri));
            assert_eq!(token, None, "{text}");
        }
    }
}
