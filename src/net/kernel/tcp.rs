//! TCP by the kernel.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Kernel;
use crate::net::wire::{MeteredStream, Side};
use crate::net::{NetError, StreamListener, StreamNetwork, StreamPeer, WireMeter};

/// Connections that may wait to be accepted; the system clamps it to `somaxconn`.
const BACKLOG: u32 = 4_096;

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
            self.keep_to_device(&socket)?;
            // Accepted connections inherit it.
            self.buffers.apply(&socket)?;
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

impl Kernel {
    async fn connect_tcp(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = match target {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_nodelay(true)?;
        self.keep_to_device(&socket)?;
        self.buffers.apply(&socket)?;
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
