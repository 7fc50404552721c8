//! UDP and TCP over IPv4 in user space, over tunnels, over kernel UDP sockets.
//!
//! A user has an outer socket, a tunnel and a host of its own; a server has one outer socket, a
//! [`Gateway`] and one host for all of them.

mod datagram;
mod host;
mod port;
#[cfg(target_os = "linux")]
mod routed;
mod stream;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

pub use self::datagram::TunneledSocket;
use self::host::Host;
use self::port::TunnelPort;
#[cfg(target_os = "linux")]
pub use self::routed::{Routed, RoutedListener, RoutedSocket, RoutedStream};
pub use self::stream::{TunneledListener, TunneledStream};
use super::tcp::{Tcp, TcpOptions};
use super::{
    DatagramNetwork, DatagramPeer, Kernel, NetError, StreamNetwork, StreamPeer, WireMeter,
};
use crate::measure::heap::{self, Part};
use crate::tunnel::{
    Drops, Gateway, Initiator, MAX_USERS, Protection, SERVER, SIP_PORT, TunnelOptions, user_address,
};

/// The first port of those that connections are opened from (RFC 6335 §6).
const FIRST_EPHEMERAL_PORT: u16 = 49_152;

/// Every host takes packets of this size (RFC 791 §3.1).
const MTU_BYTES_MIN: usize = 576;

/// What the outermost header needs of it.
const MTU_BYTES_MAX: usize = 65_000;

/// What windows can tell without scaling, twice over.
const BUFFER_BYTES_MAX: usize = 1 << 24;

/// Connections that a server holds before somebody accepts them, as on the kernel's sockets.
const BACKLOG: usize = 4_096;

/// How long things may take inside a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// The tunnel's handshake.
    pub handshake: Duration,
    /// Delivering what was written to a stream before it was dropped.
    pub linger: Duration,
}

/// Networking over tunnels of one kind.
pub struct Tunneled<P: Protection> {
    kernel: Kernel,
    protection: Rc<P>,
    limits: TunnelLimits,
    tcp: TcpOptions,
    /// The port that the next stream is opened from. A user who comes back soon does so from another
    /// one, so that its last connection may end in peace.
    next_port: Cell<u16>,
    /// Servers of streams that are at work, perhaps only to let their last connections end.
    servers: RefCell<Vec<Weak<Host<Gateway<P>>>>>,
    /// What the tunnels of all users dropped.
    client_drops: Rc<Cell<Drops>>,
}

impl<P: Protection> Tunneled<P> {
    /// Tunnels over the kernel's sockets. Sizes of `options` that cannot work are taken as the nearest
    /// that can.
    #[must_use]
    pub fn new(
        kernel: Kernel,
        protection: P,
        limits: TunnelLimits,
        options: &TunnelOptions,
    ) -> Self {
        let mtu_bytes = usize::from(options.mtu_bytes).clamp(MTU_BYTES_MIN, MTU_BYTES_MAX);
        Self {
            protection: Rc::new(protection),
            limits,
            tcp: TcpOptions {
                mtu_bytes,
                buffer_bytes: (options.tcp_buffer_bytes as usize)
                    .clamp(mtu_bytes, BUFFER_BYTES_MAX),
                connect_limit: kernel.connect_limit,
                linger_limit: limits.linger,
                backlog: BACKLOG,
            },
            kernel,
            next_port: Cell::new(rand::random()),
            servers: RefCell::default(),
            client_drops: Rc::default(),
        }
    }

    /// `user`'s tunnel to the server at `target`, and how long its handshake took.
    async fn open(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<(TunnelPort<Initiator<P>>, Option<Duration>), NetError> {
        let failed = |source| NetError::Connect { target, source };
        if user >= MAX_USERS {
            let reason = format!("user {user} has no inner address: there are {MAX_USERS}");
            return Err(failed(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                reason,
            )));
        }
        let port = self.kernel.connect_port(target).await?;
        let initiator = {
            let _scope = heap::part(Part::Tunnel);
            Initiator::new(&*self.protection, user, target, Instant::now())
                .sharing(Rc::clone(&self.client_drops))
        };
        let port = TunnelPort::new(port, initiator);
        let Some(phase) = P::HANDSHAKE else {
            return Ok((port, None));
        };
        // Making the keys ready is configuration; the handshake starts now.
        let started = Instant::now();
        tokio::time::timeout(self.limits.handshake, port.establish())
            .await
            .map_err(|_| NetError::TimedOut {
                phase,
                peer: target,
                limit: self.limits.handshake,
            })?
            .map_err(failed)?;
        Ok((port, Some(started.elapsed())))
    }

