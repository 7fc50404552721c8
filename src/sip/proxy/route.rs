//! Where a request goes (RFC 3261 §16.4, §16.5): the routes that were recorded here come off, and
//! what is then on top, or else the Request-URI, is the next hop.

use std::net::{IpAddr, SocketAddr};

use super::token::FlowToken;
use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::parse::{NameAddr, Uri};
use crate::sip::server::{Interface, NextHop, Route};

/// Most routes of its own that a proxy takes off a request: two are recorded at each passage.
const OWN_ROUTES_MAX: usize = 6;

/// Most routes that are taken off in all: a strict router's goes into the Request-URI.
pub(crate) const ROUTES_POPPED_MAX: usize = OWN_ROUTES_MAX + 1;

/// What `Route` and Request-URI say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Routing<'a> {
    /// The Request-URI to be forwarded.
    pub(crate) uri: &'a str,
    /// How many elements of `Route` were our own.
    pub(crate) routes_popped: usize,
    /// What the last of them says.
    pub(crate) token: Option<FlowToken>,
    /// The topmost route that is left.
    pub(crate) next: Option<&'a str>,
    /// The Request-URI that goes to the end of `Route`, because the next hop is a strict router.
    pub(crate) last_route: Option<&'a str>,
}

impl<'a> Routing<'a> {
    /// Reads `Route` of a request to `uri`. `None` when it is malformed.
    pub(crate) fn of(
        request: &Message<'a>,
        uri: &'a str,
        secret: u64,
        interfaces: &[Interface],
    ) -> Option<Self> {
        let mut routing = Self {
            uri,
            routes_popped: 0,
            token: None,
            next: None,
            last_route: None,
        };
        if request.header(Header::Route).is_none() {
            return Some(routing);
        }
        for element in request.elements(Header::Route) {
            let address = NameAddr::parse(element)?;
            let Ok(route) = Uri::parse(address.uri) else {
                return None;
            };
            let token = FlowToken::of(secret, &route);
            let is_own = token.is_some() || (route.user.is_none() && is_own(&route, interfaces));
            if !is_own || routing.routes_popped == OWN_ROUTES_MAX {
                routing.next = Some(address.uri);
                if !route.params.has("lr") {
                    // A strict router wants to find itself in the Request-URI.
                    routing.routes_popped += 1;
                    routing.uri = address.uri;
                    routing.last_route = Some(uri);
                }
                break;
            }
            routing.routes_popped += 1;
            routing.token = token.or(routing.token);
        }
        Some(routing)
    }

    /// Where the request goes by its routes or its Request-URI; `None` when that is nowhere that
    /// can be reached.
    pub(crate) fn hop(&self, interfaces: &[Interface], routes: &[Route]) -> Option<NextHop> {
        let uri = Uri::parse(self.next.unwrap_or(self.uri)).ok()?;
        let way_out = self.token.map(|token| token.interface);
        match ip_of(&uri) {
            Some(ip) => Some(NextHop {
                interface: way_out.or_else(|| interface_for(&uri, interfaces))?,
                address: SocketAddr::new(ip, port_of(&uri)),
            }),
            None => routes
                .iter()
                .find(|route| match &route.domain {
                    Some(domain) => uri.host.eq_ignore_ascii_case(domain),
                    None => true,
                })
                .map(|route| route.hop),
        }
    }
}

/// Whether a URI names this server: address and port of one of its interfaces.
pub(crate) fn is_own(uri: &Uri<'_>, interfaces: &[Interface]) -> bool {
    let port = port_of(uri);
    ip_of(uri).is_some_and(|ip| {
        interfaces.iter().any(|interface| {
            let own = interface.address.ip().to_canonical();
            interface.address.port() == port && (own.is_unspecified() || own == ip)
        })
    })
}

