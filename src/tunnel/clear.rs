//! The control: the plumbing of a tunnel without its cryptography.
//!
//! A frame is four magic bytes, the user's number as big-endian `u32`, and the IP packet. There
//! is no handshake, no authentication and no replay window: what a protected tunnel costs more
//! than this one is the price of protection.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Claim, DropCause, IpPacket, MAX_USERS, Protection, Transmit, Tunnel};

const MAGIC: [u8; 4] = *b"clr\x01";
const HEADER_BYTES: usize = 8;

/// Tunnels that protect nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clear;

impl Protection for Clear {
    type Tunnel = ClearTunnel;

    const NAME: &'static str = "clear";
    const HANDSHAKE: Option<&'static str> = None;
    const OVERHEAD_BYTES: usize = HEADER_BYTES;

    fn initiator(&self, user: u32, _now: Instant) -> ClearTunnel {
        ClearTunnel { user }
    }

    fn responder(&self, user: u32, _now: Instant) -> ClearTunnel {
        ClearTunnel { user }
    }

    fn identify(
        &self,
        datagram: &[u8],
        _from: SocketAddr,
        _transmit: Transmit<'_>,
    ) -> Result<Claim, DropCause> {
        let (user, _) = split(datagram)?;
        if user < MAX_USERS {
            Ok(Claim {
                user,
                opens: true,
                locates: true,
            })
        } else {
            Err(DropCause::UnknownPeer)
        }
    }
}

/// Either end of a [`Clear`] tunnel.
#[derive(Debug)]
pub struct ClearTunnel {
    user: u32,
}

impl Tunnel for ClearTunnel {
    fn initiate(&mut self, _now: Instant, _scratch: &mut [u8], _transmit: Transmit<'_>) {}

    fn is_established(&self) -> bool {
        true
    }

    fn send(
        &mut self,
        packet: IpPacket<'_>,
        _now: Instant,
        scratch: &mut [u8],
        transmit: Transmit<'_>,
    ) {
        let packet = packet.bytes();
        let frame = &mut scratch[..HEADER_BYTES + packet.len()];
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..HEADER_BYTES].copy_from_slice(&self.user.to_be_bytes());
        frame[HEADER_BYTES..].copy_from_slice(packet);
        transmit(frame);
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        _now: Instant,
        _scratch: &'s mut [u8],
        _transmit: Transmit<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause> {
        let (user, packet) = split(datagram)?;
        if user == self.user {
            Ok(Some(packet))
        } else {
            Err(DropCause::UnknownPeer)
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant, _scratch: &mut [u8], _transmit: Transmit<'_>) {}
}

fn split(datagram: &[u8]) -> Result<(u32, &[u8]), DropCause> {
    match datagram.split_first_chunk::<HEADER_BYTES>() {
        Some(([magic @ .., a, b, c, d], packet)) if *magic == MAGIC => {
            Ok((u32::from_be_bytes([*a, *b, *c, *d]), packet))
        }
        Some(_) | None => Err(DropCause::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::SCRATCH_BYTES;
    use crate::tunnel::packet::with_room;

    #[test]
    fn packets_cross_unaltered_and_strangers_are_dropped() {
        let now = Instant::now();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut frame = Vec::new();
        Clear.initiator(7, now).send(
            IpPacket::new(&mut with_room(b"packet"), 6),
            now,
            &mut scratch,
            &mut |datagram| {
                frame = datagram.to_vec();
            },
        );
        assert_eq!(frame.len(), 6 + Clear::OVERHEAD_BYTES);
        let outer = SocketAddr::from(([192, 0, 2, 1], 40_000));
        assert_eq!(
            Clear.identify(&frame, outer, &mut |_| panic!("nothing is answered")),
            Ok(Claim {
                user: 7,
                opens: true,
                locates: true
            })
        );

        let mut silent = |_: &[u8]| panic!("nothing is answered");
        let mut receive = |user, frame: &[u8]| {
            Clear
                .responder(user, now)
                .receive(frame, now, &mut scratch, &mut silent)
                .map(|packet| packet.map(<[u8]>::to_vec))
        };
        assert_eq!(receive(7, &frame), Ok(Some(b"packet".to_vec())));
        assert_eq!(receive(8, &frame), Err(DropCause::UnknownPeer));
        assert_eq!(receive(7, &frame[..7]), Err(DropCause::Malformed));
        assert_eq!(receive(7, b"INVITE sip:x"), Err(DropCause::Malformed));
    }
}
