//! Several datagrams received with one system call, and the working space for that.
//!
//! An [`Inbox`] takes what waits at a port, also what the kernel has put together (`UDP_GRO`). It belongs to the
//! worker: a port has it only while it looks at what has come.
//!
//! `recvmmsg` is called right here. rustix has none; nix's takes what it wrote into its headers for the room that
//! there is for the next call, so that a datagram that says nothing of how it was put together leaves no room for
//! another one to say it; quinn-udp forbids a socket to fragment, which long messages need.
//!
//! Outside Linux a call passes one datagram.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::BATCH_LENGTH;
use crate::net::scratch::{Lent, Pool};
use crate::tunnel::SCRATCH_BYTES;

/// A port is driven while no other is.
const INBOXES: usize = 1;

thread_local! {
    static INBOX_POOL: Pool<Box<Inbox>> = const { Pool::new(INBOXES) };
}

/// Datagrams that were received, in order.
#[derive(Debug)]
pub(super) struct Inbox {
    /// A slot for each arrival. The system maps memory to what of them was ever written to.
    bytes: Box<[u8]>,
    slot_bytes: usize,
    arrivals: Vec<Arrival>,
}

/// One datagram, or some that the system has put together.
#[derive(Debug)]
struct Arrival {
    from: SocketAddr,
    bytes: usize,
    /// How long each of them is, but that the last may be shorter; `None` of a single one.
    segment_bytes: Option<usize>,
    /// Whether the slot was too short for it. The slots of ports never are.
    is_truncated: bool,
}

impl Arrival {
    /// The datagrams that it consists of, which lie in `slot`.
    fn datagrams<'s>(&self, slot: &'s [u8]) -> impl Iterator<Item = &'s [u8]> + use<'s> {
        let whole = &slot[..self.bytes];
        // A single one may be empty.
        let each = self.segment_bytes.unwrap_or(whole.len()).max(1);
        let count = whole.len().div_ceil(each).max(1);
        (0..count).map(move |index| &whole[index * each..whole.len().min((index + 1) * each)])
    }
}

impl Inbox {
    /// One with arbitrary contents.
    pub(super) fn take() -> Lent<Box<Self>> {
        Pool::take(&INBOX_POOL, || Box::new(Self::with_slots(SCRATCH_BYTES)))
    }

    fn with_slots(slot_bytes: usize) -> Self {
        Self {
            bytes: vec![0; BATCH_LENGTH * slot_bytes].into_boxed_slice(),
            slot_bytes,
            arrivals: Vec::with_capacity(BATCH_LENGTH),
        }
    }

    /// Replaces the contents by what waits at `socket`, which may be nothing; whether the socket is
    /// empty then is for its readiness to tell.
    ///
    /// # Errors
    /// The system's, such as a peer that is not there.
    pub(super) fn fill(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.arrivals.clear();
        match platform::receive(self, socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Those that had no room.
    pub(super) fn truncated(&self) -> usize {
        let arrivals = self.arrivals.iter();
        arrivals.filter(|arrival| arrival.is_truncated).count()
    }

    /// The whole ones, and whence they came.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.bytes.chunks_exact(self.slot_bytes);
        self.arrivals
            .iter()
            .zip(slots)
            .filter(|(arrival, _)| !arrival.is_truncated)
            .flat_map(|(arrival, slot)| {
                let datagrams = arrival.datagrams(slot);
                datagrams.map(|datagram| (arrival.from, datagram))
            })
    }
}

/// Has the system put together what arrives one behind the other, of one length and from one peer, if it can.
pub(super) fn put_together(socket: &UdpSocket) {
    platform::put_together(socket);
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io;
    use std::mem;
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;
    use std::ptr;

    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    use super::{Arrival, BATCH_LENGTH, Inbox};

    /// Linux before 5.0 cannot, and gives one by one what it could have put together.
    pub(super) fn put_together(socket: &UdpSocket) {
        let _ = setsockopt(socket, UdpGroSegment, &true);
    }

    pub(super) fn receive(inbox: &mut Inbox, socket: &UdpSocket) -> io::Result<()> {
        socket.try_io(Interest::READABLE, || {
            receive_several(inbox, socket)?;
            if inbox.arrivals.len() == BATCH_LENGTH {
                Ok(())
            } else {
                // The system stopped since there is no more: the readiness ends here, without a
                // call that finds nothing.
                Err(io::ErrorKind::WouldBlock.into())
            }
        })
    }

    /// Room for the one control message, aligned as the system has them.
    #[repr(C)]
    #[derive(Clone, Copy)]
    union Control {
        header: libc::cmsghdr,
        bytes: [u8; CONTROL_BYTES],
    }

    // SAFETY: this computes a length from a length.
    const CONTROL_BYTES: usize =
        unsafe { libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) } as usize;

