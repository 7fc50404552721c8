//! What has to be known of an incoming packet before smoltcp takes it: that it is an intact TCP
//! segment, and whose.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::Service;
use crate::tunnel::DropCause;

/// What identifies a connection of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) peer: SocketAddrV4,
    pub(super) local_port: u16,
}

/// An intact TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) route: Route,
    /// The initial sequence number of the connection that it asks for, if it does.
    pub(super) opens: Option<TcpSeqNumber>,
}

impl Segment {
    /// Verifies checksums and lengths. Fragments are not put together: nobody sends them.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, DropCause> {
        parse(packet).ok_or(DropCause::Malformed)
    }

    /// Whether `service` would have taken it but for want of room; then it is not refused, so that the
    /// peer tries again.
    pub(super) fn is_welcome_to(&self, service: Option<&Service>) -> bool {
        self.opens.is_some() && service.is_some_and(|service| service.is_open)
    }
}

fn parse(packet: &[u8]) -> Option<Segment> {
    let checksums = ChecksumCapabilities::default();
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    let ip = Ipv4Repr::parse(&packet, &checksums).ok()?;
    if ip.next_header != IpProtocol::Tcp || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    let (source, destination) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
    let tcp = TcpRepr::parse(&segment, &source, &destination, &checksums).ok()?;
    Some(Segment {
        route: Route {
            peer: SocketAddrV4::new(ip.src_addr, tcp.src_port),
            local_port: tcp.dst_port,
        },
        opens: (tcp.control == TcpControl::Syn && tcp.ack_number.is_none())
            .then_some(tcp.seq_number),
    })
}
