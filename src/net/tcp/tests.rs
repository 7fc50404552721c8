//! Two hosts or more, joined in virtual time by a wire that loses, doubles and reorders.

use std::collections::VecDeque;

use super::*;
use crate::tunnel::{SERVER, SIP_PORT, user_address, user_of};

const OPTIONS: TcpOptions = TcpOptions {
    mtu_bytes: 1_420,
    buffer_bytes: 8_192,
    connect_limit: Duration::from_secs(5),
    linger_limit: Duration::from_secs(5),
    backlog: 16,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Lost,
    Doubled,
    /// The one behind it overtakes it.
    Overtaken,
}

/// A server and the hosts of some users.
struct Net {
    now: Instant,
    server: Tcp,
    users: Vec<Tcp>,
    wire: VecDeque<Vec<u8>>,
    fate: Box<dyn FnMut(usize) -> Fate>,
    packets: usize,
    timeouts: usize,
    drops: Vec<DropCause>,
}

/// Which host acts.
#[derive(Clone, Copy)]
enum At {
    Server,
    User(usize),
}

/// One connection, as both ends know it.
#[derive(Clone, Copy)]
struct Ends {
    user: (At, usize),
    server: (At, usize),
}

impl Net {
    fn new(users: u32) -> Self {
        Self::with(users, OPTIONS)
    }

    fn with(users: u32, options: TcpOptions) -> Self {
        let now = Instant::now();
        let mut server = Tcp::server(SERVER, SIP_PORT, options, now);
        assert!(server.listen());
        Self {
            now,
            server,
            users: (0..users)
                .map(|user| Tcp::client(user_address(user), options, now))
                .collect(),
            wire: VecDeque::new(),
            fate: Box::new(|_| Fate::Passed),
            packets: 0,
            timeouts: 0,
            drops: Vec::new(),
        }
    }

    fn with_fate(fate: impl FnMut(usize) -> Fate + 'static) -> Self {
        Self {
            fate: Box::new(fate),
            ..Self::new(1)
        }
    }

    /// Lets one host do something; what it sends is on the wire then.
    fn act<T>(
        &mut self,
        at: At,
        act: impl FnOnce(&mut Tcp, Instant, TransmitPacket<'_>) -> T,
    ) -> T {
        let host = match at {
            At::Server => &mut self.server,
            At::User(user) => &mut self.users[user],
        };
        let mut sent = Vec::new();
        let result = act(host, self.now, &mut |packet| {
            sent.push(packet.bytes().to_vec());
        });
        for packet in sent {
            let fate = (self.fate)(self.packets);
            self.packets += 1;
            match fate {
                Fate::Passed => self.wire.push_back(packet),
                Fate::Lost => {}
                Fate::Doubled => self.wire.extend([packet.clone(), packet]),
                Fate::Overtaken => {
                    let behind = self.wire.pop_back();
                    self.wire.push_back(packet);
                    self.wire.extend(behind);
                }
            }
        }
        result
    }

    /// Delivers everything that is on the wire, and what that causes.
    fn deliver(&mut self) {
        while let Some(packet) = self.wire.pop_front() {
            let destination = Ipv4Addr::from(*packet[16..].first_chunk::<4>().unwrap());
            let at = match user_of(destination) {
                Some(user) => At::User(user as usize),
                None => At::Server,
            };
            let taken = self.act(at, |tcp, now, transmit| tcp.receive(&packet, now, transmit));
            self.drops.extend(taken.err());
        }
    }

    /// Lets time pass up to the next deadline, if there is one within `limit`.
    fn step(&mut self, limit: Instant) -> bool {
        self.deliver();
        let hosts = self.users.iter().chain([&self.server]);
        let due = hosts.filter_map(Tcp::deadline).min();
        let Some(due) = due.filter(|&due| due <= limit) else {
            return false;
        };
        self.now = self.now.max(due);
        self.timeouts += 1;
        for at in (0..self.users.len()).map(At::User).chain([At::Server]) {
            self.act(at, |tcp, now, transmit| tcp.handle_timeout(now, transmit));
        }
        true
    }

    /// Lets `duration` pass.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets time pass until `done`, which it must be within a minute.
    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let limit = self.now + Duration::from_secs(60);
        loop {
            self.deliver();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(self.step(limit), "expected {what}");
        }
    }

