//! UDP by the kernel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker, ready};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

use super::inbox::{self, Inbox};
use super::outbox::Outbox;
use super::{Batching, Kernel};
use crate::measure::heap::{self, Part};
use crate::net::scratch::Lent;
use crate::net::{
    DatagramCounters, DatagramNetwork, DatagramPeer, DatagramSocket, NetError, WireMeter, scratch,
};
use crate::tunnel::MAX_DATAGRAM_BYTES;

/// What a server's datagram socket asks for in each direction; the system clamps it to `rmem_max`
/// and `wmem_max`.
const SERVER_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Datagrams that are received before other tasks get their turn, but for the rest of what one system call brought.
const RECEIVE_BATCH: usize = 64;

/// Datagrams that wait for the system to take them.
const SEND_QUEUE_LENGTH: usize = 64;

impl Kernel {
    pub(in crate::net) fn bind_port(&self, address: SocketAddr) -> Result<UdpPort, NetError> {
        let bind = || {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::DGRAM.nonblocking().cloexec(),
                Some(Protocol::UDP),
            )?;
            // SO_REUSEADDR would let a second server steal the port of a live one: not for UDP.
            // A port of the kernel's choice must be nobody else's, and among ports that are shared it
            // may choose one that strangers of the same user share: this one is shared only then.
            let is_chosen_here = address.port() != 0;
            socket.set_reuse_port(self.share_port && is_chosen_here)?;
            self.keep_to_device(&socket)?;
            socket.set_recv_buffer_size(SERVER_BUFFER_BYTES)?;
            socket.set_send_buffer_size(SERVER_BUFFER_BYTES)?;
            self.buffers.apply(&socket)?;
            socket.bind(&address.into())?;
            socket.set_reuse_port(self.share_port)?;
            UdpPort::new(UdpSocket::from_std(socket.into())?, self)
        };
        bind().map_err(|source| NetError::Bind { address, source })
    }

    /// A port that speaks to `target` only. It can be sent on at once.
    pub(in crate::net) async fn connect_port(
        &self,
        target: SocketAddr,
    ) -> Result<UdpPort, NetError> {
        let connect = async {
            let socket = UdpSocket::bind(SocketAddr::new(self.source_for(target), 0)).await?;
            self.keep_to_device(&socket)?;
            self.buffers.apply(&socket)?;
            socket.connect(target).await?;
            socket.writable().await?;
            UdpPort::new(socket, self)
        };
        connect
            .await
            .map_err(|source| NetError::Connect { target, source })
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
    batching: Batching,
    /// Whether runs of datagrams of one length are still tried as one.
    segments: Cell<bool>,
    /// What was sent since the port was driven last, unless with [`Batching::Off`]. `Some` exactly while
    /// the port is being driven or its driver has been woken.
    outbox: RefCell<Option<Lent<Box<Outbox>>>>,
    /// What the kernel did not take.
    queue: RefCell<VecDeque<(SocketAddr, Box<[u8]>)>>,
    unsent: Cell<u64>,
    driver: RefCell<Option<Waker>>,
    meter: WireMeter,
}

impl UdpPort {
    fn new(socket: UdpSocket, kernel: &Kernel) -> io::Result<Self> {
        if kernel.batching == Batching::Segments {
            inbox::put_together(&socket);
        }
        Ok(Self {
            local: socket.local_addr()?,
            connected: socket.peer_addr().is_ok(),
            socket,
            batching: kernel.batching,
            segments: Cell::new(kernel.batching == Batching::Segments),
            outbox: RefCell::default(),
            queue: RefCell::default(),
            unsent: Cell::new(0),
            driver: RefCell::new(None),
            meter: kernel.meter.clone(),
        })
    }

