//! What the sockets of one network put on the wire and took from it: packets, and their bytes with
//! IP and transport headers.
//!
//! Nobody listens on the wire. Datagrams are counted where they pass to and from the kernel; of TCP
//! the kernel keeps the books itself (`TCP_INFO`), which are read when somebody asks, and for the
//! last time before a socket is closed. A message thus costs nothing, an idle connection one
//! pointer and one bit.
//!
//! What is missed: a connection's goodbye after the last reading, usually this side's FIN and the
//! peer's acknowledgement of it; the packets of connections that were never established; IP
//! fragments, of which each datagram counts as one packet.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const IPV4_HEADER_BYTES: u64 = 20;
const IPV6_HEADER_BYTES: u64 = 40;
const UDP_HEADER_BYTES: u64 = 8;

/// Packets in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCounters {
    /// Of whole IP packets.
    pub bytes: u64,
    /// IP packets; of TCP, segments.
    pub packets: u64,
}

impl WireCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            packets: self.packets + other.packets,
        }
    }

    /// What came between `earlier`, a reading of the same meter, and this one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            packets: self.packets.saturating_sub(earlier.packets),
        }
    }
}

/// The meter that all sockets of one network share.
#[derive(Clone, Debug, Default)]
pub struct WireMeter(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Datagrams, and connections that have been closed.
    counted: Cell<WireCounters>,
    /// A bit for each connection that is open, by its file descriptor.
    open: RefCell<Vec<u64>>,
    /// Whether the kernel did not tell of a connection.
    is_incomplete: Cell<bool>,
}

impl WireMeter {
    /// All that has passed so far. Asks the kernel for each open connection: about half a
    /// microsecond for each.
    ///
    /// `None` when the kernel does not tell: outside Linux and before Linux 4.19.
    #[must_use]
    pub fn total(&self) -> Option<WireCounters> {
        let mut total = self.0.counted.get();
        for (word, bits) in self.0.open.borrow().iter().enumerate() {
            let mut rest = *bits;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let descriptor = RawFd::try_from(word * 64 + bit).expect("it was one");
                total = total.plus(platform::tcp(descriptor)?);
            }
        }
        (!self.0.is_incomplete.get()).then_some(total)
    }

    /// A datagram of `payload_bytes` between this side and `peer`.
    pub(super) fn count_datagram(&self, peer: SocketAddr, payload_bytes: usize) {
        self.add(WireCounters {
            bytes: ip_header_bytes(peer) + UDP_HEADER_BYTES + payload_bytes as u64,
            packets: 1,
        });
    }

    /// A stream whose connection to `peer` is counted until it is dropped.
    pub(super) fn stream(&self, stream: TcpStream, peer: SocketAddr, side: Side) -> MeteredStream {
        self.add(side.unbooked(peer));
        let (word, bit) = place(stream.as_raw_fd());
        let mut open = self.0.open.borrow_mut();
        if open.len() <= word {
            open.resize(word + 1, 0);
        }
        open[word] |= bit;
        drop(open);
        MeteredStream {
            stream,
            meter: self.clone(),
        }
    }

    fn add(&self, more: WireCounters) {
        self.0.counted.set(self.0.counted.get().plus(more));
    }

    fn closes(&self, descriptor: RawFd) {
        let (word, bit) = place(descriptor);
        self.0.open.borrow_mut()[word] &= !bit;
        match platform::tcp(descriptor) {
            Some(connection) => self.add(connection),
            None => self.0.is_incomplete.set(true),
        }
    }
}

fn place(descriptor: RawFd) -> (usize, u64) {
    let descriptor = usize::try_from(descriptor).expect("an open descriptor is not negative");
    (descriptor / 64, 1 << (descriptor % 64))
}

/// A TCP connection whose last figures go into the meter before it is closed.
#[derive(Debug)]
pub struct MeteredStream {
    stream: TcpStream,
    meter: WireMeter,
}