    fn connect(&mut self, user: usize, local_port: u16) -> Ends {
        let at = At::User(user);
        let server = SocketAddrV4::new(SERVER, SIP_PORT);
        let key = self.act(at, |tcp, now, transmit| {
            tcp.connect(server, local_port, now, transmit)
        });
        self.until("a connection", |net| {
            match net.users[user].poll_connected(key) {
                Poll::Ready(connected) => connected.map(Some).unwrap(),
                Poll::Pending => None,
            }
        });
        let accepted = self.until("an accepted connection", Self::accept);
        assert_eq!(
            accepted.peer,
            SocketAddrV4::new(user_address(user as u32), local_port)
        );
        Ends {
            user: (at, key),
            server: (At::Server, accepted.key),
        }
    }

    fn accept(&mut self) -> Option<Accepted> {
        match self.server.poll_accept(&Context::from_waker(Waker::noop())) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        }
    }

    fn write(&mut self, (at, key): (At, usize), bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.act(at, |tcp, now, transmit| {
            tcp.write(key, &[IoSlice::new(bytes)], now, transmit)
        })
    }

    /// Reads what is there, at most 4,000 bytes; nothing is the end.
    fn read(&mut self, (at, key): (At, usize)) -> Poll<io::Result<Vec<u8>>> {
        let mut bytes = vec![0; 4_000];
        let mut buffer = ReadBuf::new(&mut bytes);
        let outcome = self.act(at, |tcp, now, transmit| {
            tcp.read(key, &mut buffer, now, transmit)
        });
        outcome.map_ok(|()| buffer.filled().to_vec())
    }

    fn expect(&mut self, end: (At, usize), expected: &[u8]) {
        let mut read = Vec::new();
        self.until("bytes", |net| {
            while let Poll::Ready(bytes) = net.read(end) {
                let bytes = bytes.unwrap();
                assert!(!bytes.is_empty(), "an early end after {}", read.len());
                read.extend(bytes);
            }
            (read.len() >= expected.len()).then_some(())
        });
        assert!(read == expected);
    }

    fn expect_end(&mut self, end: (At, usize)) {
        let last = self.until("the end", |net| match net.read(end) {
            Poll::Ready(last) => Some(last),
            Poll::Pending => None,
        });
        assert_eq!(last.unwrap(), b"");
    }

    fn shut(&mut self, (at, key): (At, usize)) {
        self.act(at, |tcp, now, transmit| tcp.shut(key, now, transmit));
    }

    fn release(&mut self, (at, key): (At, usize)) {
        self.act(at, |tcp, now, transmit| tcp.release(key, now, transmit));
    }

    fn assert_empty(&self) {
        for host in self.users.iter().chain([&self.server]) {
            assert_eq!((host.connections.len(), host.keys.len()), (0, 0));
            assert_eq!((host.orphans, host.unaccepted()), (0, 0));
        }
    }
}

impl Tcp {
    fn unaccepted(&self) -> usize {
        self.service
            .as_ref()
            .map_or(0, |service| service.unaccepted)
    }
}

fn text(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 7 + seed + i / 256) as u8).collect()
}

/// Connects, exchanges a request and its answer, and closes from the user's side.
fn exchange(net: &mut Net) {
    let ends = net.connect(0, 50_000);
    assert_eq!(
        net.write(ends.user, b"REGISTER").map(Result::unwrap),
        Poll::Ready(8)
    );
    net.expect(ends.server, b"REGISTER");
    assert_eq!(
        net.write(ends.server, b"200").map(Result::unwrap),
        Poll::Ready(3)
    );
    net.expect(ends.user, b"200");
    net.release(ends.user);
    net.expect_end(ends.server);
    net.release(ends.server);
    net.pass(Duration::from_secs(10));
    net.assert_empty();
}

