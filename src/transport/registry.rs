//! The stacks that exist: one row each. Adding a carrier is one file, its `mod` line and its row.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Resumption, Settings, Transport, TransportError, tcp, tls, udp};
use crate::tunnel::Wireguard;

/// A carrier, optionally over a tunnel, and how its figures are to be read.
#[derive(Debug)]
pub struct Stack {
    /// `carrier[@tunnel]`, as on the command line and in results.
    pub name: &'static str,
    /// What SIP messages ride on.
    pub carrier: &'static str,
    /// What protects the IP packets underneath; `None` for kernel sockets.
    pub tunnel: Option<&'static str>,
    /// Whether messages are a stream's or each a datagram: whether SIP has to retransmit.
    pub delivery: Delivery,
    /// Transport token of the Via header (RFC 3261 §20.42).
    pub via_transport: &'static str,
    /// Whether the hop is encrypted, and the server authenticated.
    pub protected: bool,
    /// Whether the server too knows who its peer is, by certificate or tunnel key. It is what reusing
    /// a connection in the other direction asks for (RFC 5923 §9.2), and what trust between proxies
    /// rests on.
    pub mutual: bool,
    /// The stack that differs from this one in protection only: what ratios divide by.
    pub control: Option<&'static str>,
    /// The same carrier without the tunnel; the ratio to it holds the price of tunnelling too.
    pub bare: Option<&'static str>,
    /// One line for lists.
    pub summary: &'static str,
    opener: fn(&Settings) -> Result<Box<dyn Transport>, TransportError>,
    /// What secures it, from the carrier down: how it does, and a prefix for the names of that.
    security: &'static [(&'static str, Security)],
}

/// How one layer secures a hop, as names and values.
type Security = fn(&Settings) -> Vec<(&'static str, Value)>;

/// How a carrier delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In order and reliably; messages are framed by Content-Length (RFC 3261 §18.3).
    Stream,
    /// Perhaps: one message per datagram, retransmitted by SIP.
    Datagram,
}

impl Stack {
    /// Gives the stack its credentials. One [`Transport`] serves one worker.
    ///
    /// # Errors
    /// [`TransportError::Credentials`] when `settings` lack what the stack needs or it is unusable.
    pub fn open(&self, settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
        (self.opener)(settings)
    }

    /// How the hop is secured if both ends have these `settings`: protocol, cipher suite, kind of
    /// keys, key-exchange group, provider of the cryptography, resumption. A cell records it among
    /// its parameters. What the settings do not tell, such as the key of a server that is not ours,
    /// is absent; a stack that protects nothing has none. Where a carrier that is secured itself is
    /// inside a tunnel, the tunnel's have the prefix `tunnel_`.
    #[must_use]
    pub fn security(&self, settings: &Settings) -> BTreeMap<String, Value> {
        let layers = self.security.iter().flat_map(|(prefix, layer)| {
            let parameters = layer(settings).into_iter();
            parameters.map(move |(name, value)| (format!("{prefix}{name}"), value))
        });
        layers.collect()
    }

    /// Whether messages ride on a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.delivery == Delivery::Stream
    }

    /// Whether its carrier speaks TLS, whatever is below: what `sips:` asks for (RFC 5630 §3.1).
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        matches!(self.carrier, "tls" | "mtls")
    }
}

/// Every stack, in the order in which reports list them.
#[must_use]
pub fn stacks() -> &'static [Stack] {
    STACKS
}

/// The stack called `name`.
///
/// # Errors
/// When there is none; the message names the nearest and lists all.
pub fn find(name: &str) -> Result<&'static Stack, UnknownStack> {
    STACKS
        .iter()
        .find(|stack| stack.name == name)
        .ok_or_else(|| UnknownStack::new(name))
}

fn wireguard(settings: &Settings) -> Vec<(&'static str, Value)> {
    let parameters = Wireguard::security(&settings.tunnel).into_iter();
    let parameters = parameters.map(|(key, value)| (key, value.into()));
    // The protocol has nothing to resume: an association that has ended is made anew.
    let resumption = ("resumption", Resumption::Off.name().into());
    parameters.chain([resumption]).collect()
}

