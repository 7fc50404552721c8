//! WireGuard with boringtun's `Tunn`: a Noise IK handshake and ChaCha20-Poly1305 for each packet.
//!
//! What boringtun 0.7 leaves to its user is done here: when its timers are due (it shows no
//! deadline), emptying its queue after each datagram, and one rate limiter for the whole server
//! that never limits: the benchmark measures handshakes, so no cookie is ever asked for.
//! Each end multiplies both static keys when the `Tunn` of a peer is made; a configured WireGuard
//! does that before any handshake, here the server does it in the first one.
//! Payloads are not padded to 16 bytes, since boringtun does not; its X25519 is not ring's.

mod keys;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

pub use keys::{WireguardKeyPair, WireguardKeys};

use super::{Claim, DropCause, IpPacket, Protection, SCRATCH_BYTES, Transmit, Tunnel};

/// An unanswered initiation is repeated after this time (REKEY_TIMEOUT).
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// After the last packet that was sent or received, the protocol may have something to do at these
/// times: keep alive, start over with a silent peer, forget the keys, give the peer up.
const IDLE_STEPS: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(180),
    Duration::from_secs(540),
];

/// boringtun stamps events with the time of the last tick: with traffic, tick this often.
const TICK: Duration = Duration::from_secs(1);

/// boringtun compares with a clock of its own, which may be a little behind ours.
const CLOCK_MARGIN: Duration = Duration::from_millis(20);

/// If a tick at the expected time did nothing, try again after this time.
const RETICK: Duration = Duration::from_millis(250);

const HANDSHAKE_INITIATION: u8 = 1;
const HANDSHAKE_RESPONSE: u8 = 2;
const DATA: u8 = 4;

/// WireGuard tunnels between the users and the server that one seed makes.
pub struct Wireguard {
    keys: WireguardKeys,
    server_secret: StaticSecret,
    server_public: PublicKey,
    rate_limiter: Arc<RateLimiter>,
    directory: OnceCell<Directory>,
}

/// What a server is provisioned with: every user's public key, and the users by key.
struct Directory {
    keys: Vec<PublicKey>,
    users: HashMap<[u8; 32], u32>,
}

impl Wireguard {
    /// How it protects: names and values, as a cell records them. The protocol knows one suite only.
    pub const SECURITY: &[(&str, &str)] = &[
        ("security_protocol", "WireGuard"),
        ("noise_protocol", "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"),
        ("cipher_suite", "ChaCha20-Poly1305"),
        ("crypto_provider", "boringtun"),
        ("key_exchange_group", "X25519"),
        ("key_type", "X25519"),
        ("preshared_key", "none"),
        ("handshake_rate_limit", "none"),
        ("padding", "none"),
    ];