#[test]
fn whichever_packet_is_lost_doubled_or_overtaken_a_connection_serves_and_ends() {
    let mut smooth = Net::new(1);
    exchange(&mut smooth);
    // SYN, SYN-ACK, ACK; request, answer, FIN with its acknowledgement, ACK, FIN, ACK.
    assert!((8..=11).contains(&smooth.packets), "{}", smooth.packets);
    for fate in [Fate::Lost, Fate::Doubled, Fate::Overtaken] {
        for unlucky in 0..smooth.packets {
            let mut net = Net::with_fate(move |number| match number == unlucky {
                true => fate,
                false => Fate::Passed,
            });
            exchange(&mut net);
            assert_eq!(net.drops, [], "{fate:?} {unlucky}");
        }
    }
}

#[test]
fn long_streams_cross_both_ways_at_once_on_a_bad_wire() {
    // A fixed pattern: a third of the packets has another fate than to pass.
    let mut net = Net::with_fate(|number| match (number * 7_919) % 23 {
        3 => Fate::Lost,
        5 | 11 => Fate::Doubled,
        7 | 13 | 17 | 19 => Fate::Overtaken,
        _ => Fate::Passed,
    });
    let ends = net.connect(0, 50_000);
    let (up, down) = (text(65_536, 1), text(65_536, 2));
    let mut written = [0; 2];
    let mut read = [Vec::new(), Vec::new()];
    let mut rounds = 0;
    while read[0].len() < up.len() || read[1].len() < down.len() {
        for (side, (end, text)) in [(ends.user, &up), (ends.server, &down)].iter().enumerate() {
            while let Poll::Ready(count) = net.write(*end, &text[written[side]..]) {
                written[side] += count.unwrap();
                if written[side] == text.len() {
                    break;
                }
            }
        }
        net.deliver();
        for (side, end) in [ends.server, ends.user].into_iter().enumerate() {
            while let Poll::Ready(bytes) = net.read(end) {
                read[side].extend(bytes.unwrap());
            }
        }
        if net.wire.is_empty() {
            let limit = net.now + Duration::from_secs(60);
            net.step(limit);
        }
        rounds += 1;
        assert!(rounds < 10_000, "stuck at {written:?}");
    }
    assert!(read[0] == up && read[1] == down);
}

