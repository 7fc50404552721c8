//! The server side of tunnels: many peers behind one socket, without the socket.
//!
//! A datagram finds its peer by what it names ([`Protection::identify`]); an IP packet finds it by
//! its destination. A packet is accepted only from the peer that owns its source address, and only
//! for the server itself (WireGuard calls this cryptokey routing). A peer exists from its
//! first valid opening on and costs nothing before, and no time while it is idle.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use super::{
    Deadlines, DropCause, Drops, Endpoint, IpPacket, Protection, SERVER, TransmitTo, Tunnel, ip,
    user_address, user_of,
};

/// All tunnels of one server. A peer stays, since it is what a replayed opening is recognised by:
/// there are at most as many as users are known, or, where nothing is authenticated, as there are
/// inner addresses.
pub struct Gateway<P: Protection> {
    protection: Rc<P>,
    peers: HashMap<u32, Peer<P::Tunnel>>,
    /// When to look at which peer.
    timers: Deadlines<u32>,
    drops: Drops,
}

struct Peer<T> {
    tunnel: T,
    /// Where the peer was last heard from; it may roam.
    outer: SocketAddr,
    /// Its entry in `timers`.
    timer: Option<Instant>,
}

impl<T: Tunnel> Peer<T> {
    /// Makes sure that the peer, which is `user`, is looked at no later than its deadline.
    fn schedule(&mut self, user: u32, timers: &mut Deadlines<u32>) {
        timers.schedule(user, self.tunnel.deadline(), &mut self.timer);
    }
}

impl<P: Protection> Gateway<P> {
    /// A gateway without peers. Provisions `protection`, which can take 50 µs for each user.
    #[must_use]
    pub fn new(protection: Rc<P>) -> Self {
        protection.provision();
        Self {
            protection,
            peers: HashMap::new(),
            timers: Deadlines::new(),
            drops: Drops::default(),
        }
    }

    fn accept<'s>(
        &mut self,
        datagram: &'s [u8],
        from: SocketAddr,
        now: Instant,
        scratch: &'s mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause> {
        let mut answer = |datagram: &[u8]| transmit(from, datagram);
        let claim = self.protection.identify(datagram, from, &mut answer)?;
        let user = claim.user;
        let packet = match self.peers.get_mut(&user) {
            Some(peer) => {
                let outer = peer.outer;
                peer.tunnel.tick(now, scratch, &mut |datagram| {
                    transmit(outer, datagram);
                });
                let mut answer = |datagram: &[u8]| transmit(from, datagram);
                let received = peer.tunnel.receive(datagram, now, scratch, &mut answer);
                if received.is_ok() {
                    peer.outer = from;
                }
                // Also after an error: the tick may have begun a handshake.
                peer.schedule(user, &mut self.timers);
                received?
            }
            None if claim.opens => {
                let mut tunnel = self.protection.responder(user, now);
                let mut answer = |datagram: &[u8]| transmit(from, datagram);
                let packet = tunnel.receive(datagram, now, scratch, &mut answer)?;
                if let Some(packet) = packet {
                    // Nothing is kept of a peer that opens with a packet that goes nowhere.
                    ip::check_route(packet, user_address(user), SERVER)?;
                }
                let mut peer = Peer {
                    tunnel,
                    outer: from,
                    timer: None,
                };
                peer.schedule(user, &mut self.timers);
                self.peers.insert(user, peer);
                packet
            }
            None => return Err(DropCause::UnknownPeer),
        };
        match packet {
            Some(packet) => ip::check_route(packet, user_address(user), SERVER).map(Some),
            None => Ok(None),
        }
    }

    /// Peers that have opened a tunnel.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }
}

impl<P: Protection> Endpoint for Gateway<P> {
    fn inner_address(&self) -> Ipv4Addr {
        SERVER
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        from: SocketAddr,
        now: Instant,
        scratch: &'s mut [u8],
        transmit: TransmitTo<'_>,
    ) -> Option<&'s [u8]> {
        self.accept(datagram, from, now, scratch, transmit)
            .unwrap_or_else(|cause| {
                self.drops.count(cause);
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
        let user = user_of(ip::destination(packet.bytes())?).ok_or(DropCause::Misrouted)?;
        let peer = self.peers.get_mut(&user).ok_or(DropCause::UnknownPeer)?;
        let outer = peer.outer;
        peer.tunnel.send(packet, now, scratch, &mut |datagram| {
            transmit(outer, datagram);
        });
        peer.schedule(user, &mut self.timers);
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: TransmitTo<'_>) {
        while let Some((due, user)) = self.timers.pop_due(now) {
            let peer = self.peers.get_mut(&user).expect("peers are never removed");
            if peer.timer.take_if(|timer| *timer == due).is_none() {
                continue;
            }
            if peer
                .tunnel
                .deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                let outer = peer.outer;
                peer.tunnel.handle_timeout(now, scratch, &mut |datagram| {
                    transmit(outer, datagram);
                });
            }
            peer.schedule(user, &mut self.timers);
        }
    }

    fn drops(&self) -> Drops {
        self.drops
    }

    fn count_drop(&mut self, cause: DropCause) {
        self.drops.count(cause);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
