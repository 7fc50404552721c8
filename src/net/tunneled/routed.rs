//! The kernel's own UDP and TCP inside tunnels, as deployed VPNs have it: packets pass between the kernel and
//! the tunnels by way of TUN devices in this process's network namespace.
//!
//! Users of a worker share one device towards each server; it tells them by their inner addresses, which must
//! be this host's own (`ip route add local 10.0.0.0/8 dev lo`). A server has one device for all its peers. All
//! sockets are bound to their device, so that nothing passes beside the tunnels, and both ends of a hop may
//! even be in one namespace.

mod device;
mod server;
mod socket;
mod stream;
mod user;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};

use self::device::{Device, Ends};
use self::server::{Listening, Server};
pub use self::socket::RoutedSocket;
pub use self::stream::{RoutedListener, RoutedStream};
use self::user::{Hold, UserDevice};
use super::{Tunneled, inner_server};
use crate::net::{
    DatagramCounters, DatagramNetwork, DatagramPeer, Kernel, NetError, StreamNetwork, StreamPeer,
    WireMeter,
};
use crate::tunnel::{Drops, Protection, user_address};

/// Networking by the kernel over tunnels of one kind.
pub struct Routed<P: Protection + 'static> {
    tunnels: Tunneled<P>,
    /// Users', by the server's outer address.
    devices: RefCell<HashMap<SocketAddr, Rc<UserDevice<P>>>>,
    /// Servers that are at work, perhaps only to let their last connections end.
    servers: RefCell<Vec<Weak<Server<P>>>>,
}

impl<P: Protection + 'static> Routed<P> {
    /// The same tunnels, with the kernel's sockets inside instead of those in user space.
    #[must_use]
    pub fn new(tunnels: Tunneled<P>) -> Self {
        Self {
            tunnels,
            devices: RefCell::default(),
            servers: RefCell::default(),
        }
    }

    /// The kernel's sockets inside: on `device` alone, from `source`. What they cost is inside, and not on
    /// the wire.
    fn inner(&self, source: Option<Ipv4Addr>, device: &Device) -> Kernel {
        Kernel {
            share_port: false,
            source: source.map(IpAddr::V4),
            device: Some(device.name().to_owned()),
            meter: WireMeter::default(),
            ..self.tunnels.kernel.clone()
        }
    }

    fn device(&self, ends: Ends) -> io::Result<Device> {
        Device::open(ends, self.tunnels.tcp.mtu_bytes)
    }

    /// Users' device towards `target`; `first` is one of them.
    fn user_device(&self, target: SocketAddr, first: Ipv4Addr) -> io::Result<Rc<UserDevice<P>>> {
        if let Some(device) = self.devices.borrow().get(&target) {
            return Ok(Rc::clone(device));
        }
        let device = UserDevice::new(self.device(Ends::OfUsers { first })?);
        self.devices.borrow_mut().insert(target, Rc::clone(&device));
        Ok(device)
    }

    /// What the tunnels of its users dropped, and the kernel on the way to them.
    fn user_drops(&self) -> Drops {
        let devices = self.devices.borrow();
        let devices = devices.values().map(|device| device.device().drops());
        devices.fold(self.tunnels.client_drops.get(), Drops::plus)
    }

    /// `user`'s tunnel at work, and the kernel's sockets inside.
    async fn enter(&self, user: u32, target: SocketAddr) -> Result<Entered<P>, NetError> {
        let (port, tunnel_handshake) = self.tunnels.open(user, target).await?;
        let address = user_address(user);
        let device = self.user_device(target, address);
        let device = device.map_err(|source| NetError::Connect { target, source })?;
        Ok(Entered {
            kernel: self.inner(Some(address), device.device()),
            hold: Hold::take(&device, address, port, self.tunnels.limits.linger),
            tunnel_handshake,
        })
    }

    /// A server's tunnels at work at the outer `address`. As with the kernel's TCP, an address can be
    /// listened on again while connections of its last listener are ending.
    fn serve(&self, address: SocketAddr) -> Result<Listening<P>, NetError> {
        let mut servers = self.servers.borrow_mut();
        servers.retain(|server| server.strong_count() > 0);
        let mut alive = servers.iter().filter_map(Weak::upgrade);
        if let Some(server) = alive.find(|server| server.may_listen_at(address)) {
            return Ok(server.listen());
        }
        let port = self.tunnels.kernel.bind_port(address)?;
        let device = self.device(Ends::OfServer);
        let device = device.map_err(|source| NetError::Bind { address, source })?;
        let server = Server::new(port, self.tunnels.gateway(), device);
        servers.push(Rc::downgrade(&server));
        let listening = server.listen();
        server.work_by_task(self.tunnels.limits.linger);
        Ok(listening)
    }
}

/// What keeps the tunnels below a socket at work.
pub trait Below {
    /// Their outer address.
    fn bound(&self) -> SocketAddr;

    /// What was lost in them.
    fn counters(&self) -> DatagramCounters;
}

/// A user inside its tunnel.
struct Entered<P: Protection + 'static> {
    kernel: Kernel,
    hold: Hold<P>,
    tunnel_handshake: Option<std::time::Duration>,
}

impl<P: Protection + 'static> StreamNetwork for Routed<P> {
    type Stream = RoutedStream<P>;
    type Listener = RoutedListener<P>;

    fn listen(&self, address: SocketAddr) -> Result<RoutedListener<P>, NetError> {
        let listening = self.serve(address)?;
        let inner = self.inner(None, listening.device());
        let listener = StreamNetwork::listen(&inner, inner_server().into())?;
        Ok(RoutedListener::new(listener, listening))
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<StreamPeer<RoutedStream<P>>, NetError> {
        let entered = self.enter(user, target).await?;
        let connecting = StreamNetwork::connect(&entered.kernel, user, inner_server().into());
        let connected = tokio::select! {
            connected = connecting => connected?,
            source = entered.hold.failed() => return Err(NetError::Connect { target, source }),
        };
        Ok(StreamPeer {
            stream: RoutedStream::of_user(connected.stream, entered.hold),
            local: connected.local,
            peer: connected.peer,
            transport_connect: connected.transport_connect,
            tunnel_handshake: entered.tunnel_handshake,
        })
    }

    fn meter(&self) -> &WireMeter {
        &self.tunnels.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.user_drops())
    }
}

impl<P: Protection + 'static> DatagramNetwork for Routed<P> {
    type Server = RoutedSocket<Listening<P>>;
    type Client = RoutedSocket<Hold<P>>;

    fn bind(&self, address: SocketAddr) -> Result<Self::Server, NetError> {
        let listening = self.serve(address)?;
        let inner = self.inner(None, listening.device());
        let socket = inner.bind_port(inner_server().into())?;
        Ok(RoutedSocket::new::<P>(socket, listening))
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<DatagramPeer<Self::Client>, NetError> {
        let entered = self.enter(user, target).await?;
        let socket = entered.kernel.connect_port(inner_server().into()).await?;
        Ok(DatagramPeer {
            socket: RoutedSocket::new::<P>(socket, entered.hold),
            peer: inner_server().into(),
            tunnel_handshake: entered.tunnel_handshake,
        })
    }

    fn meter(&self) -> &WireMeter {
        &self.tunnels.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.user_drops())
    }
}
