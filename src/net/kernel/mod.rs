//! The kernel's sockets.

mod inbox;
mod outbox;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::SockRef;

pub use tcp::KernelListener;
pub use udp::UdpPort;

use super::WireMeter;

/// What one system call passes at the most: datagrams, or runs of them as one.
const BATCH_LENGTH: usize = 32;

/// Networking by the kernel, unprotected.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// How long a TCP connect may take.
    pub connect_limit: Duration,
    /// Whether several listeners share a port (`SO_REUSEPORT`).
    pub share_port: bool,
    /// Where client sockets bind; the kernel chooses if it is `None`.
    pub source: Option<IpAddr>,
    /// The only interface whose packets they send and receive; any if it is `None`. Linux alone has it.
    pub device: Option<String>,
    /// Whether datagram sockets pass several datagrams to and from the kernel at once.
    pub batching: Batching,
    /// How much the kernel may keep for each socket.
    pub buffers: SocketBuffers,
    /// Counts what its sockets put on the wire and take from it.
    pub meter: WireMeter,
}

/// Whether one system call may pass several datagrams to or from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batching {
    /// One call for each datagram.
    #[default]
    Off,
    /// `recvmmsg` and `sendmmsg`.
    On,
    /// The same; and datagrams of one length to one peer that are sent one behind the other pass the kernel's
    /// stack as one, which is taken apart at its end (`UDP_SEGMENT`), unless the kernel or the way refuses. What
    /// arrives so is also taken as one (`UDP_GRO`). What the peer gets is the same.
    Segments,
}

/// What every socket asks the kernel for (`SO_SNDBUF`, `SO_RCVBUF`): it doubles that for its own books,
/// and clamps it to `wmem_max` and `rmem_max`. Asked for, it does not grow or shrink any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketBuffers {
    /// What may wait to be sent; if it is `None`, as the kernel does it, and 4 MiB of a server's
    /// datagram socket.
    pub socket_send_buffer_bytes: Option<u32>,
    /// What may wait to be received; likewise.
    pub socket_receive_buffer_bytes: Option<u32>,
}

impl SocketBuffers {
    fn apply(self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        if let Some(bytes) = self.socket_send_buffer_bytes {
            socket.set_send_buffer_size(bytes as usize)?;
        }
        if let Some(bytes) = self.socket_receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        Ok(())
    }
}

impl Kernel {
    /// Keeps a socket to the device, if there is one.
    #[cfg(target_os = "linux")]
    fn keep_to_device(&self, socket: &impl AsFd) -> io::Result<()> {
        match &self.device {
            Some(device) => SockRef::from(socket).bind_device(Some(device.as_bytes())),
            None => Ok(()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn keep_to_device(&self, _socket: &impl AsFd) -> io::Result<()> {
        match &self.device {
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
            None => Ok(()),
        }
    }

    fn source_for(&self, target: SocketAddr) -> IpAddr {
        self.source.unwrap_or(match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        })
    }
}
