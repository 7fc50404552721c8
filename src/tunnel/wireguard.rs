//! WireGuard with boringtun's `Tunn`: a Noise IK handshake and ChaCha20-Poly1305 for each packet.
//!
//! What boringtun 0.7 leaves to its user is done here: telling when its timers are due (it shows no
//! deadline), emptying its queue, padding packets, and admitting handshakes. A server judges
//! initiations before it knows whose they are, so its one rate limiter stands in [`Wireguard`] and
//! the `Tunn`s never judge again.
//!
//! A `Tunn` is given the user's number, which becomes the upper 24 bits of the index that peers
//! send back in every datagram; the lower 8 bits count its associations. So the peer of a datagram
//! is found without a table of indices that each handshake would have to change, and there may be
//! 2^24 users, more than have an inner address.
//!
//! Each end multiplies both static keys when the `Tunn` of a peer is made; a configured WireGuard
//! does that before any handshake, here the server does it in the first one. The X25519 is not
//! ring's.

mod keys;
mod tunnel;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{HandshakeInit, Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

pub use keys::{WireguardKeyPair, WireguardKeys};
pub use tunnel::WireguardTunnel;

use super::{Claim, DropCause, Protection, Transmit, TunnelOptions, packet};

/// Packets are padded with zeros to a multiple of this, though not beyond the MTU.
const PADDING_BYTES: usize = 16;

const COOKIE_REPLY_BYTES: usize = 64;

/// WireGuard tunnels between the users and the server that one seed makes.
pub struct Wireguard {
    keys: WireguardKeys,
    server_secret: StaticSecret,
    server_public: PublicKey,
    /// Judges the initiations that reach the server.
    admission: RateLimiter,
    /// Of the server's `Tunn`s, which need one: never limits.
    unlimited: Arc<RateLimiter>,
    mtu_bytes: usize,
    keep_alive_seconds: Option<u16>,
    directory: OnceCell<Directory>,
}

/// What a server is provisioned with: every user's public key, and the users by key.
struct Directory {
    keys: Vec<PublicKey>,
    users: HashMap<[u8; 32], u32>,
}

impl Wireguard {
    /// How it protects, run as `options` say: names and values, as a cell records them. The protocol
    /// knows one suite only.
    #[must_use]
    pub fn security(options: &TunnelOptions) -> Vec<(&'static str, String)> {
        let unless_none = |value: Option<u32>| value.map_or("none".to_owned(), |v| v.to_string());
        [
            ("security_protocol", "WireGuard"),
            ("noise_protocol", "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"),
            ("cipher_suite", "ChaCha20-Poly1305"),
            ("crypto_provider", "boringtun"),
            ("key_exchange_group", "X25519"),
            ("key_type", "X25519"),
            ("preshared_key", "none"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain([
            ("padding", PADDING_BYTES.to_string()),
            ("mtu_bytes", options.mtu_bytes.to_string()),
            (
                "handshake_rate_limit",
                unless_none(options.handshakes_per_second_limit),
            ),
            (
                "keep_alive_seconds",
                unless_none(options.keep_alive_seconds.map(u32::from)),
            ),
        ])
        .collect()
    }

    /// Tunnels with these keys, run as `options` say.
    #[must_use]
    pub fn new(keys: WireguardKeys, options: &TunnelOptions) -> Self {
        let server_secret = keys.server();
        let server_public = PublicKey::from(&server_secret);
        let limit = options
            .handshakes_per_second_limit
            .map_or(u64::MAX, u64::from);
        Self {
            keys,
            admission: RateLimiter::new(&server_public, limit),
            unlimited: Arc::new(RateLimiter::new(&server_public, u64::MAX)),
            server_secret,
            server_public,
            mtu_bytes: options.mtu_bytes.into(),
            keep_alive_seconds: options.keep_alive_seconds,
            directory: OnceCell::new(),
        }
    }

    fn directory(&self) -> &Directory {
        self.directory.get_or_init(|| {
            let public_key = |user| PublicKey::from(&self.keys.user(user));
            let keys: Vec<_> = (0..self.keys.peers).map(public_key).collect();
            let users = (0..).zip(&keys).map(|(user, key)| (key.to_bytes(), user));
            Directory {
                users: users.collect(),
                keys,
            }
        })
    }

    /// Refuses an initiation that was not made for this server, and one over the limit whose sender
    /// has not shown that it receives what is sent to `from`: it gets a cookie to show.
    fn admit(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        transmit: Transmit<'_>,
    ) -> Result<(), DropCause> {
        let mut cookie = [0; COOKIE_REPLY_BYTES];
        // Does nothing unless a second has passed since it did something.
        self.admission.reset_count();
        let judged = self
            .admission
            .verify_packet(Some(from.ip()), datagram, &mut cookie);
        match judged {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(cookie_reply)) => {
                transmit(cookie_reply);
                Err(DropCause::RateLimited)
            }
            Err(_) => Err(DropCause::NotAuthentic),
        }
    }

    /// Decrypts the initiator's static key. That costs an X25519 which `Tunn` repeats, as it does
    /// in boringtun's own device: `Tunn` has no way to take over what was decrypted.
    fn initiating_user(&self, initiation: &HandshakeInit<'_>) -> Result<u32, DropCause> {
        let handshake = parse_handshake_anon(&self.server_secret, &self.server_public, initiation)
            .map_err(|_| DropCause::NotAuthentic)?;
        self.directory()
            .users
            .get(&handshake.peer_static_public)
            .copied()
            .ok_or(DropCause::UnknownPeer)
    }
}

impl Protection for Wireguard {
    type Tunnel = WireguardTunnel;