    fn ephemeral_port(&self) -> u16 {
        let next = self.next_port.get().max(FIRST_EPHEMERAL_PORT);
        self.next_port.set(next.wrapping_add(1));
        next
    }
}

/// The server's address as SIP sees it.
fn inner_server() -> SocketAddrV4 {
    SocketAddrV4::new(SERVER, SIP_PORT)
}

impl<P: Protection + 'static> Tunneled<P> {
    fn gateway(&self) -> Gateway<P> {
        let _scope = heap::part(Part::Tunnel);
        Gateway::new(Rc::clone(&self.protection))
    }

    /// The server at `address` that still lets connections end, if there is one.
    fn ending_server(&self, address: SocketAddr) -> Option<Rc<Host<Gateway<P>>>> {
        let mut servers = self.servers.borrow_mut();
        servers.retain(|server| server.strong_count() > 0);
        let mut alive = servers.iter().filter_map(Weak::upgrade);
        alive.find(|server| server.bound() == address)
    }
}

impl<P: Protection + 'static> DatagramNetwork for Tunneled<P> {
    type Server = TunneledSocket<Gateway<P>>;
    type Client = TunneledSocket<Initiator<P>>;

    fn bind(&self, address: SocketAddr) -> Result<Self::Server, NetError> {
        let port = self.kernel.bind_port(address)?;
        let port = TunnelPort::new(port, self.gateway());
        Ok(TunneledSocket::new(port, P::OVERHEAD_BYTES))
    }

    fn meter(&self) -> &WireMeter {
        &self.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.client_drops.get())
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<DatagramPeer<Self::Client>, NetError> {
        let (port, tunnel_handshake) = self.open(user, target).await?;
        Ok(DatagramPeer {
            socket: TunneledSocket::new(port, P::OVERHEAD_BYTES),
            peer: inner_server().into(),
            tunnel_handshake,
        })
    }
}

impl<P: Protection + 'static> StreamNetwork for Tunneled<P> {
    type Stream = TunneledStream;
    type Listener = TunneledListener<P>;

    /// As with the kernel's TCP, an address can be listened on again while connections of its last
    /// listener are ending.
    fn listen(&self, address: SocketAddr) -> Result<TunneledListener<P>, NetError> {
        if let Some(server) = self.ending_server(address)
            && server.listen()
        {
            return Ok(TunneledListener::new(server));
        }
        let port = self.kernel.bind_port(address)?;
        let port = TunnelPort::new(port, self.gateway());
        let _scope = heap::part(Part::InnerStack);
        let tcp = Tcp::server(SERVER, SIP_PORT, self.tcp, Instant::now());
        let server = Host::new(port, tcp);
        server.listen();
        self.servers.borrow_mut().push(Rc::downgrade(&server));
        server.drive_by_task();
        Ok(TunneledListener::new(server))
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<StreamPeer<TunneledStream>, NetError> {
        let (port, tunnel_handshake) = self.open(user, target).await?;
        let address = user_address(user);
        let local_port = self.ephemeral_port();
        let started = Instant::now();
        let host = {
            let _scope = heap::part(Part::InnerStack);
            Host::new(port, Tcp::client(address, self.tcp, started))
        };
        let connecting = host.connect(inner_server(), local_port);
        let key = tokio::time::timeout(self.kernel.connect_limit, connecting)
            .await
            .map_err(|_| NetError::TimedOut {
                phase: "TCP connect",
                peer: target,
                limit: self.kernel.connect_limit,
            })?
            .map_err(|source| NetError::Connect { target, source })?;
        Ok(StreamPeer {
            stream: TunneledStream::new(host, key),
            local: SocketAddrV4::new(address, local_port).into(),
            peer: inner_server().into(),
            transport_connect: Some(started.elapsed()),
            tunnel_handshake,
        })
    }

    fn meter(&self) -> &WireMeter {
        &self.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.client_drops.get())
    }
}
