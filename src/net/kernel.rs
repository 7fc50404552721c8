//! The kernel's sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::wire::{MeteredStream, Side};
use super::{
    DatagramCounters, DatagramNetwork, DatagramPeer, DatagramSocket, NetError, StreamListener,
    StreamNetwork, StreamPeer, WireMeter, scratch,
};
use crate::tunnel::MAX_DATAGRAM_BYTES;

/// Connections that may wait to be accepted; the system clamps it to `somaxconn`.
const BACKLOG: u32 = 4_096;

/// What a server's datagram socket asks for in each direction; the system clamps it to `rmem_max`
/// and `wmem_max`.
const SERVER_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Datagrams that are received before other tasks get their turn.
const RECEIVE_BATCH: usize = 64;

/// Datagrams that wait for the system to take them.
const SEND_QUEUE_LENGTH: usize = 64;

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
    pub(super) fn bind_port(&self, address: SocketAddr) -> Result<UdpPort, NetError> {
        let bind = || {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::DGRAM.nonblocking().cloexec(),
                Some(Protocol::UDP),
            )?;
            // SO_REUSEADDR would let a second server steal the port of a live one: not for UDP.
            socket.set_reuse_port(self.share_port)?;
            socket.set_recv_buffer_size(SERVER_BUFFER_BYTES)?;
            socket.set_send_buffer_size(SERVER_BUFFER_BYTES)?;
            socket.bind(&address.into())?;
            UdpPort::new(UdpSocket::from_std(socket.into())?, self.meter.clone())
        };
        bind().map_err(|source| NetError::Bind { address, source })
    }

    /// A port that speaks to `target` only. It can be sent on at once.
    pub(super) async fn connect_port(&self, target: SocketAddr) -> Result<UdpPort, NetError> {
        let connect = async {
            let socket = UdpSocket::bind(SocketAddr::new(self.source_for(target), 0)).await?;
            socket.connect(target).await?;
            socket.writable().await?;
            UdpPort::new(socket, self.meter.clone())
        };
        connect
            .await
            .map_err(|source| NetError::Connect { target, source })
    }

    fn source_for(&self, target: SocketAddr) -> IpAddr {
        self.source.unwrap_or(match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        })
    }

    async fn connect_tcp(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = match target {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_nodelay(true)?;
        if let Some(source) = self.source {
            choose_port_on_connect(&socket)?;
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(target).await
    }
}

/// Lets the kernel choose the source port when the target is known, so that it need be unique only
/// for that target and not among all sockets of the source address.
#[cfg(target_os = "linux")]
fn choose_port_on_connect(socket: &TcpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as `socket` lives, and the option's value is a `c_int`
    // that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Elsewhere the source port is chosen by `bind`.
#[cfg(not(target_os = "linux"))]
fn choose_port_on_connect(_socket: &TcpSocket) -> io::Result<()> {
    Ok(())
}

impl StreamNetwork for Kernel {
    type Stream = MeteredStream;
    type Listener = KernelListener;

    fn meter(&self) -> &WireMeter {
        &self.meter
    }

    fn listen(&self, address: SocketAddr) -> Result<KernelListener, NetError> {
        let listen = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // Lets a server restart while old connections linger; a live listener still excludes.
            socket.set_reuseaddr(true)?;
            SockRef::from(&socket).set_reuse_port(self.share_port)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let bound = listener.local_addr()?;
            Ok(KernelListener {
                listener,
                bound,
                meter: self.meter.clone(),
            })
        };
        listen().map_err(|source| NetError::Bind { address, source })
    }

    async fn connect(
        &self,
        _user: u32,
        target: SocketAddr,
    ) -> Result<StreamPeer<MeteredStream>, NetError> {
        let started = Instant::now();
        let connected = tokio::time::timeout(self.connect_limit, self.connect_tcp(target))
            .await
            .map_err(|_| NetError::TimedOut {
                phase: "TCP connect",
                peer: target,
                limit: self.connect_limit,
            })?;
        let with_address = connected.and_then(|stream| Ok((stream.local_addr()?, stream)));
        let (local, stream) =
            with_address.map_err(|source| NetError::Connect { target, source })?;
        Ok(StreamPeer {
            stream: self.meter.stream(stream, target, Side::Connecting),
            local,
            peer: target,
            transport_connect: Some(started.elapsed()),
            tunnel_handshake: None,
        })
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct KernelListener {
    listener: TcpListener,
    bound: SocketAddr,
    meter: WireMeter,
}

impl StreamListener for KernelListener {
    type Stream = MeteredStream;

    fn bound(&self) -> SocketAddr {
        self.bound
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<StreamPeer<MeteredStream>>> {
        let (stream, peer) = ready!(self.listener.poll_accept(cx))?;
        stream.set_nodelay(true)?;
        Poll::Ready(Ok(StreamPeer {
            local: stream.local_addr()?,
            peer,
            stream: self.meter.stream(stream, peer, Side::Accepting),
            transport_connect: None,
            tunnel_handshake: None,
        }))
    }
}

impl DatagramNetwork for Kernel {
    type Server = UdpPort;
    type Client = UdpPort;

    fn bind(&self, address: SocketAddr) -> Result<UdpPort, NetError> {
        self.bind_port(address)
    }

    fn meter(&self) -> &WireMeter {
        &self.meter
    }

    async fn connect(
        &self,
        _user: u32,
        target: SocketAddr,
    ) -> Result<DatagramPeer<UdpPort>, NetError> {
        Ok(DatagramPeer {
            socket: self.connect_port(target).await?,
            peer: target,
            tunnel_handshake: None,
        })
    }
}

/// A UDP socket with a short queue for what the kernel does not take at once.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
    /// Whether it speaks to one peer only.
    connected: bool,
    queue: RefCell<VecDeque<(SocketAddr, Box<[u8]>)>>,
    unsent: Cell<u64>,
    driver: RefCell<Option<Waker>>,
    meter: WireMeter,
}

impl UdpPort {
    fn new(socket: UdpSocket, meter: WireMeter) -> io::Result<Self> {
        Ok(Self {
            local: socket.local_addr()?,
            connected: socket.peer_addr().is_ok(),
            socket,
            queue: RefCell::default(),
            unsent: Cell::new(0),
            driver: RefCell::new(None),
            meter,
        })
    }

    /// Wakes the task that drives this port.
    pub(super) fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Waits for the system to report an error of a connected port: usually that the peer is not
    /// there. Such an error makes the port neither readable nor writable.
    pub(super) async fn failed(&self) -> io::Error {
        loop {
            if let Err(error) = self.socket.ready(Interest::ERROR).await {
                return error;
            }
            match self.socket.take_error() {
                Ok(Some(error)) | Err(error) => return error,
                Ok(None) => {
                    let handled = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = self.socket.try_io(Interest::ERROR, handled);
                }
            }
        }
    }

    fn try_send(&self, peer: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let sent = match self.connected {
            false => self.socket.try_send_to(datagram, peer),
            true => match self.socket.try_send(datagram) {
                // This tells the fate of an earlier datagram, in place of sending this one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.socket.try_send(datagram)
                }
                result => result,
            },
        };
        self.meter.count_datagram(peer, sent?);
        Ok(())
    }

    fn count_unsent(&self) {
        self.unsent.set(self.unsent.get() + 1);
    }

    fn flush(&self, cx: &mut Context<'_>) {
        let mut queue = self.queue.borrow_mut();
        while let Some((peer, datagram)) = queue.front() {
            if self.socket.poll_send_ready(cx).is_pending() {
                return;
            }
            match self.try_send(*peer, datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => self.count_unsent(),
                Ok(()) => {}
            }
            queue.pop_front();
        }
        if queue.capacity() > 0 {
            *queue = VecDeque::new();
        }
    }
}

impl DatagramSocket for UdpPort {
    fn bound(&self) -> SocketAddr {
        self.local
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_DATAGRAM_BYTES
    }

    fn send(&self, peer: SocketAddr, payload: &[u8]) {
        assert!(payload.len() <= MAX_DATAGRAM_BYTES, "the caller checks");
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            match self.try_send(peer, payload) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.count_unsent(),
                Ok(()) => return,
            }
        }
        if queue.len() < SEND_QUEUE_LENGTH {
            queue.push_back((peer, payload.into()));
            drop(queue);
            self.wake();
        } else {
            self.count_unsent();
        }
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        note(&self.driver, cx);
        let mut buffer = scratch::take();
        for _ in 0..RECEIVE_BATCH {
            self.flush(cx);
            let mut datagram = ReadBuf::new(&mut buffer);
            match self.socket.poll_recv_from(cx, &mut datagram) {
                Poll::Ready(Ok(from)) => {
                    self.meter.count_datagram(from, datagram.filled().len());
                    receive(from, datagram.filled());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn counters(&self) -> DatagramCounters {
        DatagramCounters {
            unsent: self.unsent.get(),
            ..DatagramCounters::default()
        }
    }
}

fn note(driver: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut driver = driver.borrow_mut();
    if !driver
        .as_ref()
        .is_some_and(|driver| driver.will_wake(cx.waker()))
    {
        *driver = Some(cx.waker().clone());
    }
}
