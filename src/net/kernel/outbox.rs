//! Several datagrams sent with one system call, and the working space for that.
//!
//! An [`Outbox`] gathers what a port sends during one wake-up. It belongs to the worker: a port has one only while
//! there is something in it.
//!
//! `sendmmsg` is rustix's, the only one that is safe to use: how many datagrams nix's sent cannot be told without
//! reading addresses that were never written. quinn-udp's batches have one destination and datagrams of one size,
//! where a server answers as many peers as there are and SIP messages have any size; and it forbids
//! fragmentation, which long messages need. What of a batch is a run of such datagrams passes as one by
//! socket2's `sendmsg`, the only one that is safe, takes `UDP_SEGMENT` and allocates nothing.
//!
//! Outside Linux a call passes one datagram.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::BATCH_LENGTH;
use crate::net::scratch::{Lent, Pool};
use crate::tunnel::MAX_DATAGRAM_BYTES;

/// Datagrams that the kernel makes of one at the most (`UDP_MAX_SEGMENTS`, 64 in older ones).
const SEGMENTS_MAX: usize = 64;

/// What an outbox holds at the most: the longest batch of messages that fit a packet each, and some
/// that do not.
const OUTBOX_BYTES: usize = 128 * 1024;

/// Outboxes that are kept for reuse: a worker's users may have sent something on as many sockets
/// before the first of them is driven.
const OUTBOXES: usize = 16;

thread_local! {
    static OUTBOX_POOL: Pool<Box<Outbox>> = const { Pool::new(OUTBOXES) };
}

/// Datagrams to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Where each goes, and where it ends in `bytes`; it begins where the one before it ends.
    datagrams: Vec<(SocketAddr, usize)>,
}

impl Outbox {
    /// An empty one.
    pub(super) fn take() -> Lent<Box<Self>> {
        let mut outbox = Pool::take(&OUTBOX_POOL, Box::<Self>::default);
        outbox.clear();
        outbox
    }

    pub(super) fn len(&self) -> usize {
        self.datagrams.len()
    }

    pub(super) fn has_room_for(&self, payload: &[u8]) -> bool {
        self.len() < BATCH_LENGTH && self.bytes.len() + payload.len() <= OUTBOX_BYTES
    }

    pub(super) fn push(&mut self, peer: SocketAddr, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.datagrams.push((peer, self.bytes.len()));
    }

    /// Where the datagram goes, and what it is.
    pub(super) fn datagram(&self, index: usize) -> Option<(SocketAddr, &[u8])> {
        let (peer, end) = *self.datagrams.get(index)?;
        Some((peer, &self.bytes[self.start(index)..end]))
    }

