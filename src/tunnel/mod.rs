//! IP-layer protection without I/O: IP packets in, datagrams out, and back.
//!
//! A tunnel protects whole IP packets, so any carrier rides above it unchanged. Nothing here opens
//! a socket, reads a clock or spawns; [`crate::net`] does. (boringtun reads the clock inside for
//! the protocol's own timers: that is the one exception, and it is not ours to mend.)
//!
//! * [`Tunnel`] is one peer's end: its security associations, keys, replay windows and timers.
//! * [`Protection`] is a kind of tunnel: how its ends are made, and which peer a datagram names.
//! * [`Endpoint`] is one side behind one socket: a user's [`Initiator`] with one tunnel, or a
//!   server's [`Gateway`] with many.
//!
//! # Where ESP fits
//! The interface is cut so that ESP (RFC 4303) is one more [`Protection`], with nothing changed here:
//!
//! * A tunnel may hold as many security associations as it likes, incoming ones apart from outgoing
//!   ones. Nobody else sees them: above are packets and below are datagrams.
//! * Keys are configured, and then [`Protection::HANDSHAKE`] is `None` and
//!   [`Tunnel::is_established`] holds at once, as with [`Clear`]; or they come from IKEv2, whose
//!   messages share the datagrams (RFC 3948 §2.2 tells them apart by four zero bytes). Then
//!   [`Tunnel::initiate`] starts the exchange, and [`Tunnel::receive`] answers as it does for
//!   WireGuard's handshake. A responder that asks for cookies (RFC 7296 §2.6) does so in
//!   [`Protection::identify`].
//! * The server finds the peer by the SPI, the first four bytes, in [`Protection::identify`], where
//!   WireGuard looks at the receiver index. Both are chosen by whoever receives them, so that the
//!   user's number can be part of either.
//! * The replay window and the upper half of extended sequence numbers (§3.4.3) are state of an
//!   association, thus of the tunnel; [`DropCause`] has a name for each way to fail.
//! * Rekeying makes before it breaks (RFC 7296 §2.8): [`Tunnel::handle_timeout`] asks for new
//!   associations, [`Tunnel::send`] takes the new one once it is there, and [`Tunnel::receive`] takes
//!   datagrams under either until a later timeout deletes the old one. WireGuard does the same.
//! * Padding and trailer (§2.4) go into the room that an [`IpPacket`] has behind it.

mod address;
mod clear;
mod deadlines;
mod endpoint;
mod gateway;
mod ip;
mod options;
mod packet;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod sides;
mod wireguard;

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use address::{MAX_USERS, SERVER, SIP_PORT, user_address, user_of};
pub use clear::{Clear, ClearTunnel};
pub use deadlines::Deadlines;
pub use endpoint::{Endpoint, Initiator, TransmitTo};
pub use gateway::Gateway;
pub use ip::{IP_UDP_HEADER_BYTES, UdpPacket, parse_udp, write_udp};
pub use options::TunnelOptions;
pub use packet::{IpPacket, PACKET_ROOM_BYTES};
pub use wireguard::{Wireguard, WireguardKeyPair, WireguardKeys, WireguardTunnel};

/// Length that every `scratch` argument must have at least: a datagram of any size and room to
/// protect it.
pub const SCRATCH_BYTES: usize = 65_536 + 64;

/// Largest payload of a UDP datagram over IPv4.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Where a tunnel's outgoing datagrams go; called while the tunnel is borrowed, so it must not
/// call back into it.
pub type Transmit<'a> = &'a mut dyn FnMut(&[u8]);

/// One end of a protected association with one peer.
///
/// Contract: the owner calls [`Self::tick`], then passes each datagram to [`Self::receive`]; it calls
/// [`Self::handle_timeout`] once `now` has reached [`Self::deadline`], which it asks for again
/// after each call of any method. `now` never goes back. `scratch` is working space of
/// [`SCRATCH_BYTES`] that keeps nothing between calls, so that no packet costs an allocation.
pub trait Tunnel {
    /// Starts the key exchange as initiator, where there is one.
    fn initiate(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>);

    /// Whether packets can be sent protected right now.
    fn is_established(&self) -> bool;

    /// Protects one IP packet of at most `MAX_DATAGRAM_BYTES - OVERHEAD_BYTES`, padded as the
    /// protocol asks for. Without an association the packet may wait for one, and is lost if none
    /// comes, as IP allows.
    fn send(
        &mut self,
        packet: IpPacket<'_>,
        now: Instant,
        scratch: &mut [u8],
        transmit: Transmit<'_>,
    );