const STACKS: &[Stack] = &[
    Stack {
        name: "udp",
        carrier: "udp",
        tunnel: None,
        delivery: Delivery::Datagram,
        via_transport: "UDP",
        protected: false,
        mutual: false,
        control: Some("tcp"),
        bare: None,
        summary: "SIP over UDP, unprotected (RFC 3261)",
        opener: udp::open,
        security: &[],
    },
    Stack {
        name: "tcp",
        carrier: "tcp",
        tunnel: None,
        delivery: Delivery::Stream,
        via_transport: "TCP",
        protected: false,
        mutual: false,
        control: None,
        bare: None,
        summary: "SIP over TCP, unprotected: the control of every kernel-socket stack",
        opener: tcp::open,
        security: &[],
    },
    Stack {
        name: "tls",
        carrier: "tls",
        tunnel: None,
        delivery: Delivery::Stream,
        via_transport: "TLS",
        protected: true,
        mutual: false,
        control: Some("tcp"),
        bare: None,
        summary: "SIP over TLS, the server shows a certificate (rustls)",
        opener: tls::open_server_authenticated,
        security: &[("", tls::security::server_authenticated)],
    },
    Stack {
        name: "mtls",
        carrier: "mtls",
        tunnel: None,
        delivery: Delivery::Stream,
        via_transport: "TLS",
        protected: true,
        mutual: true,
        control: Some("tcp"),
        bare: None,
        summary: "SIP over TLS, both ends show a certificate (rustls)",
        opener: tls::open_mutual,
        security: &[("", tls::security::mutual)],
    },
    Stack {
        name: "udp@clear",
        carrier: "udp",
        tunnel: Some("clear"),
        delivery: Delivery::Datagram,
        via_transport: "UDP",
        protected: false,
        mutual: false,
        control: Some("udp"),
        bare: Some("udp"),
        summary: "SIP over UDP in an unprotected tunnel: the control of udp@wireguard",
        opener: udp::open_clear,
        security: &[],
    },
    Stack {
        name: "udp@wireguard",
        carrier: "udp",
        tunnel: Some("wireguard"),
        delivery: Delivery::Datagram,
        via_transport: "UDP",
        protected: true,
        mutual: true,
        control: Some("udp@clear"),
        bare: Some("udp"),
        summary: "SIP over UDP in a user-space WireGuard tunnel (boringtun)",
        opener: udp::open_wireguard,
        security: &[("", wireguard)],
    },
    Stack {
        name: "tcp@clear",
        carrier: "tcp",
        tunnel: Some("clear"),
        delivery: Delivery::Stream,
        via_transport: "TCP",
        protected: false,
        mutual: false,
        control: Some("tcp"),
        bare: Some("tcp"),
        summary: "SIP over TCP in user space (smoltcp) in an unprotected tunnel: the control of *@wireguard streams",
        opener: tcp::open_clear,
        security: &[],
    },
    Stack {
        name: "tcp@wireguard",
        carrier: "tcp",
        tunnel: Some("wireguard"),
        delivery: Delivery::Stream,
        via_transport: "TCP",
        protected: true,
        mutual: true,
        control: Some("tcp@clear"),
        bare: Some("tcp"),
        summary: "SIP over TCP in user space (smoltcp) in a user-space WireGuard tunnel (boringtun)",
        opener: tcp::open_wireguard,
        security: &[("", wireguard)],
    },
    Stack {
        name: "tls@wireguard",
        carrier: "tls",
        tunnel: Some("wireguard"),
        delivery: Delivery::Stream,
        via_transport: "TLS",
        protected: true,
        mutual: true,
        control: Some("tcp@clear"),
        bare: Some("tls"),
        summary: "SIP over TLS (rustls) inside a WireGuard tunnel: protected twice",
        opener: tls::open_wireguard,
        security: &[
            ("", tls::security::server_authenticated),
            ("tunnel_", wireguard),
        ],
    },
];

/// No stack has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no stack \"{name}\"; did you mean \"{nearest}\"? There are: {known}")]
pub struct UnknownStack {
    /// What was asked for.
    pub name: String,
    /// The stack with the most similar name.
    pub nearest: &'static str,
    /// All names, separated by commas.
    pub known: String,
}

impl UnknownStack {
    fn new(name: &str) -> Self {
        let names = || STACKS.iter().map(|stack| stack.name);
        Self {
            name: name.to_owned(),
            nearest: names()
                .min_by_key(|known| edit_distance(name, known))
                .expect("the registry has rows"),
            known: names().collect::<Vec<_>>().join(", "),
        }
    }
}

/// Insertions, deletions and substitutions of bytes that turn `from` into `to` (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_byte) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to_byte) in to.iter().enumerate() {
            let substitution = diagonal + usize::from(from_byte != *to_byte);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_consistent() {
        for stack in stacks() {
            let name = match stack.tunnel {
                Some(tunnel) => format!("{}@{tunnel}", stack.carrier),
                None => stack.carrier.to_owned(),
            };
            assert_eq!(stack.name, name);
            assert_eq!(stack.bare.is_some(), stack.tunnel.is_some(), "{name}");
            assert!(stack.protected || !stack.mutual, "{name}");
            assert_eq!(stack.speaks_tls(), stack.via_transport == "TLS", "{name}");
            if let Some(control) = stack.control {
                assert!(find(control).is_ok_and(|other| !other.protected), "{name}");
            }
            if let Some(bare) = stack.bare {
                assert_eq!(bare, stack.carrier, "{name}");
                assert!(find(bare).is_ok_and(|other| other.tunnel.is_none()));
            }
        }
    }

    #[test]
    fn protected_stacks_tell_how_and_others_do_not() {
        let settings = Settings::generate(1).expect("random numbers");
        for stack in stacks() {
            let security = stack.security(&settings);
            assert_eq!(security.is_empty(), !stack.protected, "{}", stack.name);
            if stack.protected {
                for key in [
                    "security_protocol",
                    "cipher_suite",
                    "crypto_provider",
                    "key_exchange_group",
                    "key_type",
                    "resumption",
                ] {
                    assert!(security.contains_key(key), "{} tells {key}", stack.name);
                }
            }
        }
    }

    #[test]
    fn unknown_stack_suggests_the_nearest() {
        let error = find("udp@wiregaurd").expect_err("misspelt");
        assert_eq!(error.nearest, "udp@wireguard");
        assert!(error.to_string().contains("udp, tcp, tls, mtls, udp@clear"));
        assert_eq!(find("mtsl").expect_err("misspelt").nearest, "mtls");
    }

    #[test]
    fn edit_distances() {
        let cases = [
            ("", "", 0),
            ("tcp", "tcp", 0),
            ("tls", "mtls", 1),
            ("udp", "tcp", 2),
            ("", "tls", 3),
        ];
        for (from, to, distance) in cases {
            assert_eq!(edit_distance(from, to), distance, "{from} → {to}");
        }
    }
}