fn ip_of(uri: &Uri<'_>) -> Option<IpAddr> {
    let host = uri.host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn port_of(uri: &Uri<'_>) -> u16 {
    let default = if is_sips(uri) { 5061 } else { 5060 };
    uri.port.unwrap_or(default)
}

pub(crate) fn is_sips(uri: &Uri<'_>) -> bool {
    uri.scheme.eq_ignore_ascii_case("sips")
}

/// The interface that a URI asks for by its scheme and `transport` (RFC 3263 §4.1).
fn interface_for(uri: &Uri<'_>, interfaces: &[Interface]) -> Option<usize> {
    let transport = match uri.params.value("transport") {
        _ if is_sips(uri) => "TLS",
        Some(transport) => transport,
        None => "UDP",
    };
    interfaces
        .iter()
        .position(|interface| {
            !interface.is_internal && interface.transport.eq_ignore_ascii_case(transport)
        })
        // What cannot be had as asked for is tried as it can.
        .or((!is_sips(uri) && !interfaces.is_empty()).then_some(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sip::emit::Value;

    const SECRET: u64 = 7;

    fn interfaces() -> Vec<Interface> {
        vec![
            Interface::unprotected("UDP", "192.0.2.1:5060".parse().unwrap()),
            Interface::unprotected("TCP", "192.0.2.1:5062".parse().unwrap()),
        ]
    }

    fn own(interface: usize, peer: Option<&str>) -> String {
        let token = FlowToken {
            interface,
            peer: peer.map(|peer| peer.parse().unwrap()),
        };
        let mut out = b"<sip:".to_vec();
        token.write(SECRET, &mut Value::new(&mut out));
        out.extend_from_slice(b"@elsewhere;lr>");
        String::from_utf8(out).unwrap()
    }

    /// Popped, token, next hop, last route.
    fn routed(uri: &str, route: &str) -> Option<(usize, Option<usize>, Option<String>, bool)> {
        let line = if route.is_empty() {
            String::new()
        } else {
            format!("Route: {route}\r\n")
        };
        let text = format!("BYE {uri} SIP/2.0\r\n{line}\r\n");
        let request = Message::parse(text.as_bytes()).unwrap();
        let routing = Routing::of(&request, uri, SECRET, &interfaces())?;
        let route = |domain: Option<&str>, address: &str| Route {
            domain: domain.map(Into::into),
            hop: NextHop {
                interface: 1,
                address: address.parse().unwrap(),
            },
        };
        let routes = [route(Some("b.test"), "192.0.2.66:5060")];
        let hop = routing.hop(&interfaces(), &routes);
        Some((
            routing.routes_popped,
            routing.token.map(|token| token.interface),
            hop.map(|hop| format!("{} {}", hop.interface, hop.address)),
            routing.last_route.is_some(),
        ))
    }

    #[test]
    fn next_hops() {
        let (left, right) = (own(0, None), own(1, Some("192.0.2.9:4000")));
        let both = format!("{left}, {right}");
        let onward = format!("{left},{right},<sip:192.0.2.3;lr>");
        let hop = |hop: &str| Some(hop.to_owned());
        let table = [
            (
                "sip:bob@b.test",
                "",
                (0, None, hop("1 192.0.2.66:5060"), false),
            ),
            ("sip:bob@c.test", "", (0, None, None, false)),
            (
                "sip:192.0.2.5",
                "",
                (0, None, hop("0 192.0.2.5:5060"), false),
            ),
            (
                "sip:192.0.2.5:7;transport=tcp",
                "",
                (0, None, hop("1 192.0.2.5:7"), false),
            ),
            ("sips:192.0.2.5", "", (0, None, None, false)),
            (
                "sip:[2001:db8::1]",
                "",
                (0, None, hop("0 [2001:db8::1]:5060"), false),
            ),
            // Own routes by token or by address and port, and by nothing else.
            (
                "sip:192.0.2.5",
                &left,
                (1, Some(0), hop("0 192.0.2.5:5060"), false),
            ),
            (
                "sip:192.0.2.5",
                &both,
                (2, Some(1), hop("1 192.0.2.5:5060"), false),
            ),
            (
                "sip:bob@b.test",
                &onward,
                (2, Some(1), hop("1 192.0.2.3:5060"), false),
            ),
            (
                "sip:192.0.2.5",
                "<sip:192.0.2.1;lr>",
                (1, None, hop("0 192.0.2.5:5060"), false),
            ),
            (
                "sip:192.0.2.5",
                "<sip:192.0.2.1:5061;lr>",
                (0, None, hop("0 192.0.2.1:5061"), false),
            ),
            (
                "sip:192.0.2.5",
                "<sip:x@192.0.2.1;lr>",
                (0, None, hop("0 192.0.2.1:5060"), false),
            ),
            // A strict router.
            (
                "sip:bob@b.test",
                "<sip:192.0.2.3>",
                (1, None, hop("0 192.0.2.3:5060"), true),
            ),
        ];
        for (uri, route, expected) in table {
            assert_eq!(routed(uri, route), Some(expected), "{uri} {route}");
        }
        assert_eq!(routed("sip:192.0.2.5", "sip"), None);
        assert_eq!(routed("sip:192.0.2.5", "<tel:+1>"), None);
    }
}