    /// Where the datagram begins.
    fn start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .map_or(0, |last| self.datagrams[last].1)
    }

    /// How many datagrams from the one with the index `first` on the system can make of one: they have one peer
    /// and one length, but that the last may be shorter.
    pub(super) fn run(&self, first: usize) -> usize {
        let Some((peer, head)) = self.datagram(first) else {
            return 0;
        };
        let mut total_bytes = head.len();
        let mut length = 1;
        while length < SEGMENTS_MAX
            && let Some((next_peer, next)) = self.datagram(first + length)
            && next_peer == peer
            && next.len() <= head.len()
            && !next.is_empty()
            && total_bytes + next.len() <= MAX_DATAGRAM_BYTES
        {
            total_bytes += next.len();
            length += 1;
            if next.len() < head.len() {
                break;
            }
        }
        length
    }

    /// Passes the run of `length` datagrams from the one with the index `first` on as one datagram, which the
    /// system takes apart at the end of its way. A socket that `is_connected` sends to its own peer.
    ///
    /// # Errors
    /// When none of them were taken, for example because the system, or the way that they would go, cannot do it.
    pub(super) fn send_run(
        &self,
        first: usize,
        length: usize,
        socket: &UdpSocket,
        is_connected: bool,
    ) -> io::Result<()> {
        let (peer, head) = self.datagram(first).expect("a run has a first datagram");
        let bytes = &self.bytes[self.start(first)..self.datagrams[first + length - 1].1];
        let peer = (!is_connected).then_some(peer);
        platform::send_segments(socket, bytes, head.len(), peer)
    }

    /// Sends `count` datagrams from the one with the index `first` on and tells how many the system took:
    /// one at least, not always all. A socket that `is_connected` sends to its own peer.
    ///
    /// # Errors
    /// What became of the first of them, or of an earlier one if the socket is connected.
    pub(super) fn send(
        &self,
        first: usize,
        count: usize,
        socket: &UdpSocket,
        is_connected: bool,
    ) -> io::Result<usize> {
        platform::send(self, first, count, socket, is_connected)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::array;
    use std::io::{self, IoSlice};
    use std::net::SocketAddr;

    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
    use socket2::{MsgHdr, SockAddr, SockRef};
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    use super::{BATCH_LENGTH, Outbox};

    pub(super) fn send(
        outbox: &Outbox,
        first: usize,
        count: usize,
        socket: &UdpSocket,
        is_connected: bool,
    ) -> io::Result<usize> {
        let length = count.min(outbox.len() - first).min(BATCH_LENGTH);
        let addresses: [Option<SocketAddrAny>; BATCH_LENGTH] = array::from_fn(|index| {
            let (peer, _) = outbox.datagram(first + index)?;
            (!is_connected).then(|| peer.into())
        });
        let payloads: [[IoSlice<'_>; 1]; BATCH_LENGTH] = array::from_fn(|index| {
            let datagram = outbox.datagram(first + index);
            [IoSlice::new(datagram.map_or(&[], |(_, payload)| payload))]
        });
        let mut no_control: [_; BATCH_LENGTH] = array::from_fn(|_| SendAncillaryBuffer::default());
        let mut no_control = no_control.iter_mut();
        let mut messages: [MMsgHdr<'_>; BATCH_LENGTH] = array::from_fn(|index| {
            let no_control = no_control.next().expect("one for each message");
            match &addresses[index] {
                Some(address) => MMsgHdr::new_with_addr(address, &payloads[index], no_control),
                None => MMsgHdr::new(&payloads[index], no_control),
            }
        });
        socket.try_io(Interest::WRITABLE, || {
            let sent = sendmmsg(socket, &mut messages[..length], SendFlags::empty())?;
            Ok(sent)
        })
    }

    pub(super) fn send_segments(
        socket: &UdpSocket,
        bytes: &[u8],
        segment_bytes: usize,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        let segment_bytes = u16::try_from(segment_bytes).expect("a datagram's length fits 16 bits");
        let control = segment_size(segment_bytes);
        let peer = peer.map(SockAddr::from);
        let bytes = [IoSlice::new(bytes)];
        let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
        let message = match &peer {
            Some(peer) => message.with_addr(peer),
            None => message,
        };
        socket.try_io(Interest::WRITABLE, || {
            SockRef::from(socket).sendmsg(&message, 0).map(|_| ())
        })
    }

    /// Room for the one control message, aligned as the system has them.
    const CONTROL_BYTES: usize = size_of::<libc::cmsghdr>() + size_of::<usize>();

    /// The control message that says how long each datagram is to be (`cmsg(3)`, `udp(7)`).
    fn segment_size(bytes: u16) -> [u8; CONTROL_BYTES] {
        let mut control = [0; CONTROL_BYTES];
        let length = size_of::<libc::cmsghdr>() + size_of::<u16>();
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            control[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&length.to_ne_bytes());
        put(&libc::SOL_UDP.to_ne_bytes());
        put(&libc::UDP_SEGMENT.to_ne_bytes());
        put(&bytes.to_ne_bytes());
        control
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::net::SocketAddr;

    use tokio::net::UdpSocket;

    use super::Outbox;

    pub(super) fn send_segments(
        _socket: &UdpSocket,
        _bytes: &[u8],
        _segment_bytes: usize,
        _peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(
        outbox: &Outbox,
        first: usize,
        _count: usize,
        socket: &UdpSocket,
        is_connected: bool,
    ) -> io::Result<usize> {
        let (peer, datagram) = outbox.datagram(first).expect("there is one to send");
        if is_connected {
            socket.try_send(datagram)?;
        } else {
            socket.try_send_to(datagram, peer)?;
        }
        Ok(1)
    }
}
