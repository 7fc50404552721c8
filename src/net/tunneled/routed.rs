//! The kernel's own UDP and TCP inside tunnels, as deployed VPNs have it: packets pass between the kernel and
//! the tunnels by way of TUN devices in this process's network namespace.
//!
//! A network of users has one device towards each server, which tells users by their inner addresses; a
//! server has one for all its peers. The users' addresses must be this host's own (AnyIP); sockets are bound
//! to their device, so that nothing of a user's passes beside its tunnel.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::port::TunnelPort;
use super::{Tunneled, inner_server};
use crate::net::tun::{Tun, TunConfig};
use crate::net::{
    DatagramCounters, DatagramNetwork, DatagramPeer, DatagramSocket, Kernel, KernelListener,
    MeteredStream, NetError, StreamListener, StreamNetwork, StreamPeer, UdpPort, WireMeter,
    scratch,
};
use crate::tunnel::{
    Drops, Endpoint, Gateway, IP_UDP_HEADER_BYTES, Initiator, IpPacket, MAX_DATAGRAM_BYTES,
    PACKET_ROOM_BYTES, Protection, SERVER, user_address,
};

/// Inner addresses are 10.0.0.0/8, all of them behind a server's device.
const SERVER_PREFIX_BITS: u8 = 8;
/// Packets that are read from a device before other tasks get their turn.
const BATCH_PACKETS: usize = 64;

/// Networking by the kernel over tunnels of one kind.
pub struct Routed<P: Protection + 'static> {
    tunnels: Tunneled<P>,
    /// By the server's outer address.
    devices: RefCell<HashMap<SocketAddr, Rc<UserDevice<P>>>>,
}

/// Users' device towards one server.
struct UserDevice<P: Protection> {
    tun: AsyncFd<Tun>,
    users: RefCell<HashMap<Ipv4Addr, Rc<TunnelPort<Initiator<P>>>>>,
}

/// What keeps a tunnel at work. When it is dropped the tunnel lingers, so that a connection may end in order.
type Hold = oneshot::Sender<()>;

impl<P: Protection + 'static> Routed<P> {
    /// The same tunnels, with the kernel's sockets inside instead of those in user space.
    #[must_use]
    pub fn new(tunnels: Tunneled<P>) -> Self {
        Self {
            tunnels,
            devices: RefCell::default(),
        }
    }

    /// The kernel's sockets inside: on `device` alone, from `source`. What they cost is inside, and not on
    /// the wire.
    fn inner(&self, source: Option<Ipv4Addr>, device: Option<String>) -> Kernel {
        Kernel {
            share_port: false,
            source: source.map(IpAddr::V4),
            device,
            meter: WireMeter::default(),
            ..self.tunnels.kernel.clone()
        }
    }

    fn device(&self, target: SocketAddr, first: Ipv4Addr) -> io::Result<Rc<UserDevice<P>>> {
        if let Some(device) = self.devices.borrow().get(&target) {
            return Ok(Rc::clone(device));
        }
        let tun = self.tun(first, 32, Some(SERVER))?;
        let device = Rc::new(UserDevice {
            tun,
            users: RefCell::default(),
        });
        spawn_local(read_users(Rc::downgrade(&device)));
        self.devices.borrow_mut().insert(target, Rc::clone(&device));
        Ok(device)
    }

    fn tun(
        &self,
        address: Ipv4Addr,
        prefix_bits: u8,
        peer: Option<Ipv4Addr>,
    ) -> io::Result<AsyncFd<Tun>> {
        let config = TunConfig {
            name: "tunnel%d".into(),
            address,
            prefix_bits,
            peer,
            mtu_bytes: u32::try_from(self.tunnels.tcp.mtu_bytes).expect("it fits 16 bits"),
        };
        let tun = Tun::open(&config).map_err(io::Error::other)?;
        // SAFETY: a device hands out the one descriptor that it owns until it is dropped.
        let registered = unsafe { AsyncFd::register(tun) };
        registered.map_err(|refused| refused.into_parts().1)
    }

    /// `user`'s tunnel at work, the kernel's sockets inside, and how long the handshake took.
    async fn enter(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<(Kernel, Hold, Option<std::time::Duration>), NetError> {
        let (port, handshake) = self.tunnels.open(user, target).await?;
        let address = user_address(user);
        let device = self.device(target, address);
        let device = device.map_err(|source| NetError::Connect { target, source })?;
        let port = Rc::new(port);
        let users = &device.users;
        users.borrow_mut().insert(address, Rc::clone(&port));
        let name = device.tun.get_ref().name().to_owned();
        let (hold, released) = oneshot::channel();
        let linger = self.tunnels.limits.linger;
        spawn_local(async move {
            let mut drive = pin!(poll_fn(|cx| drive(&port, device.tun.get_ref(), cx)));
            tokio::select! {
                () = &mut drive => {}
                _ = released => {}
            }
            let _ = tokio::time::timeout(linger, drive).await;
            let mut users = device.users.borrow_mut();
            // The user may have come back by another tunnel meanwhile.
            if users
                .get(&address)
                .is_some_and(|now| Rc::ptr_eq(now, &port))
            {
                users.remove(&address);
            }
        });
        Ok((self.inner(Some(address), Some(name)), hold, handshake))
    }

    /// A server's tunnels at work at the outer `address`.
    fn serve(&self, address: SocketAddr) -> Result<(Rc<TunnelPort<Gateway<P>>>, Hold), NetError> {
        let port = self.tunnels.kernel.bind_port(address)?;
        let port = Rc::new(TunnelPort::new(port, self.tunnels.gateway()));
        let tun = self.tun(SERVER, SERVER_PREFIX_BITS, None);
        let tun = tun.map_err(|source| NetError::Bind { address, source })?;
        let (hold, released) = oneshot::channel();
        let linger = self.tunnels.limits.linger;
        let driven = Rc::clone(&port);
        spawn_local(async move {
            let mut drive = pin!(poll_fn(|cx| {
                let read = poll_read(&tun, cx, |packet| driven.send(packet, Instant::now()));
                if read.is_ready() {
                    return Poll::Ready(());
                }
                drive(&driven, tun.get_ref(), cx)
            }));
            tokio::select! {
                () = &mut drive => {}
                _ = released => {}
            }
            let _ = tokio::time::timeout(linger, drive).await;
        });
        Ok((port, hold))
    }
}