    /// Tunnels with these keys.
    #[must_use]
    pub fn new(keys: WireguardKeys) -> Self {
        let server_secret = keys.server();
        let server_public = PublicKey::from(&server_secret);
        Self {
            rate_limiter: Arc::new(RateLimiter::new(&server_public, u64::MAX)),
            keys,
            server_secret,
            server_public,
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

    /// Decrypts the initiator's static key. That costs an X25519 which `Tunn` repeats, as it does
    /// in boringtun's own device: `Tunn` has no way to take over what was decrypted.
    fn initiating_user(&self, datagram: &[u8]) -> Result<u32, DropCause> {
        let mut no_cookie = [0; 64];
        let packet = self
            .rate_limiter
            .verify_packet(None, datagram, &mut no_cookie)
            .map_err(|_| DropCause::NotAuthentic)?;
        let Packet::HandshakeInit(initiation) = packet else {
            return Err(DropCause::Malformed);
        };
        let handshake = parse_handshake_anon(&self.server_secret, &self.server_public, &initiation)
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
        // Its own limiter admits 10 handshakes a second, which one client never needs.
        WireguardTunnel::new(self.keys.user(user), self.server_public, user, None, now)
    }

    fn responder(&self, user: u32, now: Instant) -> WireguardTunnel {
        WireguardTunnel::new(
            self.server_secret.clone(),
            self.directory().keys[user as usize],
            user,
            Some(Arc::clone(&self.rate_limiter)),
            now,
        )
    }

    fn provision(&self) {
        self.directory();
    }

    fn identify(&self, datagram: &[u8]) -> Result<Claim, DropCause> {
        // The number that Tunn was given is the upper 24 bits of the index that peers send back.
        let by_index = |index: u32| Claim {
            user: index >> 8,
            opens: false,
        };
        match Tunn::parse_incoming_packet(datagram).map_err(|_| DropCause::Malformed)? {
            Packet::HandshakeInit(_) => Ok(Claim {
                user: self.initiating_user(datagram)?,
                opens: true,
            }),
            Packet::HandshakeResponse(response) => Ok(by_index(response.receiver_idx)),
            Packet::PacketCookieReply(reply) => Ok(by_index(reply.receiver_idx)),
            Packet::PacketData(data) => Ok(by_index(data.receiver_idx)),
        }
    }
}

/// Either end of a [`Wireguard`] tunnel.
pub struct WireguardTunnel {
    /// Boxed since it is about 11 KB.
    tunn: Box<Tunn>,
    last_tick: Instant,
    /// When a packet was last sent or received, handshakes included; `None` once given up.
    last_traffic: Option<Instant>,
    /// When the handshake initiation that is not answered yet was sent.
    initiated: Option<Instant>,
}

impl WireguardTunnel {
    fn new(
        secret: StaticSecret,
        peer: PublicKey,
        index: u32,
        rate_limiter: Option<Arc<RateLimiter>>,
        now: Instant,
    ) -> Self {
        Self {
            tunn: Box::new(Tunn::new(secret, peer, None, None, index, rate_limiter)),
            last_tick: now,
            last_traffic: None,
            initiated: None,
        }
    }

    /// Sends what boringtun wants sent, and notes when that starts a handshake.
    fn transmitted(&mut self, datagram_type: u8, now: Instant) {
        if datagram_type == HANDSHAKE_INITIATION {
            self.initiated = Some(now);
        }
    }
}

impl Tunnel for WireguardTunnel {
    fn initiate(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        self.handle_timeout(now, scratch, transmit);
        if let TunnResult::WriteToNetwork(datagram) =
            self.tunn.format_handshake_initiation(scratch, false)
        {
            transmit(datagram);
            self.initiated = Some(now);
        }
    }

    fn is_established(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn send(
        &mut self,
        packet: IpPacket<'_>,
        now: Instant,
        scratch: &mut [u8],
        transmit: Transmit<'_>,
    ) {
        assert!(scratch.len() >= SCRATCH_BYTES, "boringtun panics otherwise");
        self.tick(now, scratch, transmit);
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(packet.bytes(), scratch)
        {
            let datagram_type = datagram[0];
            transmit(datagram);
            self.transmitted(datagram_type, now);
        }
        self.last_traffic = Some(now);
    }

    /// Lets boringtun notice the time, unless it did just now.
    fn tick(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        if now.saturating_duration_since(self.last_tick) >= TICK {
            self.handle_timeout(now, scratch, transmit);
        }
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        now: Instant,
        scratch: &'s mut [u8],
        transmit: Transmit<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause> {
        assert!(scratch.len() >= SCRATCH_BYTES, "boringtun panics otherwise");
        // boringtun takes an empty datagram as the request to send what is queued.
        let &datagram_type = datagram.first().ok_or(DropCause::Malformed)?;
        let mut result = self.tunn.decapsulate(None, datagram, scratch);
        let is_handshake = matches!(datagram_type, HANDSHAKE_INITIATION | HANDSHAKE_RESPONSE);
        // Before the queue is emptied, which may begin another one.
        if is_handshake && !matches!(result, TunnResult::Err(_)) {
            self.initiated = None;
        }
        let mut may_have_queued = true;
        let packet_bytes = loop {
            match result {
                TunnResult::WriteToTunnelV4(packet, _) => break Some(packet.len()),
                TunnResult::WriteToTunnelV6(..) => return Err(DropCause::Misrouted),
                TunnResult::Err(error) => return Err(drop_cause(&error)),
                TunnResult::WriteToNetwork(reply) => {
                    let reply_type = reply[0];
                    transmit(reply);
                    self.transmitted(reply_type, now);
                }
                // A keep-alive may be what confirms the association that packets wait for.
                TunnResult::Done if may_have_queued && datagram_type == DATA => {}
                TunnResult::Done => break None,
            }
            may_have_queued = false;
            result = self.tunn.decapsulate(None, &[], scratch);
        };
        if packet_bytes.is_some() || datagram_type != DATA {
            self.last_traffic = Some(now);
        }
        Ok(packet_bytes.map(|bytes| &scratch[..bytes]))
    }

    fn deadline(&self) -> Option<Instant> {
        if let Some(initiated) = self.initiated {
            let retry = initiated + RETRY_AFTER + CLOCK_MARGIN;
            return Some(retry.max(self.last_tick + RETICK));
        }
        let last_traffic = self.last_traffic?;
        IDLE_STEPS
            .iter()
            .map(|&step| last_traffic + step + CLOCK_MARGIN)
            .find(|&due| due > self.last_tick)
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        self.last_tick = now;
        match self.tunn.update_timers(scratch) {
            TunnResult::WriteToNetwork(datagram) => {
                let datagram_type = datagram[0];
                transmit(datagram);
                self.transmitted(datagram_type, now);
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.initiated = None;
                self.last_traffic = None;
            }
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
    }
}

fn drop_cause(error: &WireGuardError) -> DropCause {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp => DropCause::Replayed,
        WireGuardError::NoCurrentSession
        | WireGuardError::UnexpectedPacket
        | WireGuardError::ConnectionExpired => DropCause::NoAssociation,
        WireGuardError::WrongIndex => DropCause::UnknownPeer,
        WireGuardError::InvalidPacket
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType
        | WireGuardError::DestinationBufferTooSmall
        | WireGuardError::InvalidTai64nTimestamp => DropCause::Malformed,
        WireGuardError::WrongKey
        | WireGuardError::InvalidMac
        | WireGuardError::InvalidAeadTag
        | WireGuardError::LockFailed
        | WireGuardError::UnderLoad => DropCause::NotAuthentic,
    }
}