#[test]
fn after_one_side_has_ended_the_other_still_speaks() {
    let mut net = Net::new(1);
    let ends = net.connect(0, 50_000);
    net.shut(ends.user);
    net.expect_end(ends.server);
    assert_eq!(
        net.write(ends.server, b"late").map(Result::unwrap),
        Poll::Ready(4)
    );
    net.expect(ends.user, b"late");
    let Poll::Ready(Err(error)) = net.write(ends.user, b"x") else {
        panic!("it has said goodbye")
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    net.release(ends.server);
    net.expect_end(ends.user);
    net.release(ends.user);
    net.deliver();
    net.assert_empty();
}

#[test]
fn idle_peers_cost_no_wake_up() {
    const USERS: usize = 1_000;
    let small = TcpOptions {
        buffer_bytes: 1_420,
        ..OPTIONS
    };
    let mut net = Net::with(USERS as u32, small);
    for user in 0..USERS {
        let ends = net.connect(user, 50_000);
        assert!(net.write(ends.user, b"REGISTER").is_ready());
        net.expect(ends.server, b"REGISTER");
        assert!(net.write(ends.server, b"200").is_ready());
        net.expect(ends.user, b"200");
    }
    // Entries that traffic has made needless are looked at once.
    net.pass(Duration::from_secs(2));
    let (packets, timeouts) = (net.packets, net.timeouts);
    net.pass(Duration::from_secs(86_400));
    assert_eq!((net.packets, net.timeouts), (packets, timeouts));
    assert_eq!(net.server.connections.len(), USERS);
    assert_eq!(net.server.deadline(), None);
}

#[test]
fn nobody_listens_is_a_refusal() {
    let mut net = Net::new(1);
    net.act(At::Server, |tcp, now, transmit| tcp.close(now, transmit));
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    let at = At::User(0);
    let key = net.act(at, |tcp, now, transmit| {
        tcp.connect(server, 50_000, now, transmit)
    });
    assert!(net.users[0].poll_connected(key).is_pending());
    net.deliver();
    let Poll::Ready(Err(error)) = net.users[0].poll_connected(key) else {
        panic!("it is refused")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn useless_packets_are_told_and_not_answered() {
    let mut net = Net::new(1);
    let mut syn = Vec::new();
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    let now = net.now;
    net.users[0].connect(server, 50_000, now, &mut |packet| {
        syn = packet.bytes().to_vec();
    });
    let mut silent = |_: IpPacket<'_>| panic!("nothing is answered");
    for position in 0..syn.len() {
        let mut damaged = syn.clone();
        damaged[position] ^= 0x5a;
        let taken = net.server.receive(&damaged, now, &mut silent);
        assert_eq!(taken, Err(DropCause::Malformed), "byte {position}");
    }
    for length in 0..syn.len() {
        let taken = net.server.receive(&syn[..length], now, &mut silent);
        assert_eq!(taken, Err(DropCause::Malformed), "{length} bytes");
    }
    let elsewhere = SocketAddrV4::new(SERVER, 5_062);
    net.users[0].connect(elsewhere, 50_001, now, &mut |packet| {
        syn = packet.bytes().to_vec();
    });
    let taken = net.server.receive(&syn, now, &mut silent);
    assert_eq!(taken, Err(DropCause::Misrouted));
    assert_eq!(net.server.connections.len(), 0);
}

#[test]
fn more_newcomers_than_fit_the_backlog_wait() {
    let mut net = Net::new(1);
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    let at = At::User(0);
    let mut keys = Vec::new();
    for port in 0..=OPTIONS.backlog {
        keys.push(net.act(at, |tcp, now, transmit| {
            tcp.connect(server, 40_000 + port as u16, now, transmit)
        }));
        net.deliver();
    }
    let last = *keys.last().unwrap();
    assert!(net.users[0].poll_connected(last).is_pending());
    assert_eq!(net.server.connections.len(), OPTIONS.backlog);
    assert!(net.accept().is_some());
    net.pass(Duration::from_secs(2));
    assert!(matches!(
        net.users[0].poll_connected(last),
        Poll::Ready(Ok(()))
    ));
    net.act(At::Server, |tcp, now, transmit| tcp.close(now, transmit));
    net.deliver();
    assert_eq!(net.server.connections.len(), 1, "the accepted one stays");
}

#[test]
fn a_handshake_that_is_not_completed_is_forgotten() {
    // The SYN arrives, and nothing else.
    let mut net = Net::with_fate(|number| match number {
        0 => Fate::Passed,
        _ => Fate::Lost,
    });
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    net.act(At::User(0), |tcp, now, transmit| {
        tcp.connect(server, 50_000, now, transmit)
    });
    net.deliver();
    assert_eq!(net.server.unaccepted(), 1);
    net.pass(Duration::from_secs(6));
    assert_eq!(
        (net.server.connections.len(), net.server.unaccepted()),
        (0, 0)
    );
}

#[test]
fn dropping_a_stream_with_unread_bytes_resets_it() {
    let mut net = Net::new(1);
    let ends = net.connect(0, 50_000);
    assert!(net.write(ends.user, b"unread").is_ready());
    net.deliver();
    net.release(ends.server);
    net.deliver();
    assert_eq!(net.server.connections.len(), 0);
    let Poll::Ready(Err(error)) = net.read(ends.user) else {
        panic!("it is reset")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_silent_peer_is_given_up_in_the_end() {
    for is_dropped in [false, true] {
        let silenced = std::rc::Rc::new(Cell::new(false));
        let is_silent = std::rc::Rc::clone(&silenced);
        let mut net = Net::with_fate(move |_| match is_silent.get() {
            true => Fate::Lost,
            false => Fate::Passed,
        });
        let ends = net.connect(0, 50_000);
        silenced.set(true);
        assert!(net.write(ends.server, b"hello?").is_ready());
        if is_dropped {
            net.release(ends.server);
            net.pass(OPTIONS.linger_limit);
            assert_eq!(net.server.connections.len(), 0);
        } else {
            net.pass(Duration::from_secs(900));
            assert!(net.read(ends.server).is_pending());
            net.pass(Duration::from_secs(90));
            let Poll::Ready(Err(error)) = net.read(ends.server) else {
                panic!("it is given up")
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