/// Passes what comes out of a tunnel on to the kernel, and serves the tunnel's timers.
fn drive<E: Endpoint>(port: &TunnelPort<E>, tun: &Tun, cx: &mut Context<'_>) -> Poll<()> {
    let mut receive = |packet: &[u8]| {
        // What the kernel does not take is lost, as IP allows.
        let _ = tun.send(packet);
        Ok(())
    };
    // Nobody is there at the other end: whoever is inside will notice.
    while port.poll_packets(cx, &mut receive).is_ready() {}
    port.poll_timers(cx, None);
    Poll::Pending
}

/// Hands users' packets to their tunnels as long as there is a device.
async fn read_users<P: Protection + 'static>(device: Weak<UserDevice<P>>) {
    poll_fn(|cx| {
        let Some(device) = device.upgrade() else {
            return Poll::Ready(());
        };
        poll_read(&device.tun, cx, |packet| {
            let Some(source) = source(packet.bytes()) else {
                return;
            };
            let port = device.users.borrow().get(&source).cloned();
            if let Some(port) = port {
                port.send(packet, Instant::now());
                port.wake_for(None);
            }
        })
    })
    .await;
}

/// Reads packets from a device, up to a batch; ready when it has failed.
fn poll_read(
    tun: &AsyncFd<Tun>,
    cx: &mut Context<'_>,
    mut each: impl FnMut(IpPacket<'_>),
) -> Poll<()> {
    let mut buffer = scratch::take();
    for _ in 0..BATCH_PACKETS {
        let Ok(mut readiness) = ready!(tun.poll_read_ready(cx)) else {
            return Poll::Ready(());
        };
        let room = buffer.len() - PACKET_ROOM_BYTES;
        match readiness.try_io(|tun| tun.get_ref().receive(&mut buffer[..room])) {
            Ok(Ok(bytes)) => each(IpPacket::new(&mut buffer, bytes)),
            Ok(Err(_)) => return Poll::Ready(()),
            Err(_would_block) => {}
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Where an IPv4 packet says that it comes from (RFC 791 §3.1).
fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    (packet[0] >> 4 == 4).then(|| address.into())
}

impl<P: Protection + 'static> StreamNetwork for Routed<P> {
    type Stream = RoutedStream;
    type Listener = RoutedListener<P>;

    fn listen(&self, address: SocketAddr) -> Result<RoutedListener<P>, NetError> {
        let (tunnels, hold) = self.serve(address)?;
        let listener = StreamNetwork::listen(&self.inner(None, None), inner_server().into())?;
        Ok(RoutedListener {
            listener,
            tunnels,
            _hold: hold,
        })
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<StreamPeer<RoutedStream>, NetError> {
        let (kernel, hold, tunnel_handshake) = self.enter(user, target).await?;
        let connected = StreamNetwork::connect(&kernel, user, inner_server().into()).await?;
        Ok(StreamPeer {
            stream: RoutedStream {
                stream: connected.stream,
                _hold: Some(hold),
            },
            local: connected.local,
            peer: connected.peer,
            transport_connect: connected.transport_connect,
            tunnel_handshake,
        })
    }

    fn meter(&self) -> &WireMeter {
        &self.tunnels.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.tunnels.client_drops.get())
    }
}

/// A TCP connection of the kernel's inside a tunnel.
pub struct RoutedStream {
    stream: MeteredStream,
    /// Of a user; dropped after the stream, whose goodbye still needs the tunnel.
    _hold: Option<Hold>,
}

impl AsyncRead for RoutedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for RoutedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts the kernel's TCP connections inside all tunnels of a server.
pub struct RoutedListener<P: Protection> {
    listener: KernelListener,
    tunnels: Rc<TunnelPort<Gateway<P>>>,
    _hold: Hold,
}

impl<P: Protection> StreamListener for RoutedListener<P> {
    type Stream = RoutedStream;

    fn bound(&self) -> SocketAddr {
        self.tunnels.bound()
    }

    fn local_port(&self) -> u16 {
        self.listener.bound().port()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<StreamPeer<RoutedStream>>> {
        let accepted = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Ok(StreamPeer {
            stream: RoutedStream {
                stream: accepted.stream,
                _hold: None,
            },
            local: accepted.local,
            peer: accepted.peer,
            transport_connect: None,
            tunnel_handshake: None,
        }))
    }

    fn counters(&self) -> Option<DatagramCounters> {
        Some(self.tunnels.counters())
    }
}

impl<P: Protection + 'static> DatagramNetwork for Routed<P> {
    type Server = RoutedSocket<P>;
    type Client = RoutedSocket<P>;

    fn bind(&self, address: SocketAddr) -> Result<RoutedSocket<P>, NetError> {
        let (tunnels, hold) = self.serve(address)?;
        Ok(RoutedSocket {
            socket: self.inner(None, None).bind_port(inner_server().into())?,
            tunnels: Some(tunnels),
            _hold: hold,
        })
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<DatagramPeer<RoutedSocket<P>>, NetError> {
        let (kernel, hold, tunnel_handshake) = self.enter(user, target).await?;
        Ok(DatagramPeer {
            socket: RoutedSocket {
                socket: kernel.connect_port(inner_server().into()).await?,
                tunnels: None,
                _hold: hold,
            },
            peer: inner_server().into(),
            tunnel_handshake,
        })
    }

    fn meter(&self) -> &WireMeter {
        &self.tunnels.kernel.meter
    }

    fn client_drops(&self) -> Option<Drops> {
        Some(self.tunnels.client_drops.get())
    }
}

/// A UDP socket of the kernel's inside a tunnel or, on a server, inside all of them.
pub struct RoutedSocket<P: Protection> {
    socket: UdpPort,
    /// A server's. Users' drops are counted by their network.
    tunnels: Option<Rc<TunnelPort<Gateway<P>>>>,
    _hold: Hold,
}

impl<P: Protection> DatagramSocket for RoutedSocket<P> {
    fn bound(&self) -> SocketAddr {
        match &self.tunnels {
            Some(tunnels) => tunnels.bound(),
            None => self.socket.bound(),
        }
    }

    fn local(&self) -> SocketAddr {
        self.socket.local()
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_DATAGRAM_BYTES - P::OVERHEAD_BYTES - IP_UDP_HEADER_BYTES
    }

    fn send(&self, peer: SocketAddr, payload: &[u8]) {
        self.socket.send(peer, payload);
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        self.socket.poll_drive(cx, receive)
    }

    fn counters(&self) -> DatagramCounters {
        let own = self.socket.counters();
        match &self.tunnels {
            Some(tunnels) => own.plus(tunnels.counters()),
            None => own,
        }
    }
}
