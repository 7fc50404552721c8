//! What an eavesdropper sees on a wire: a packet socket at each of its ends, for what is sent there. What is received
//! they would show, too, but the kernel also shows there what it has decrypted, as if that had come by the wire.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};

use super::strongswan::ports_of;
use super::{DaemonError, Host};
use crate::lab::LabError;
use crate::lab::network::interface_of;

/// That a packet leaves (`PACKET_OUTGOING`, packet(7)).
const OUTGOING: u8 = 4;
/// Packets that wait to be read, as the kernel counts their memory.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;
const PACKET_BYTES_MAX: usize = 65_536;
const IPV4_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const UDP: u8 = 17;
#[cfg(test)]
const ESP: u8 = 50;
/// In front of IKE where ESP is at the same port, whose SPI is never zero (RFC 3948 §2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// Types of WireGuard messages: initiation, response, cookie.
const WIREGUARD_HANDSHAKE: [u8; 3] = [1, 2, 3];

/// Sees every packet that is sent over a wire from now on, whether it arrives or not.
pub(super) struct Tap([TapEnd; 2]);

/// One end of the wire.
struct TapEnd {
    socket: OwnedFd,
    interface: usize,
    /// Of the link.
    number: u8,
}

/// An IP packet as it was on the wire.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    /// Of the link that it was on.
    link: u8,
}

impl Tap {
    /// Between these hosts.
    pub(super) fn open([one, other]: [Host<'_>; 2]) -> Result<Self, DaemonError> {
        Ok(Self([TapEnd::open(one)?, TapEnd::open(other)?]))
    }

    /// Forgets what was seen so far.
    pub(super) fn clear(&mut self) -> Result<(), DaemonError> {
        self.drain().map(drop)
    }

    /// The IPv4 packets that were seen since the last time: one end's, and then the other's.
    pub(super) fn drain(&mut self) -> Result<Vec<Packet>, DaemonError> {
        let mut found = Vec::new();
        for end in &self.0 {
            end.drain_into(&mut found)?;
        }
        Ok(found)
    }
}

impl TapEnd {
    /// Of a host's interface at its link.
    fn open(host: Host<'_>) -> Result<Self, DaemonError> {
        let number = host.number;
        let interface = interface_of(number);
        let interface = interface.as_str();
        let tap = host.namespace.run(|| {
            let open = || {
                let socket = socket(
                    AddressFamily::Packet,
                    SockType::Datagram,
                    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                    SockProtocol::EthAll,
                )?;
                // Where the user may not have so much, the kernel's default has to do.
                let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES);
                let interface = if_nametoindex(interface)? as usize;
                Ok(Self {
                    socket,
                    interface,
                    number,
                })
            };
            let opened: Result<Self, Errno> = open();
            opened
                .map_err(std::io::Error::from)
                .map_err(LabError::step(format!(
                    "open a packet socket for {interface}"
                )))
        });
        Ok(tap?)
    }

    /// Puts what was seen since the last time behind `found`.
    fn drain_into(&self, found: &mut Vec<Packet>) -> Result<(), DaemonError> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(address)))
                    if address.ifindex() == self.interface && address.pkttype() == OUTGOING =>
                {
                    let packet = &buffer[..length];
                    if packet.len() >= IPV4_HEADER_BYTES && packet[0] >> 4 == 4 {
                        found.push(Packet {
                            bytes: packet.to_vec(),
                            link: self.number,
                        });
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => {
                    return Err(DaemonError::Io("read a packet socket".into(), error.into()));
                }
            }
        }
    }
}

impl Packet {
    /// With its header.
    pub(super) fn ip_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it is key exchange of IPsec.
    pub(super) fn is_ike(&self) -> bool {
        self.udp().is_some_and(|(ports, payload)| {
            let [ike, nat] = ports_of(self.link);
            ports.contains(&ike) || ports.contains(&nat) && payload.starts_with(&NON_ESP_MARKER)
        })
    }

    /// Whether it is ESP (RFC 4303).
    #[cfg(test)]
    pub(super) fn is_esp(&self) -> bool {
        self.bytes[9] == ESP
    }

    /// Whether it is ESP in UDP (RFC 3948): a keep-alive is of one byte.
    #[cfg(test)]
    pub(super) fn is_esp_in_udp(&self) -> bool {
        self.udp().is_some_and(|(ports, payload)| {
            let [_, nat] = ports_of(self.link);
            ports.contains(&nat) && payload.len() > 8 && !payload.starts_with(&NON_ESP_MARKER)
        })
    }

    /// Whether it is of a WireGuard handshake, on a wire where there is no other UDP.
    pub(super) fn is_wireguard_handshake(&self) -> bool {
        self.udp().is_some_and(|(_, payload)| {
            payload.len() > 4
                && WIREGUARD_HANDSHAKE.contains(&payload[0])
                && payload[1..4] == [0; 3]
        })
    }

    /// Whether it is what WireGuard carries (type 4 of its messages).
    #[cfg(test)]
    pub(super) fn is_wireguard_data(&self) -> bool {
        self.udp()
            .is_some_and(|(_, payload)| payload.len() >= 32 && payload[..4] == [4, 0, 0, 0])
    }

    /// Whether these bytes are in it as they are.
    #[cfg(test)]
    pub(super) fn contains(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text)
    }

    /// Ports and payload, if it is a datagram.
    fn udp(&self) -> Option<([u16; 2], &[u8])> {
        let header_bytes = usize::from(self.bytes[0] & 0xf) * 4;
        if self.bytes[9] != UDP {
            return None;
        }
        let datagram = self.bytes.get(header_bytes..)?;
        let (header, payload) = datagram.split_at_checked(UDP_HEADER_BYTES)?;
        let port = |place: usize| u16::from_be_bytes([header[place], header[place + 1]]);
        Some(([port(0), port(2)], payload))
    }
}
