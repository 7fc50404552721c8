//! One host's TCP over IPv4 in user space (smoltcp), without I/O: IP packets in, IP packets out, and
//! streams of bytes above. Time is an argument.
//!
//! A packet finds its connection by its addresses and ports. Each connection is a socket set of its
//! own, so that no packet and no timer ever looks at another one, and an idle one is not looked at
//! at all. A server keeps no listening socket: one comes into being with each SYN that is welcome.
//!
//! It is set like Linux' TCP where smoltcp can be, so that its figures compare: no Nagle, timestamps,
//! selective acknowledgements, acknowledgements delayed by 40 ms, no keep-alive. It differs from it in
//! these points. A retransmission waits for at least 1 s (RFC 6298 §2.4; Linux: 200 ms). There is no
//! congestion control, since the window is no larger than the buffer. Both buffers are held from the
//! SYN on, as smoltcp can neither grow nor lend them. TIME-WAIT is skipped: a peer that repeats its FIN
//! because the last acknowledgement got lost is answered by a reset, and has nothing to lose by then.

mod connection;
mod device;
mod segment;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};
use tokio::io::ReadBuf;

use self::connection::{Connection, Owner};
use self::device::Device;
use self::segment::{Route, Segment};
use crate::tunnel::{Deadlines, DropCause, IpPacket};

/// Where outgoing packets go; called while the host is borrowed.
pub(super) type TransmitPacket<'a> = &'a mut dyn FnMut(IpPacket<'_>);

/// How long an acknowledgement waits for a segment to ride on: the least that Linux makes it wait.
const ACKNOWLEDGEMENT_DELAY: time::Duration = time::Duration::from_millis(40);

/// If the stack says that something is due and then does nothing, it is asked again after this time.
const RETRY_AFTER: time::Duration = time::Duration::from_millis(1);

/// The network that all inner addresses are in.
const PREFIX_LENGTH: u8 = 8;

thread_local! {
    /// What the timestamp option tells: the time of the call at work, in milliseconds.
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
}

/// How connections are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpOptions {
    /// Largest IP packet that is sent or asked for.
    pub(super) mtu_bytes: usize,
    /// Send buffer and receive buffer of a connection, each.
    pub(super) buffer_bytes: usize,
    /// How long an accepted three-way handshake may take.
    pub(super) connect_limit: Duration,
    /// How long a connection that nobody holds any more may take to deliver the rest and say goodbye.
    pub(super) linger_limit: Duration,
    /// Connections that a server holds before somebody accepts them; further SYNs are lost.
    pub(super) backlog: usize,
}

/// All TCP connections of one inner address.
pub(super) struct Tcp {
    interface: Interface,
    address: Ipv4Addr,
    options: TcpOptions,
    /// Time zero of the stack.
    epoch: Instant,
    connections: Slab<Connection>,
    keys: HashMap<Route, usize>,
    deadlines: Deadlines<usize>,
    /// Connections that nobody holds any more.
    orphans: usize,
    service: Option<Service>,
}

/// What a server has beyond a client.
struct Service {
    port: u16,
    is_open: bool,
    /// Connections that are established and wait to be accepted.
    queue: VecDeque<usize>,
    /// Those, and those that are being established.
    unaccepted: usize,
    acceptor: Option<Waker>,
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) key: usize,
    pub(super) peer: SocketAddrV4,
}

