//! A TUN device that tasks read and write, with what lies on its other side.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use crate::net::scratch;
use crate::net::tun::{InterfaceBooks, Tun, TunConfig};
use crate::tunnel::{DropCause, Drops, IpPacket, PACKET_ROOM_BYTES, SERVER};

/// Inner addresses are 10.0.0.0/8, all of them behind a server's device.
const PREFIX_BITS: u8 = 8;
/// Packets that are read before other tasks get their turn.
const BATCH_PACKETS: usize = 64;
/// A worker may send for thousands of users before it reads.
const QUEUE_PACKETS: u32 = 10_000;

/// Who is on which side of a device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// Users here, the server there.
    OfUsers {
        /// One of them, whose address the device has.
        first: Ipv4Addr,
    },
    /// The server here, users there.
    OfServer,
}

/// A device at work.
pub(super) struct Device {
    tun: AsyncFd<Tun>,
    books: RefCell<InterfaceBooks>,
}

impl Device {
    /// A new one, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Those of [`Tun::open`].
    pub(super) fn open(ends: Ends, mtu_bytes: usize) -> io::Result<Self> {
        let (address, prefix_bits, peer) = match ends {
            Ends::OfUsers { first } => (first, 32, Some(SERVER)),
            Ends::OfServer => (SERVER, PREFIX_BITS, None),
        };
        let config = TunConfig {
            name: "tunnel%d".into(),
            address,
            prefix_bits,
            peer,
            mtu_bytes: u32::try_from(mtu_bytes).expect("it fits 16 bits"),
            queue_packets: QUEUE_PACKETS,
        };
        let tun = Tun::open(&config).map_err(io::Error::other)?;
        let books = RefCell::new(tun.books()?);
        // SAFETY: a device hands out the one descriptor that it owns until it is dropped.
        let registered = unsafe { AsyncFd::register(tun) };
        Ok(Self {
            tun: registered.map_err(|refused| refused.into_parts().1)?,
            books,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.tun.get_ref().name()
    }

    /// Has the kernel receive a packet.
    ///
    /// # Errors
    /// When it does not take it: the packet is lost, as IP allows.
    pub(super) fn deliver(&self, packet: &[u8]) -> Result<(), DropCause> {
        let sent = self.tun.get_ref().send(packet);
        sent.map_err(|_| DropCause::Overrun)
    }

    /// What the kernel dropped because it was not read in time.
    pub(super) fn drops(&self) -> Drops {
        Drops {
            overrun: self.books.borrow_mut().dropped().unwrap_or_default(),
            ..Drops::default()
        }
    }

    /// Hands `each` what the kernel has sent, up to a batch. `Ready` when the device has failed.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        mut each: impl FnMut(IpPacket<'_>),
    ) -> Poll<io::Error> {
        let mut buffer = scratch::take();
        let room = buffer.len() - PACKET_ROOM_BYTES;
        for _ in 0..BATCH_PACKETS {
            let mut readiness = match ready!(self.tun.poll_read_ready(cx)) {
                Ok(readiness) => readiness,
                Err(error) => return Poll::Ready(error),
            };
            match readiness.try_io(|tun| tun.get_ref().receive(&mut buffer[..room])) {
                Ok(Ok(bytes)) => each(IpPacket::new(&mut buffer, bytes)),
                Ok(Err(error)) => return Poll::Ready(error),
                Err(_would_block) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands `each` all that the kernel has sent so far.
    pub(super) fn read_all(&self, mut each: impl FnMut(IpPacket<'_>)) {
        let mut buffer = scratch::take();
        let room = buffer.len() - PACKET_ROOM_BYTES;
        for _ in 0..QUEUE_PACKETS {
            let Ok(bytes) = self.tun.get_ref().receive(&mut buffer[..room]) else {
                return;
            };
            each(IpPacket::new(&mut buffer, bytes));
        }
    }
}