impl MeteredStream {
    /// Whether both sides have said goodbye, and nothing of it waits to be acknowledged; or whether the
    /// connection is broken.
    pub(super) fn has_ended(&self) -> bool {
        platform::has_ended(self.stream.as_raw_fd())
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        self.meter.closes(self.stream.as_raw_fd());
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for MeteredStream {
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
        slices: &[io::IoSlice<'_>],
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

/// Which side of the three-way handshake a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Connecting,
    Accepting,
}

impl Side {
    /// What the kernel's books of a connection to `peer` lack of its handshake: the options of SYN
    /// and SYN-ACK are longer than later ones (maximum segment size, selective acknowledgements,
    /// window scale), and the SYN-ACK of the accepting side left before there was a socket to keep
    /// books of.
    fn unbooked(self, peer: SocketAddr) -> WireCounters {
        match self {
            Self::Connecting => WireCounters {
                bytes: 2 * SYN_EXTRA_BYTES,
                packets: 0,
            },
            Self::Accepting => WireCounters {
                bytes: SYN_EXTRA_BYTES + ip_header_bytes(peer) + SYN_HEADER_BYTES,
                packets: 1,
            },
        }
    }
}

fn ip_header_bytes(peer: SocketAddr) -> u64 {
    match peer {
        SocketAddr::V4(_) => IPV4_HEADER_BYTES,
        SocketAddr::V6(_) => IPV6_HEADER_BYTES,
    }
}

/// TCP header with the options of a handshake.
const SYN_HEADER_BYTES: u64 = 40;

/// 20 bytes of options in place of the timestamp's 12.
const SYN_EXTRA_BYTES: u64 = 8;

#[cfg(target_os = "linux")]
mod platform {
    use std::os::fd::RawFd;

    use super::{IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, WireCounters};

    const TCP_HEADER_BYTES: u64 = 20;
    /// Ten bytes and their alignment (RFC 7323 Appendix A).
    const TIMESTAMP_BYTES: u64 = 12;
    /// Bit of [`Info::options`].
    const TIMESTAMPS: u8 = 1;
    /// Value of [`Info::state`] (`TCP_CLOSE`).
    const CLOSE: u8 = 7;

    /// The kernel's `struct tcp_info` as far as it is needed, which libc's is not long enough for.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        state: u8,
        _congestion_to_backoff: [u8; 4],
        options: u8,
        _window_scale: [u8; 2],
        _rto_to_total_retrans: [u32; 24],
        _pacing_rates: [u64; 2],
        _bytes_acked: u64,
        bytes_received: u64,
        segments_out: u32,
        segments_in: u32,
        _notsent_to_data_segments: [u32; 4],
        _rates_and_times: [u64; 4],
        _delivered: [u32; 2],
        bytes_sent: u64,
    }

    /// Whether nothing of a connection is left but, perhaps, its time to wait.
    pub(super) fn has_ended(descriptor: RawFd) -> bool {
        info(descriptor).is_none_or(|info| info.state == CLOSE)
    }

    /// What the kernel's books say of one connection.
    pub(super) fn tcp(descriptor: RawFd) -> Option<WireCounters> {
        let info = info(descriptor)?;
        let packets = u64::from(info.segments_in) + u64::from(info.segments_out);
        let timestamp_bytes = u64::from(info.options & TIMESTAMPS) * TIMESTAMP_BYTES;
        let header_bytes = ip_header_bytes(descriptor)? + TCP_HEADER_BYTES + timestamp_bytes;
        Some(WireCounters {
            bytes: info.bytes_sent + info.bytes_received + packets * header_bytes,
            packets,
        })
    }

    fn info(descriptor: RawFd) -> Option<Info> {
        let mut info = Info::default();
        let mut bytes = libc::socklen_t::try_from(size_of::<Info>()).expect("208 bytes");
        // SAFETY: `info` is writable for `bytes` bytes, all of it integers, and both outlive the
        // call.
        let outcome = unsafe {
            libc::getsockopt(
                descriptor,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut bytes,
            )
        };
        // An older kernel fills less, and then it does not tell what it sent.
        (outcome == 0 && bytes as usize >= size_of::<Info>()).then_some(info)
    }

    fn ip_header_bytes(descriptor: RawFd) -> Option<u64> {
        let mut domain: libc::c_int = 0;
        let mut bytes = libc::socklen_t::try_from(size_of_val(&domain)).expect("4 bytes");
        // SAFETY: `domain` is writable for `bytes` bytes, and both outlive the call.
        let outcome = unsafe {
            libc::getsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_DOMAIN,
                (&raw mut domain).cast(),
                &raw mut bytes,
            )
        };
        match (outcome, domain) {
            (0, libc::AF_INET) => Some(IPV4_HEADER_BYTES),
            (0, libc::AF_INET6) => Some(IPV6_HEADER_BYTES),
            _ => None,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Info;

        #[test]
        fn fields_lie_where_the_kernel_puts_them() {
            assert_eq!(std::mem::offset_of!(Info, options), 5);
            assert_eq!(std::mem::offset_of!(Info, bytes_received), 128);
            assert_eq!(std::mem::offset_of!(Info, segments_out), 136);
            assert_eq!(std::mem::offset_of!(Info, bytes_sent), 200);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::os::fd::RawFd;

    use super::WireCounters;

    pub(super) fn tcp(_descriptor: RawFd) -> Option<WireCounters> {
        None
    }

    pub(super) fn has_ended(_descriptor: RawFd) -> bool {
        true
    }
}