impl Tcp {
    /// A host that opens connections only.
    pub(super) fn client(address: Ipv4Addr, options: TcpOptions, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = rand::random();
        let mut nowhere = |_: IpPacket<'_>| {};
        let mut device = Device::new(None, options.mtu_bytes, &mut nowhere);
        let mut interface = Interface::new(config, &mut device, time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::Ipv4(address), PREFIX_LENGTH);
            addresses.push(address).expect("room for one address");
        });
        Self {
            interface,
            address,
            options,
            epoch: now,
            connections: Slab::new(),
            keys: HashMap::new(),
            deadlines: Deadlines::new(),
            orphans: 0,
            service: None,
        }
    }

    /// A host that accepts connections to `port` while it listens, and is not listening yet.
    pub(super) fn server(address: Ipv4Addr, port: u16, options: TcpOptions, now: Instant) -> Self {
        Self {
            service: Some(Service {
                port,
                is_open: false,
                queue: VecDeque::new(),
                unaccepted: 0,
                acceptor: None,
            }),
            ..Self::client(address, options, now)
        }
    }

    /// Begins to accept connections; whether it did not before.
    pub(super) fn listen(&mut self) -> bool {
        let service = self.service.as_mut().expect("only servers listen");
        !std::mem::replace(&mut service.is_open, true)
    }

    /// Accepts no more connections, and resets those that nobody has accepted.
    pub(super) fn close(&mut self, now: Instant, transmit: TransmitPacket<'_>) {
        let service = self.service.as_mut().expect("only servers listen");
        service.is_open = false;
        service.queue.clear();
        service.acceptor = None;
        let is_unaccepted = |(_, connection): &(usize, &Connection)| {
            matches!(connection.owner, Owner::Opening | Owner::Queue)
        };
        let unaccepted = self.connections.iter().filter(is_unaccepted);
        let unaccepted: Vec<usize> = unaccepted.map(|(key, _)| key).collect();
        for key in unaccepted {
            self.abandon(key, now);
            self.connections[key].socket().abort();
            self.serve(key, now, transmit);
        }
    }

    /// The next connection that is established.
    pub(super) fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Accepted> {
        let service = self.service.as_mut().expect("only servers listen");
        let Some(key) = service.queue.pop_front() else {
            service.acceptor = Some(cx.waker().clone());
            return Poll::Pending;
        };
        service.unaccepted -= 1;
        let connection = &mut self.connections[key];
        connection.owner = Owner::Stream;
        Poll::Ready(Accepted {
            key,
            peer: connection.route.peer,
        })
    }

    /// Begins to connect; [`Self::poll_connected`] tells what becomes of it.
    pub(super) fn connect(
        &mut self,
        peer: SocketAddrV4,
        local_port: u16,
        now: Instant,
        transmit: TransmitPacket<'_>,
    ) -> usize {
        let mut socket = self.socket();
        let local = IpListenEndpoint {
            addr: Some(IpAddress::Ipv4(self.address)),
            port: local_port,
        };
        socket
            .connect(self.interface.context(), peer, local)
            .expect("a new socket and whole addresses");
        let route = Route { peer, local_port };
        let key = self.insert(socket, route, Owner::Stream);
        self.serve(key, now, transmit);
        key
    }

    /// Whether the three-way handshake is over.
    pub(super) fn poll_connected(&mut self, key: usize) -> Poll<io::Result<()>> {
        match self.connections[key].socket().state() {
            State::SynSent | State::SynReceived => Poll::Pending,
            State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            State::Listen
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => Poll::Ready(Ok(())),
        }
    }

    /// Connections that nobody holds any more and that have not ended yet.
    pub(super) fn orphans(&self) -> usize {
        self.orphans
    }

    /// Takes a packet that is addressed to this host.
    ///
    /// # Errors
    /// What is wrong with it, when it is of no use; then it is not answered.
    pub(super) fn receive(
        &mut self,
        packet: &[u8],
        now: Instant,
        transmit: TransmitPacket<'_>,
    ) -> Result<(), DropCause> {
        let segment = Segment::parse(packet)?;
        let Some(key) = self.connection_of(&segment)? else {
            if !segment.is_welcome_to(self.service.as_ref()) {
                self.take_in(None, packet, now, transmit);
            }
            return Ok(());
        };
        self.take_in(Some(key), packet, now, transmit);
        self.note_establishment(key);
        self.serve(key, now, transmit);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Retransmits, acknowledges and gives up what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, transmit: TransmitPacket<'_>) {
        while let Some((due, key)) = self.deadlines.pop_due(now) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.timer.take_if(|timer| *timer == due).is_some()
            {
                self.serve(key, now, transmit);
            }
        }
    }

    /// Reads what has arrived; `Pending` when nothing has, and nothing read is the end.
    pub(super) fn read(
        &mut self,
        key: usize,
        buffer: &mut ReadBuf<'_>,
        now: Instant,
        transmit: TransmitPacket<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        let connection = &mut self.connections[key];
        let mut copy = |bytes: &mut [u8]| {
            let taken = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..taken]);
            (taken, taken)
        };
        // Twice, since what has arrived may lie around the end of a ring.
        let outcome = loop {
            match connection.socket().recv(&mut copy) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        if buffer.remaining() < before {
            // The peer may be waiting for room.
            self.serve(key, now, transmit);
            return Poll::Ready(Ok(()));
        }
        match outcome {
            Ok(()) if before == 0 => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(connection.reason())),
        }
    }

    /// Takes in what there is room for, and sends what the peer has room for; `Pending` without room.
    pub(super) fn write(
        &mut self,
        key: usize,
        slices: &[IoSlice<'_>],
        now: Instant,
        transmit: TransmitPacket<'_>,
    ) -> Poll<io::Result<usize>> {
        let connection = &mut self.connections[key];
        let mut written = 0;
        for slice in slices {
            match connection.socket().send_slice(slice) {
                Ok(taken) => written += taken,
                Err(_) if connection.socket().state() == State::Closed => {
                    return Poll::Ready(Err(connection.reason()));
                }
                Err(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Poll::Pending;
        }
        self.serve(key, now, transmit);
        Poll::Ready(Ok(written))
    }

    /// Wakes once something can be read.
    pub(super) fn wake_on_read(&mut self, key: usize, waker: &Waker) {
        self.connections[key].socket().register_recv_waker(waker);
    }

    /// Wakes once something can be written.
    pub(super) fn wake_on_write(&mut self, key: usize, waker: &Waker) {
        self.connections[key].socket().register_send_waker(waker);
    }

    /// Says that nothing more will be written.
    pub(super) fn shut(&mut self, key: usize, now: Instant, transmit: TransmitPacket<'_>) {
        let socket = self.connections[key].socket();
        // The last acknowledgements are not put off: the connection may end with them.
        socket.set_ack_delay(None);
        socket.close();
        self.serve(key, now, transmit);
    }

    /// The holder of a connection has dropped it: what was written is still delivered. As in Linux, a
    /// peer is told by a reset that what it sent is not read any more.
    pub(super) fn release(&mut self, key: usize, now: Instant, transmit: TransmitPacket<'_>) {
        self.abandon(key, now);
        self.shut(key, now, transmit);
    }

    /// Breaks a connection off.
    pub(super) fn abort(&mut self, key: usize, now: Instant, transmit: TransmitPacket<'_>) {
        self.connections[key].socket().abort();
        self.serve(key, now, transmit);
    }

    /// Nobody holds a connection any more.
    fn abandon(&mut self, key: usize, now: Instant) {
        let until = now + self.options.linger_limit;
        let owner = &mut self.connections[key].owner;
        let before = std::mem::replace(owner, Owner::Nobody { until });
        if let Some(service) = &mut self.service
            && matches!(before, Owner::Opening | Owner::Queue)
        {
            service.unaccepted -= 1;
        }
        self.orphans += 1;
    }

    /// The connection that a segment belongs to, which is made for it if it opens one.
    fn connection_of(&mut self, segment: &Segment) -> Result<Option<usize>, DropCause> {
        if let Some(&key) = self.keys.get(&segment.route) {
            return Ok(Some(key));
        }
        let Some(service) = &mut self.service else {
            return Ok(None);
        };
        if segment.route.local_port != service.port {
            return Err(DropCause::Misrouted);
        }
        if !service.is_open || !segment.opens || service.unaccepted >= self.options.backlog {
            return Ok(None);
        }
        service.unaccepted += 1;
        let port = service.port;
        let mut socket = self.socket();
        socket.listen(port).expect("a new socket and a whole port");
        Ok(Some(self.insert(socket, segment.route, Owner::Opening)))
    }

    fn socket(&self) -> Socket<'static> {
        let buffer = || SocketBuffer::new(vec![0; self.options.buffer_bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACKNOWLEDGEMENT_DELAY));
        socket.set_tsval_generator(Some(|| TIMESTAMP.get()));
        socket
    }

    fn insert(&mut self, socket: Socket<'static>, route: Route, owner: Owner) -> usize {
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let key = self.connections.insert(Connection {
            sockets,
            handle,
            route,
            owner,
            timer: None,
            timed_out: false,
        });
        self.keys.insert(route, key);
        key
    }

    fn remove(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        self.keys.remove(&connection.route);
        match (connection.owner, &mut self.service) {
            (Owner::Nobody { .. }, _) => self.orphans -= 1,
            (Owner::Opening, Some(service)) => service.unaccepted -= 1,
            (Owner::Opening | Owner::Queue | Owner::Stream, _) => {}
        }
    }

    /// Passes a packet to a connection, or to none, which answers it with a reset.
    fn take_in(
        &mut self,
        key: Option<usize>,
        packet: &[u8],
        now: Instant,
        transmit: TransmitPacket<'_>,
    ) {
        let timestamp = self.timestamp(now);
        let mut device = Device::new(Some(packet), self.options.mtu_bytes, transmit);
        let mut nobody = SocketSet::new(Vec::new());
        let sockets = match key {
            Some(key) => &mut self.connections[key].sockets,
            None => &mut nobody,
        };
        self.interface
            .poll_ingress_single(timestamp, &mut device, sockets);
    }

    /// Queues a connection that has just been established at the peer's request.
    fn note_establishment(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let state = connection.socket().state();
        if connection.owner == Owner::Opening
            && !matches!(state, State::Listen | State::SynReceived | State::Closed)
        {
            connection.owner = Owner::Queue;
            let service = self.service.as_mut().expect("only servers accept");
            service.queue.push_back(key);
            if let Some(acceptor) = service.acceptor.take() {
                acceptor.wake();
            }
        }
    }

    /// Sends what a connection has to send, and sees to it that it is served again in time, or
    /// removed when it is over.
    fn serve(&mut self, key: usize, now: Instant, transmit: TransmitPacket<'_>) {
        let timestamp = self.timestamp(now);
        let connection = &mut self.connections[key];
        connection.prepare(now, self.options.connect_limit);
        let was_closed = connection.socket().state() == State::Closed;
        let sockets = &mut connection.sockets;
        let mut device = Device::new(None, self.options.mtu_bytes, transmit);
        let due = loop {
            let due = self.interface.poll_at(timestamp, sockets);
            if due.is_none_or(|due| due > timestamp) {
                break due;
            }
            let outcome = self.interface.poll_egress(timestamp, &mut device, sockets);
            if outcome == PollResult::None {
                let due = self.interface.poll_at(timestamp, sockets);
                break due.map(|due| due.max(timestamp + RETRY_AFTER));
            }
        };
        let state = connection.socket().state();
        connection.timed_out |= state == State::Closed && !was_closed;
        if connection.is_over() {
            return self.remove(key);
        }
        let deadline = due
            .filter(|_| state != State::TimeWait)
            .map(|due| self.epoch + Duration::from_micros(due.total_micros().unsigned_abs()));
        let until = connection.owner.until();
        let deadline = deadline.into_iter().chain(until).min();
        self.deadlines
            .schedule(key, deadline, &mut connection.timer);
    }

    /// The stack's time, which the timestamp option tells too.
    fn timestamp(&self, now: Instant) -> time::Instant {
        let since = now.saturating_duration_since(self.epoch);
        let micros = i64::try_from(since.as_micros()).expect("fewer than 292,000 years");
        // It wraps, as the option is meant to (RFC 7323 §5.4).
        TIMESTAMP.set(since.as_millis() as u32);
        time::Instant::from_micros(micros)
    }
}
