//! Each message a datagram. Those of one length pass the caller's kernel as one where it can.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use hopbench::measure::cpu;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt, sockopt,
};

use super::{Caller, Script};

/// Datagrams that one call receives.
const BATCH: usize = 64;
/// Datagrams that the kernel makes of one, and how long that may be.
const SEGMENTS_MAX: usize = 64;
const BYTES_MAX: usize = 65_507;
/// What the sockets may hold; the kernel clamps it.
const BUFFER_BYTES: usize = 4 << 20;
/// Longer than any message of a call.
const SLOT_BYTES: usize = 2_048;
/// What ends the server.
const GOODBYE: &[u8] = b"";
/// How long a server waits for a goodbye that was lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// The caller.
pub(super) struct Datagrams<'a> {
    socket: UdpSocket,
    script: &'a Script,
    headers: MultiHeaders<SockaddrIn>,
    slots: Vec<u8>,
    run: Vec<u8>,
    segments: bool,
}

impl<'a> Datagrams<'a> {
    pub(super) fn new(socket: UdpSocket, script: &'a Script) -> io::Result<Self> {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        Ok(Self {
            socket,
            script,
            headers: MultiHeaders::preallocate(BATCH, None),
            slots: vec![0; BATCH * SLOT_BYTES],
            run: Vec::new(),
            segments: true,
        })
    }

    pub(super) fn goodbye(&self) -> io::Result<()> {
        self.socket.send(GOODBYE).map(|_| ())
    }

    /// Sends `message` so many times.
    fn repeat(&mut self, message: &[u8], count: usize) -> io::Result<()> {
        let at_once = SEGMENTS_MAX.min(BYTES_MAX / message.len());
        let mut left = count;
        while left > 0 {
            let now = left.min(at_once);
            left -= now;
            if self.segments && now > 1 {
                self.run.clear();
                (0..now).for_each(|_| self.run.extend_from_slice(message));
                let size = u16::try_from(message.len()).expect("a datagram's length fits 16 bits");
                let segments = [ControlMessage::UdpGsoSegments(&size)];
                let whole = [IoSlice::new(&self.run)];
                let descriptor = self.socket.as_raw_fd();
                if sendmsg::<()>(descriptor, &whole, &segments, MsgFlags::empty(), None).is_ok() {
                    continue;
                }
                self.segments = false;
            }
            for _ in 0..now {
                self.socket.send(message)?;
            }
        }
        Ok(())
    }
}

impl Caller for Datagrams<'_> {
    fn send(&mut self, count: usize) -> io::Result<()> {
        let script = self.script;
        let [invite, ack, bye] = &script.requests[..] else {
            return Err(io::Error::other("a call has three requests"));
        };
        if ack.len() == bye.len() {
            // Of one length, so that both pass as one; the server tells them by their turn.
            self.repeat(bye, 2 * count)?;
        } else {
            self.repeat(ack, count)?;
            self.repeat(bye, count)?;
        }
        self.repeat(invite, count)
    }

    fn receive(&mut self) -> io::Result<f64> {
        let mut received = 0;
        loop {
            let mut slots: Vec<[IoSliceMut<'_>; 1]> = self
                .slots
                .chunks_exact_mut(SLOT_BYTES)
                .map(|slot| [IoSliceMut::new(slot)])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let descriptor = self.socket.as_raw_fd();
            match recvmmsg(descriptor, &mut self.headers, &mut slots, flags, None) {
                Ok(messages) => {
                    let count = messages.count();
                    received += count;
                    if count < BATCH {
                        break;
                    }
                }
                Err(nix::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(received as f64 / self.script.responses.len() as f64)
    }
}

/// Answers INVITEs by three datagrams and every other of the further ones by one. Returns its processor time.
pub(super) fn serve(socket: &UdpSocket, script: &Script) -> io::Result<u64> {
    setsockopt(socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (of_invite, of_bye) = script.responses.split_at(script.responses.len() - 1);
    let mut buffer = [0; SLOT_BYTES];
    let mut is_bye = false;
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(cpu::thread_ns()),
            Err(error) => return Err(error),
        };
        let answers = match &buffer[..length] {
            GOODBYE => return Ok(cpu::thread_ns()),
            [b'I', ..] => of_invite,
            _ => {
                is_bye = !is_bye;
                if is_bye { &[] } else { of_bye }
            }
        };
        for answer in answers {
            socket.send_to(answer, from)?;
        }
    }
}
