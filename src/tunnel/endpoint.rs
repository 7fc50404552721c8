//! One side of tunnels behind one socket: a server's [`Gateway`], or a user's [`Initiator`].

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

#[cfg(doc)]
use super::Gateway;
use super::{DropCause, Drops, IpPacket, Protection, SERVER, Tunnel, ip, user_address};

/// Where an endpoint's outgoing datagrams go, with the outer address of the peer.
pub type TransmitTo<'a> = &'a mut dyn FnMut(SocketAddr, &[u8]);

/// IP packets above, datagrams below. The contract is that of [`Tunnel`].
pub trait Endpoint {
    /// The inner address of this side.
    fn inner_address(&self) -> Ipv4Addr;

    /// Takes a datagram that arrived from the outer address `from`, and hands back the IP packet in
    /// it. What must be dropped is counted and not answered.
    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        from: SocketAddr,
        now: Instant,
        scratch: &'s mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Option<&'s [u8]>;

    /// Sends an IP packet to the peer whose inner address is its destination.
    ///
    /// # Errors
    /// When there is no such peer.
    fn send(
        &mut self,
        packet: IpPacket<'_>,
        now: Instant,
        scratch: &mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Result<(), DropCause>;

    /// When [`Self::handle_timeout`] is due. It may find nothing to do then.
    fn deadline(&self) -> Option<Instant>;

    /// Does what time demands.
    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: TransmitTo<'_>);

    /// What was dropped.
    fn drops(&self) -> Drops;

    /// Counts a datagram whose packet turned out to be useless further up.
    fn count_drop(&mut self, cause: DropCause);
}

/// A user's side: one tunnel, to the server.
pub struct Initiator<P: Protection> {
    tunnel: P::Tunnel,
    address: Ipv4Addr,
    server: SocketAddr,
    /// Shared with other initiators, if [`Self::sharing`] says so.
    drops: Rc<Cell<Drops>>,
}

impl<P: Protection> Initiator<P> {
    /// The side of `user`, whose number is below [`super::MAX_USERS`], towards the server at the
    /// outer address `server`.
    #[must_use]
    pub fn new(protection: &P, user: u32, server: SocketAddr, now: Instant) -> Self {
        Self {
            tunnel: protection.initiator(user, now),
            address: user_address(user),
            server,
            drops: Rc::default(),
        }
    }

    /// The same side, with books of what is dropped that all users of a network share: who asks wants
    /// their sum, those who have left included.
    #[must_use]
    pub fn sharing(mut self, drops: Rc<Cell<Drops>>) -> Self {
        self.drops = drops;
        self
    }

    /// Starts the handshake.
    pub fn initiate(&mut self, now: Instant, scratch: &mut [u8], transmit: TransmitTo<'_>) {
        let server = self.server;
        self.tunnel
            .initiate(now, scratch, &mut |datagram| transmit(server, datagram));
    }

    #[cfg(test)]
    pub(super) fn tunnel_mut(&mut self) -> &mut P::Tunnel {
        &mut self.tunnel
    }

    /// Whether packets can be sent protected right now.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.tunnel.is_established()
    }
}

impl<P: Protection> Endpoint for Initiator<P> {
    fn inner_address(&self) -> Ipv4Addr {
        self.address
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        from: SocketAddr,
        now: Instant,
        scratch: &'s mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Option<&'s [u8]> {
        let server = self.server;
        self.tunnel
            .tick(now, scratch, &mut |datagram| transmit(server, datagram));
        let mut answer = |datagram: &[u8]| transmit(from, datagram);
        let received = self.tunnel.receive(datagram, now, scratch, &mut answer);
        let routed = received.and_then(|packet| match packet {
            Some(packet) => ip::check_route(packet, SERVER, self.address).map(Some),
            None => Ok(None),
        });
        routed.unwrap_or_else(|cause| {
            self.count_drop(cause);
            None
        })
    }

    fn send(
        &mut self,
        packet: IpPacket<'_>,
        now: Instant,
        scratch: &mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Result<(), DropCause> {
        let server = self.server;
        ip::check_route(packet.bytes(), self.address, SERVER)?;
        self.tunnel.send(packet, now, scratch, &mut |datagram| {
            transmit(server, datagram);
        });
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.tunnel.deadline()
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: TransmitTo<'_>) {
        let server = self.server;
        self.tunnel
            .handle_timeout(now, scratch, &mut |datagram| transmit(server, datagram));
    }

    fn drops(&self) -> Drops {
        self.drops.get()
    }

    fn count_drop(&mut self, cause: DropCause) {
        let mut drops = self.drops.get();
        drops.count(cause);
        self.drops.set(drops);
    }
}
