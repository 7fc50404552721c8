//! The inner packets: UDP over IPv4 (RFC 768, RFC 791), written and verified.
//!
//! Packets are never fragmented: what does not fit one outer datagram is refused by the socket.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{IpNumber, Ipv4Header, Ipv4HeaderSlice, UdpHeader, UdpSlice};

use super::DropCause;

/// What IPv4 and UDP put before a payload.
pub const IP_UDP_HEADER_BYTES: usize = Ipv4Header::MIN_LEN + UdpHeader::LEN;

const TIME_TO_LIVE: u8 = 64;

/// A UDP datagram found in an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPacket<'a> {
    /// Who sent it.
    pub source: SocketAddrV4,
    /// Whom it is for.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Writes `payload` as an IP packet to the start of `buffer` and returns the packet's length.
///
/// # Panics
/// When `buffer` is shorter than the payload and [`IP_UDP_HEADER_BYTES`], or the packet would be
/// longer than 65,535 bytes.
pub fn write_udp(
    buffer: &mut [u8],
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &[u8],
) -> usize {
    let udp_bytes = u16::try_from(UdpHeader::LEN + payload.len()).expect("a packet that fits IPv4");
    let mut ip = Ipv4Header::new(
        udp_bytes,
        TIME_TO_LIVE,
        IpNumber::UDP,
        source.ip().octets(),
        destination.ip().octets(),
    )
    .expect("a packet that fits IPv4");
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(source.port(), destination.port(), &ip, payload)
        .expect("a packet that fits IPv4");
    buffer[..Ipv4Header::MIN_LEN].copy_from_slice(&ip.to_bytes());
    buffer[Ipv4Header::MIN_LEN..IP_UDP_HEADER_BYTES].copy_from_slice(&udp.to_bytes());
    let packet_bytes = IP_UDP_HEADER_BYTES + payload.len();
    buffer[IP_UDP_HEADER_BYTES..packet_bytes].copy_from_slice(payload);
    packet_bytes
}

/// Reads the UDP datagram in an IP packet, verifying lengths and checksums.
///
/// # Errors
/// [`DropCause::Malformed`] when it is not one whole, intact UDP datagram over IPv4.
pub fn parse_udp(packet: &[u8]) -> Result<UdpPacket<'_>, DropCause> {
    parse(packet).ok_or(DropCause::Malformed)
}

/// Hands `packet` back if it goes from `source` to `destination`.
pub(super) fn check_route(
    packet: &[u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Result<&[u8], DropCause> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|_| DropCause::Malformed)?;
    if header.source_addr() == source && header.destination_addr() == destination {
        Ok(packet)
    } else {
        Err(DropCause::Misrouted)
    }
}

/// Where `packet` goes.
pub(super) fn destination(packet: &[u8]) -> Result<Ipv4Addr, DropCause> {
    Ipv4HeaderSlice::from_slice(packet)
        .map(|header| header.destination_addr())
        .map_err(|_| DropCause::Malformed)
}

fn parse(packet: &[u8]) -> Option<UdpPacket<'_>> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let intact = usize::from(ip.total_len()) == packet.len()
        && ip.protocol() == IpNumber::UDP
        && !ip.is_fragmenting_payload()
        && ip.to_header().calc_header_checksum() == ip.header_checksum();
    if !intact {
        return None;
    }
    let udp = UdpSlice::from_slice(&packet[ip.slice().len()..]).ok()?;
    let checksum = udp
        .to_header()
        .calc_checksum_ipv4_raw(ip.source(), ip.destination(), udp.payload())
        .ok()?;
    // A checksum of 0 means that the sender computed none, which IPv4 allows.
    if udp.checksum() != 0 && udp.checksum() != checksum {
        return None;
    }
    Some(UdpPacket {
        source: SocketAddrV4::new(ip.source_addr(), udp.source_port()),
        destination: SocketAddrV4::new(ip.destination_addr(), udp.destination_port()),
        payload: udp.payload(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tunnel::{SERVER, user_address};

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; payload.len() + IP_UDP_HEADER_BYTES];
        let bytes = write_udp(
            &mut buffer,
            SocketAddrV4::new(user_address(3), 5060),
            SocketAddrV4::new(SERVER, 5062),
            payload,
        );
        assert_eq!(bytes, buffer.len());
        buffer
    }

    #[test]
    fn every_single_damaged_byte_is_noticed() {
        let whole = packet(b"REGISTER sip:hopbench.test SIP/2.0\r\n");
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x5a;
            assert_eq!(
                parse_udp(&damaged),
                Err(DropCause::Malformed),
                "byte {position}"
            );
        }
        for length in 0..whole.len() {
            assert_eq!(
                parse_udp(&whole[..length]),
                Err(DropCause::Malformed),
                "{length} bytes"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payload in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let packet = packet(&payload);
            let udp = parse_udp(&packet).expect("intact");
            prop_assert_eq!(udp.payload, &payload[..]);
            prop_assert_eq!(udp.source, SocketAddrV4::new(user_address(3), 5060));
            prop_assert_eq!(udp.destination, SocketAddrV4::new(SERVER, 5062));
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_udp(&bytes);
        }
    }
}