    /// Notices the time before traffic, which [`Self::receive`] leaves to the owner: what this sends
    /// goes where the peer is known to be, and not where the datagram came from that is not
    /// authenticated yet. Cheap if called for every datagram.
    fn tick(&mut self, _now: Instant, _scratch: &mut [u8], _transmit: Transmit<'_>) {}

    /// Takes one datagram of the peer: the IP packet in it, if it is one of data, as a slice of
    /// `datagram` or `scratch`. It is handed back rather than called out, so that whoever handles
    /// it may send on this tunnel.
    ///
    /// # Errors
    /// Why the datagram was dropped. `Ok` means that the peer authenticated it, if its
    /// [`Claim::locates`] the peer.
    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        now: Instant,
        scratch: &'s mut [u8],
        transmit: Transmit<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause>;

    /// When [`Self::handle_timeout`] is due; `None` while nothing is. Later calls of other methods
    /// may move it either way.
    fn deadline(&self) -> Option<Instant>;

    /// Does what time demands: retransmits a handshake, rekeys, keeps alive, forgets keys.
    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>);
}

/// A kind of tunnel, configured with its keys.
pub trait Protection {
    /// One end of it.
    type Tunnel: Tunnel;

    /// As in the names of stacks.
    const NAME: &'static str;

    /// How errors name its handshake; `None` if there is none, and a tunnel is established at once.
    const HANDSHAKE: Option<&'static str>;

    /// Bytes that protection adds to an IP packet, padding not counted.
    const OVERHEAD_BYTES: usize;

    /// Length of the datagram that carries an IP packet of `packet_bytes`.
    fn datagram_bytes(&self, packet_bytes: usize) -> usize {
        packet_bytes + Self::OVERHEAD_BYTES
    }

    /// The client end of `user`'s tunnel.
    fn initiator(&self, user: u32, now: Instant) -> Self::Tunnel;

    /// The server end of the tunnel of a `user` that [`Self::identify`] has named.
    fn responder(&self, user: u32, now: Instant) -> Self::Tunnel;

    /// Does once what a server needs before it can [`Self::identify`] peers, such as learning the
    /// public keys of all users.
    fn provision(&self) {}

    /// Which user's tunnel a datagram that reached a server belongs to. That is a claim until
    /// [`Tunnel::receive`] has authenticated it. A datagram that opens a tunnel may have to wait for
    /// admission; what its sender has to know for that is transmitted, to the address `from`.
    ///
    /// # Errors
    /// When it names none, or was not admitted.
    fn identify(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        transmit: Transmit<'_>,
    ) -> Result<Claim, DropCause>;
}

/// Which tunnel a datagram says that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Number of the user.
    pub user: u32,
    /// Whether it may open that tunnel; otherwise the tunnel must exist.
    pub opens: bool,
    /// Whether the peer is where the datagram came from, once [`Tunnel::receive`] has taken it.
    /// Otherwise somebody else may have made it.
    pub locates: bool,
}

/// Why a datagram or the packet in it was dropped. Only [`Self::RateLimited`] is answered: who has no
/// key learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DropCause {
    /// Not a datagram of this tunnel, or not an IP packet with valid lengths and checksums in it.
    #[error("malformed")]
    Malformed,
    /// Names no key or association that is known here.
    #[error("unknown peer")]
    UnknownPeer,
    /// Fails authentication.
    #[error("not authentic")]
    NotAuthentic,
    /// Was received before, or is too old for the replay window.
    #[error("replayed")]
    Replayed,
    /// Came before there was an association, or after it ended.
    #[error("no association")]
    NoAssociation,
    /// Carries an IP packet whose source is not its sender's, or whose destination is not here.
    #[error("misrouted")]
    Misrouted,
    /// Opens a tunnel while many do; its sender was told how to show that it is where it says.
    #[error("rate limited")]
    RateLimited,
    /// Carried, or was to carry, an IP packet that the kernel's device had no room for.
    #[error("overrun")]
    Overrun,
}

/// How many datagrams were dropped, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Drops {
    pub malformed: u64,
    pub unknown_peer: u64,
    pub not_authentic: u64,
    pub replayed: u64,
    pub no_association: u64,
    pub misrouted: u64,
    pub rate_limited: u64,
    pub overrun: u64,
}

impl Drops {
    /// Counts one.
    pub fn count(&mut self, cause: DropCause) {
        *match cause {
            DropCause::Malformed => &mut self.malformed,
            DropCause::UnknownPeer => &mut self.unknown_peer,
            DropCause::NotAuthentic => &mut self.not_authentic,
            DropCause::Replayed => &mut self.replayed,
            DropCause::NoAssociation => &mut self.no_association,
            DropCause::Misrouted => &mut self.misrouted,
            DropCause::RateLimited => &mut self.rate_limited,
            DropCause::Overrun => &mut self.overrun,
        } += 1;
    }

    /// The sum of both, cause by cause.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            malformed: self.malformed + other.malformed,
            unknown_peer: self.unknown_peer + other.unknown_peer,
            not_authentic: self.not_authentic + other.not_authentic,
            replayed: self.replayed + other.replayed,
            no_association: self.no_association + other.no_association,
            misrouted: self.misrouted + other.misrouted,
            rate_limited: self.rate_limited + other.rate_limited,
            overrun: self.overrun + other.overrun,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.malformed
            + self.unknown_peer
            + self.not_authentic
            + self.replayed
            + self.no_association
            + self.misrouted
            + self.rate_limited
            + self.overrun
    }
}