    const NAME: &'static str = "wireguard";
    const HANDSHAKE: Option<&'static str> = Some("WireGuard handshake");
    const OVERHEAD_BYTES: usize = 32;

    fn initiator(&self, user: u32, now: Instant) -> WireguardTunnel {
        let secret = self.keys.user(user);
        // boringtun's own choice would refuse a genuine response after some replayed ones.
        let unlimited = RateLimiter::new(&PublicKey::from(&secret), u64::MAX);
        let tunn = Tunn::new(
            secret,
            self.server_public,
            None,
            self.keep_alive_seconds,
            user,
            Some(Arc::new(unlimited)),
        );
        WireguardTunnel::new(Box::new(tunn), self.mtu_bytes, now)
    }

    fn responder(&self, user: u32, now: Instant) -> WireguardTunnel {
        let tunn = Tunn::new(
            self.server_secret.clone(),
            self.directory().keys[user as usize],
            None,
            None,
            user,
            Some(Arc::clone(&self.unlimited)),
        );
        WireguardTunnel::new(Box::new(tunn), self.mtu_bytes, now)
    }

    fn provision(&self) {
        self.directory();
    }

    fn datagram_bytes(&self, packet_bytes: usize) -> usize {
        packet::padded_bytes(packet_bytes, PADDING_BYTES, self.mtu_bytes) + Self::OVERHEAD_BYTES
    }

    fn identify(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        transmit: Transmit<'_>,
    ) -> Result<Claim, DropCause> {
        let by_index = |index: u32| Claim {
            user: index >> 8,
            opens: false,
            locates: true,
        };
        match Tunn::parse_incoming_packet(datagram).map_err(|_| DropCause::Malformed)? {
            Packet::HandshakeInit(initiation) => {
                self.admit(datagram, from, transmit)?;
                Ok(Claim {
                    user: self.initiating_user(&initiation)?,
                    opens: true,
                    locates: true,
                })
            }
            Packet::HandshakeResponse(response) => Ok(by_index(response.receiver_idx)),
            // Whoever has seen the initiation that it answers can make one.
            Packet::PacketCookieReply(reply) => Ok(Claim {
                locates: false,
                ..by_index(reply.receiver_idx)
            }),
            Packet::PacketData(data) => Ok(by_index(data.receiver_idx)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tampering;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