    /// What is cast is of another type in each C library.
    #[allow(clippy::unnecessary_cast, trivial_numeric_casts)]
    fn receive_several(inbox: &mut Inbox, socket: &UdpSocket) -> io::Result<()> {
        // SAFETY: all of these are integers, and pointers that may be null.
        let (mut addresses, mut vectors, mut messages) = unsafe {
            (
                [mem::zeroed::<libc::sockaddr_in6>(); BATCH_LENGTH],
                [mem::zeroed::<libc::iovec>(); BATCH_LENGTH],
                [mem::zeroed::<libc::mmsghdr>(); BATCH_LENGTH],
            )
        };
        let no_control = [0; CONTROL_BYTES];
        let mut controls = [Control { bytes: no_control }; BATCH_LENGTH];
        let slots = inbox.bytes.chunks_exact_mut(inbox.slot_bytes);
        let places = vectors.iter_mut().zip(&mut addresses).zip(&mut controls);
        for ((message, slot), ((vector, address), control)) in
            messages.iter_mut().zip(slots).zip(places)
        {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = slot.len();
            let header = &mut message.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = ptr::from_mut(control).cast();
            header.msg_controllen = CONTROL_BYTES as _;
            header.msg_name = ptr::from_mut(address).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        }
        // SAFETY: each message points to an address, a vector and a control message of its own, each vector to a slot
        // of its own. They are writable for the lengths given beside them, and outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH_LENGTH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (message, address) in messages[..received].iter().zip(&addresses) {
            inbox.arrivals.push(Arrival {
                from: socket_address(address).ok_or(io::ErrorKind::InvalidData)?,
                bytes: message.msg_len as usize,
                segment_bytes: segment_bytes(&message.msg_hdr),
                is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(())
    }

    /// What the system has written as the address of a peer, which is of either family.
    fn socket_address(address: &libc::sockaddr_in6) -> Option<SocketAddr> {
        match libc::c_int::from(address.sin6_family) {
            libc::AF_INET => {
                // SAFETY: that of the other family is shorter and begins with its family, too.
                let address: &libc::sockaddr_in = unsafe { &*ptr::from_ref(address).cast() };
                let ip = u32::from_be(address.sin_addr.s_addr).into();
                Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                let (ip, port) = (
                    address.sin6_addr.s6_addr.into(),
                    u16::from_be(address.sin6_port),
                );
                let (flow, scope) = (address.sin6_flowinfo, address.sin6_scope_id);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// How long the datagrams are that were put together (`udp(7)`).
    fn segment_bytes(message: &libc::msghdr) -> Option<usize> {
        // SAFETY: the message still points to where the system has written a control message, if it has, and there
        // is room for this one alone.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(message);
            let is_size = !control.is_null()
                && (*control).cmsg_level == libc::SOL_UDP
                && (*control).cmsg_type == libc::UDP_GRO;
            let data: *const libc::c_int = is_size.then(|| libc::CMSG_DATA(control).cast())?;
            let bytes = data.read_unaligned();
            usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::net::SocketAddr;

    use tokio::net::UdpSocket;

    use super::{Arrival, Inbox};

    pub(super) fn put_together(_socket: &UdpSocket) {}

    pub(super) fn receive(inbox: &mut Inbox, socket: &UdpSocket) -> io::Result<()> {
        let (bytes, from) = socket.try_recv_from(&mut inbox.bytes[..inbox.slot_bytes])?;
        inbox.arrivals.push(Arrival {
            from,
            bytes,
            segment_bytes: None,
            is_truncated: bytes == inbox.slot_bytes,
        });
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::IoSlice;
    use std::net::Ipv4Addr;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    #[tokio::test]
    async fn what_the_system_puts_together_is_taken_apart() {
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        put_together(&socket);
        let local = socket.local_addr().unwrap();
        sender.connect(local).unwrap();
        let run = |bytes: &[u8]| {
            let segments = [ControlMessage::UdpGsoSegments(&3)];
            let (descriptor, flags) = (sender.as_raw_fd(), MsgFlags::empty());
            sendmsg::<()>(descriptor, &[IoSlice::new(bytes)], &segments, flags, None)
        };
        // Something single in between says nothing of a length, and must not keep the next from saying it.
        for (whole, expected) in [
            (&b"abcdefgh"[..], &["abc", "def", "gh"][..]),
            (b"i", &["i"]),
            (b"", &[""]),
            (b"jklmno", &["jkl", "mno"]),
        ] {
            match whole.len() {
                0..=3 => assert_eq!(sender.send(whole).unwrap(), whole.len()),
                _ => assert_eq!(run(whole), Ok(whole.len())),
            }
            socket.readable().await.unwrap();
            let mut inbox = Inbox::take();
            inbox.fill(&socket).unwrap();
            assert_eq!(inbox.arrivals.len(), 1);
            let from = sender.local_addr().unwrap();
            let expected = expected.iter().map(|text| (from, text.as_bytes()));
            assert!(inbox.datagrams().eq(expected), "{whole:?}");
        }
    }

    #[tokio::test]
    async fn a_truncated_datagram_is_not_taken_for_a_whole_one() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = socket.local_addr().unwrap();
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for bytes in [99, 100, 101, 3] {
            sender.send_to(&[b'x'; 101][..bytes], local).unwrap();
        }
        socket.readable().await.unwrap();

        let mut inbox = Inbox::with_slots(100);
        inbox.fill(&socket).unwrap();

        assert_eq!(inbox.arrivals.len(), 4);
        let whole: Vec<_> = inbox.datagrams().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(whole, [99, 100, 3]);
    }

    #[tokio::test]
    async fn a_batch_that_is_not_full_ends_the_readiness() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = socket.local_addr().unwrap();
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..BATCH_LENGTH + 1 {
            sender.send_to(b"x", local).unwrap();
        }
        socket.readable().await.unwrap();
        let mut inbox = Inbox::take();
        let mut fill = || {
            inbox.fill(&socket).unwrap();
            inbox.arrivals.len()
        };

        assert_eq!([fill(), fill()], [BATCH_LENGTH, 1]);
        sender.send_to(b"x", local).unwrap();
        assert_eq!(fill(), 0, "the runtime has not heard of it yet");
        socket.readable().await.unwrap();
        assert_eq!(fill(), 1);
    }
}