    /// Wakes the task that drives this port.
    pub(in crate::net) fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Waits for the system to report an error of a connected port: usually that the peer is not
    /// there. Such an error makes the port neither readable nor writable.
    pub(in crate::net) async fn failed(&self) -> io::Error {
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

    /// Sends one datagram, or queues it if the system does not take it now.
    fn send_singly(&self, peer: SocketAddr, payload: &[u8]) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            match self.try_send(peer, payload) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.count_unsent(),
                Ok(()) => return,
            }
        }
        if queue.len() < SEND_QUEUE_LENGTH {
            let _scope = heap::part(Part::Buffers);
            queue.push_back((peer, payload.into()));
            drop(queue);
            self.wake();
        } else {
            self.count_unsent();
        }
    }

    /// One call for each datagram.
    fn drive_singly(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
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

    /// Keeps a datagram until the port is driven, or until no more can be kept.
    fn gather(&self, peer: SocketAddr, payload: &[u8]) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_none() {
            self.wake();
        }
        let outbox = outbox.get_or_insert_with(Outbox::take);
        if !outbox.has_room_for(payload) {
            self.send_gathered(outbox);
        }
        outbox.push(peer, payload);
    }

    /// Empties the outbox: what the system does not take is queued.
    fn send_gathered(&self, outbox: &mut Outbox) {
        let mut sent = 0;
        while let Some((peer, datagram)) = outbox.datagram(sent) {
            let may_pass = self.queue.borrow().is_empty();
            let taken = may_pass.then(|| self.send_several(outbox, sent)).flatten();
            if let Some(taken) = taken {
                for (peer, datagram) in (sent..sent + taken).filter_map(|i| outbox.datagram(i)) {
                    self.meter.count_datagram(peer, datagram.len());
                }
                sent += taken;
            } else {
                // The only one, one that must wait, or one that is refused – unless it stands in
                // for an earlier one, which sending it alone will tell.
                self.send_singly(peer, datagram);
                sent += 1;
            }
        }
        outbox.clear();
    }

    /// Passes several datagrams from the one with the index `first` on with one call, and tells how many; `None`
    /// if there is but one, or the system took none.
    fn send_several(&self, outbox: &Outbox, first: usize) -> Option<usize> {
        let mut count = outbox.len() - first;
        if self.segments.get() {
            let run = outbox.run(first);
            if run > 1 {
                match outbox.send_run(first, run, &self.socket, self.connected) {
                    Ok(()) => return Some(run),
                    Err(error) if is_passing(&error) => {}
                    Err(_) => self.segments.set(false),
                }
            } else {
                // Those that begin no run themselves.
                let is_single = |place: &usize| outbox.run(first + place) == 1;
                count = (1..count).take_while(is_single).count() + 1;
            }
        }
        let is_connected = self.connected;
        let taken = (count > 1).then(|| outbox.send(first, count, &self.socket, is_connected));
        taken?.ok()
    }

    /// Several datagrams in each call. What is sent meanwhile leaves when all is received.
    fn drive_in_batches(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        self.flush(cx);
        self.outbox.borrow_mut().get_or_insert_with(Outbox::take);
        let outcome = self.receive_in_batches(cx, receive);
        if let Some(mut outbox) = self.outbox.take() {
            self.send_gathered(&mut outbox);
        }
        outcome
    }

    fn receive_in_batches(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        let mut received = 0;
        while received < RECEIVE_BATCH {
            if let Err(error) = ready!(self.socket.poll_recv_ready(cx)) {
                return Poll::Ready(error);
            }
            let mut inbox = Inbox::take();
            if let Err(error) = inbox.fill(&self.socket) {
                return Poll::Ready(error);
            }
            // What had no room counts as well, or nothing would end this.
            received += inbox.truncated();
            for (from, datagram) in inbox.datagrams() {
                self.meter.count_datagram(from, datagram.len());
                receive(from, datagram);
                received += 1;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for UdpPort {
    /// What was sent last leaves before the port closes, as far as the system takes it.
    fn drop(&mut self) {
        if let Some(mut outbox) = self.outbox.take() {
            self.send_gathered(&mut outbox);
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
        match self.batching {
            Batching::Off => self.send_singly(peer, payload),
            Batching::On | Batching::Segments => self.gather(peer, payload),
        }
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        note(&self.driver, cx);
        match self.batching {
            Batching::Off => self.drive_singly(cx, receive),
            Batching::On | Batching::Segments => self.drive_in_batches(cx, receive),
        }
    }

    fn counters(&self) -> DatagramCounters {
        DatagramCounters {
            unsent: self.unsent.get(),
            ..DatagramCounters::default()
        }
    }
}

/// Whether an error says nothing about how the datagrams were sent: there is no room for them now, or it is the
/// fate of earlier ones.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, OutOfMemory, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | ConnectionRefused | Interrupted | OutOfMemory
    )
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

#[cfg(test)]
mod tests;
