//! Where IP comes from: the kernel's sockets, or a user-space stack over a tunnel.
//!
//! Carriers are written against [`DatagramNetwork`] and [`StreamNetwork`] and do not know which it
//! is: [`Kernel`] and [`Tunneled`] are both, so that `tcp@wireguard` is no more than a row in the
//! registry of stacks.
//!
//! This layer knows nothing of SIP.

mod kernel;
pub mod link;
pub mod scratch;
mod tcp;
mod timer;
#[cfg(target_os = "linux")]
pub mod tun;
mod tunneled;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

pub use kernel::{Batching, Kernel, KernelListener, SocketBuffers, UdpPort};
#[cfg(target_os = "linux")]
pub use tunneled::{Routed, RoutedListener, RoutedSocket, RoutedStream};
pub use tunneled::{TunnelLimits, Tunneled, TunneledListener, TunneledSocket, TunneledStream};
pub use wire::{MeteredStream, WireCounters, WireMeter};

use crate::tunnel::Drops;

/// A source of datagram sockets.
pub trait DatagramNetwork {
    /// A server's socket, shared by all its peers.
    type Server: DatagramSocket + 'static;
    /// One user's socket, which speaks to one server only.
    type Client: DatagramSocket + 'static;

    /// Binds a server's socket. `address` is an outer address, also where there are inner ones.
    ///
    /// # Errors
    /// [`NetError::Bind`].
    fn bind(&self, address: SocketAddr) -> Result<Self::Server, NetError>;

    /// Opens `user`'s socket to the server at the outer address `target`, protected if the network
    /// protects.
    ///
    /// # Errors
    /// When the server cannot be reached or does not complete the handshake in time.
    fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> impl Future<Output = Result<DatagramPeer<Self::Client>, NetError>>;

    /// Counts what all its sockets put on the wire and take from it: outside of a tunnel.
    fn meter(&self) -> &WireMeter;

    /// What the tunnels of its users dropped, those that are closed included; `None` where there is no
    /// tunnel.
    fn client_drops(&self) -> Option<Drops> {
        None
    }
}

/// A user's datagram socket and how it came to be.
#[derive(Debug)]
pub struct DatagramPeer<S> {
    /// The socket.
    pub socket: S,
    /// The server's address as SIP sees it.
    pub peer: SocketAddr,
    /// How long the tunnel's handshake took, where there is one.
    pub tunnel_handshake: Option<Duration>,
}

/// A socket of datagrams. One task drives it; anyone on the same worker may send.
pub trait DatagramSocket {
    /// The address that the kernel bound.
    fn bound(&self) -> SocketAddr;

    /// The address as SIP sees it: inside a tunnel, the inner one.
    fn local(&self) -> SocketAddr;

    /// Largest payload that [`Self::send`] can carry.
    fn max_payload_bytes(&self) -> usize;

    /// Sends, without waiting. A datagram that the system does not take waits in a short queue, and
    /// is dropped and counted when that is full.
    ///
    /// # Panics
    /// When `payload` exceeds [`Self::max_payload_bytes`].
    fn send(&self, peer: SocketAddr, payload: &[u8]);

    /// Passes on what arrived, up to a batch, sends what waited, and serves timers; then registers
    /// the task to be woken for more. `receive` may send on this socket.
    ///
    /// `Ready` means that the system reported an error, such as a peer that is not there. The socket
    /// stays usable: the caller decides, and polls again if it goes on.
    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error>;

    /// What was lost on this side.
    fn counters(&self) -> DatagramCounters;
}

/// What a datagram socket lost, as far as this process can know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramCounters {
    /// Datagrams that the system did not take while the queue was full, or refused.
    pub unsent: u64,
    /// Datagrams that a tunnel dropped; all zero without one.
    pub tunnel: Drops,
}

impl DatagramCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            unsent: self.unsent + other.unsent,
            tunnel: self.tunnel.plus(other.tunnel),
        }
    }
}

/// A source of reliable streams.
pub trait StreamNetwork {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// A listening socket.
    type Listener: StreamListener<Stream = Self::Stream> + 'static;

    /// Binds a listener. `address` is an outer address, also where there are inner ones.
    ///
    /// # Errors
    /// [`NetError::Bind`].
    fn listen(&self, address: SocketAddr) -> Result<Self::Listener, NetError>;

    /// Opens a connection for `user` to the server at the outer address `target`.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer in time.
    fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> impl Future<Output = Result<StreamPeer<Self::Stream>, NetError>>;

    /// Counts what all its connections put on the wire and take from it: outside of a tunnel.
    fn meter(&self) -> &WireMeter;

    /// What the tunnels of its users dropped, those that are closed included; `None` where there is no
    /// tunnel.
    fn client_drops(&self) -> Option<Drops> {
        None
    }
}

/// A listening socket.
pub trait StreamListener {
    /// What it accepts.
    type Stream;

    /// The address that the kernel bound.
    fn bound(&self) -> SocketAddr;

    /// The next connection.
    ///
    /// # Errors
    /// The system's, for example that no file descriptor is left. The listener stays usable.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<StreamPeer<Self::Stream>>>;

    /// This side's port of what it accepts, as SIP sees it: inside a tunnel, the inner one.
    fn local_port(&self) -> u16 {
        self.bound().port()
    }

    /// What the tunnels below lost; `None` where there are none, since a stream loses nothing.
    fn counters(&self) -> Option<DatagramCounters> {
        None
    }
}

/// A stream, its addresses as SIP sees them, and how it came to be.
#[derive(Debug)]
pub struct StreamPeer<S> {
    /// The stream.
    pub stream: S,
    /// This side.
    pub local: SocketAddr,
    /// The other side.
    pub peer: SocketAddr,
    /// How long the three-way handshake took; `None` on the accepting side.
    pub transport_connect: Option<Duration>,
    /// How long the tunnel's handshake took, where there is one.
    pub tunnel_handshake: Option<Duration>,
}

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The address could not be bound.
    #[error("cannot bind {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The peer could not be reached.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// The peer's outer address.
        target: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The peer did not answer in time.
    #[error("{phase} with {peer} took longer than {limit:?}")]
    TimedOut {
        /// What took so long.
        phase: &'static str,
        /// The peer's outer address.
        peer: SocketAddr,
        /// The limit.
        limit: Duration,
    },
}
