//! The kernel's sockets.

mod batch;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use tcp::KernelListener;
pub use udp::UdpPort;

use super::WireMeter;

/// Networking by the kernel, unprotected.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// How long a TCP connect may take.
    pub connect_limit: Duration,
    /// Whether several listeners share a port (`SO_REUSEPORT`).
    pub share_port: bool,
    /// Where client sockets bind; the kernel chooses if it is `None`.
    pub source: Option<IpAddr>,
    /// Whether datagram sockets pass several datagrams to and from the kernel at once.
    pub batching: Batching,
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
}

impl Kernel {
    fn source_for(&self, target: SocketAddr) -> IpAddr {
        self.source.unwrap_or(match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        })
    }
}
