//! WireGuard's two ends: an association is made, then a program of operations delivers, alters, cuts,
//! repeats, reflects and invents datagrams while time passes and keys change. Whatever is not genuine
//! is dropped, counted and not answered, an authentic user gets in only what it may send, and in the
//! end a genuine packet passes each way.
//!
//! The first byte of an input chooses whether the server limits handshakes. Then each operation is a
//! byte, which counts modulo [`OPERATIONS`], and its arguments.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hopbench::tunnel::{
    Endpoint, Gateway, Initiator, IpPacket, PACKET_ROOM_BYTES, Protection, SCRATCH_BYTES, SERVER,
    SIP_PORT, Tunnel, TunnelOptions, Wireguard, WireguardKeys, WireguardTunnel, parse_udp,
    user_address, write_udp,
};
use libfuzzer_sys::fuzz_target;

const OPERATIONS: u8 = 10;

/// The user whose packets are genuine.
const USER: u32 = 0;

/// A user with a key of its own that sends whatever it likes in its packets.
const LIAR: u32 = 1;

/// What closes the messages of a handshake and is looked at only by a server over its limit.
const MAC2_BYTES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    User,
    Server,
}

/// A datagram that one end has sent.
struct Genuine {
    to: End,
    datagram: Vec<u8>,
}

struct World {
    protection: Rc<Wireguard>,
    user: Initiator<Wireguard>,
    server: Gateway<Wireguard>,
    liar: Option<WireguardTunnel>,
    genuine: Vec<Genuine>,
    now: Instant,
    scratch: Vec<u8>,
}

fn address(end: End) -> SocketAddr {
    match end {
        End::User => SocketAddr::from(([192, 0, 2, 1], 40_000)),
        End::Server => SocketAddr::from(([192, 0, 2, 2], 51_820)),
    }
}

/// Where what is not genuine comes from.
fn stranger() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 9))
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut buffer = vec![0; payload.len() + 64];
    let source = SocketAddrV4::new(source, SIP_PORT);
    let destination = SocketAddrV4::new(destination, SIP_PORT);
    let bytes = write_udp(&mut buffer, source, destination, payload);
    (buffer, bytes)
}

impl World {
    fn established(options: &TunnelOptions) -> Self {
        let keys = WireguardKeys {
            seed: [7; 32],
            peers: 2,
        };
        let now = Instant::now();
        let protection = Rc::new(Wireguard::new(keys, options));
        let mut world = Self {
            user: Initiator::new(&*protection, USER, address(End::Server), now),
            server: Gateway::new(Rc::clone(&protection)),
            protection,
            liar: None,
            genuine: Vec::new(),
            now,
            scratch: vec![0; SCRATCH_BYTES],
        };
        world.initiate();
        for index in 0..3 {
            world.deliver(index);
        }
        assert!(world.user.is_established());
        world
    }

    fn initiate(&mut self) {
        let genuine = &mut self.genuine;
        self.user
            .initiate(self.now, &mut self.scratch, &mut |_, datagram| {
                genuine.push(sent(End::Server, datagram));
            });
    }

    /// Gives `datagram` to `to`, and remembers what that sends. Returns the packet that was in it, and
    /// how many datagrams went to where it came from.
    fn receive(&mut self, to: End, from: SocketAddr, datagram: &[u8]) -> (Option<Vec<u8>>, usize) {
        let genuine = &mut self.genuine;
        let mut answers = 0;
        let mut transmit = |destination: SocketAddr, datagram: &[u8]| {
            answers += usize::from(destination == from);
            let to = match to {
                End::User => End::Server,
                End::Server => End::User,
            };
            genuine.push(sent(to, datagram));
        };
        let (now, scratch) = (self.now, &mut self.scratch);
        let packet = match to {
            End::User => self
                .user
                .receive(datagram, from, now, scratch, &mut transmit),
            End::Server => self
                .server
                .receive(datagram, from, now, scratch, &mut transmit),
        };
        (packet.map(<[u8]>::to_vec), answers)
    }

    /// A genuine datagram takes its way, perhaps not for the first time.
    fn deliver(&mut self, index: usize) {
        let Genuine { to, datagram } = &self.genuine[index];
        let (to, datagram) = (*to, datagram.clone());
        let from = match to {
            End::User => address(End::Server),
            End::Server => address(End::User),
        };
        self.receive(to, from, &datagram);
    }

    /// A stranger sends `datagram`. Unless it is genuine after all, nothing comes of it.
    fn forge(&mut self, to: End, datagram: &[u8]) {
        let before = self.drops(to);
        let is_genuine = self
            .genuine
            .iter()
            .any(|genuine| genuine.to == to && read(&genuine.datagram) == read(datagram));
        let (packet, answers) = self.receive(to, stranger(), datagram);
        if !is_genuine {
            assert!(packet.is_none(), "a forged datagram was taken");
            assert_eq!(answers, 0, "a forged datagram was answered");
            assert_eq!(
                self.drops(to),
                before + 1,
                "a forged datagram was not counted"
            );
        }
    }

    fn drops(&self, end: End) -> u64 {
        match end {
            End::User => self.user.drops().total(),
            End::Server => self.server.drops().total(),
        }
    }

    /// A genuine packet to `to` begins its way.
    fn send(&mut self, to: End, payload: &[u8]) {
        let genuine = &mut self.genuine;
        let mut transmit = |_, datagram: &[u8]| genuine.push(sent(to, datagram));
        let (now, scratch) = (self.now, &mut self.scratch);
        let user = user_address(USER);
        let accepted = match to {
            End::Server => {
                let (mut buffer, bytes) = packet(user, SERVER, payload);
                let packet = IpPacket::new(&mut buffer, bytes);
                self.user.send(packet, now, scratch, &mut transmit)
            }
            End::User => {
                let (mut buffer, bytes) = packet(SERVER, user, payload);
                let packet = IpPacket::new(&mut buffer, bytes);
                self.server.send(packet, now, scratch, &mut transmit)
            }
        };
        accepted.expect("both know each other");
    }

    /// A user with a genuine key sends these bytes as a packet.
    fn lie(&mut self, bytes: &[u8]) {
        let mut liar = match self.liar.take() {
            Some(liar) => liar,
            None => self.liar_established(),
        };
        let mut buffer = bytes.to_vec();
        buffer.resize(bytes.len() + PACKET_ROOM_BYTES, 0);
        let mut datagram = Vec::new();
        liar.send(
            IpPacket::new(&mut buffer, bytes.len()),
            self.now,
            &mut self.scratch,
            &mut |bytes| datagram = bytes.to_vec(),
        );
        self.liar = Some(liar);
        let Some(packet) = self.receive(End::Server, stranger(), &datagram).0 else {
            return;
        };
        let _ = parse_udp(&packet);
        assert_eq!(packet[12..16], user_address(LIAR).octets());
        assert_eq!(packet[16..20], SERVER.octets());
    }

    fn liar_established(&mut self) -> WireguardTunnel {
        let mut liar = self.protection.initiator(LIAR, self.now);
        let mut flight = Vec::new();
        liar.initiate(self.now, &mut self.scratch, &mut |bytes| {
            flight.push(bytes.to_vec());
        });
        while let Some(datagram) = flight.pop() {
            let mut answers = Vec::new();
            self.server.receive(
                &datagram,
                stranger(),
                self.now,
                &mut self.scratch,
                &mut |_, bytes| answers.push(bytes.to_vec()),
            );
            for answer in answers {
                liar.receive(&answer, self.now, &mut self.scratch, &mut |bytes| {
                    flight.push(bytes.to_vec());
                })
                .expect("an authentic answer");
            }
        }
        liar
    }

    fn wait(&mut self, seconds: u16) {
        self.now += Duration::from_secs(seconds.into());
        let (now, scratch) = (self.now, &mut self.scratch);
        let genuine = &mut self.genuine;
        self.user.handle_timeout(now, scratch, &mut |_, datagram| {
            genuine.push(sent(End::Server, datagram));
        });
        self.server
            .handle_timeout(now, scratch, &mut |_, datagram| {
                genuine.push(sent(End::User, datagram));
            });
        for deadline in [self.user.deadline(), self.server.deadline()] {
            assert!(deadline.is_none_or(|deadline| deadline > now));
        }
    }

    fn assert_packets_pass(&mut self) {
        for to in [End::Server, End::User] {
            self.send(to, b"genuine");
            let datagram = self.genuine.last().expect("it was sent").datagram.clone();
            let from = stranger();
            let (packet, _) = self.receive(to, from, &datagram);
            let packet = packet.expect("a genuine packet passes");
            assert_eq!(parse_udp(&packet).expect("intact").payload, b"genuine");
        }
    }
}

fn sent(to: End, datagram: &[u8]) -> Genuine {
    Genuine {
        to,
        datagram: datagram.to_vec(),
    }
}

/// What of a datagram is looked at in any case.
fn read(datagram: &[u8]) -> &[u8] {
    let unread_bytes = match datagram {
        [1 | 2, 0, 0, 0, ..] if matches!(datagram.len(), 148 | 92) => MAC2_BYTES,
        _ => 0,
    };
    &datagram[..datagram.len() - unread_bytes]
}

/// The rest of an input.
struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A byte says how many, at most; fewer if there are no more.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    fn end(&mut self) -> Option<End> {
        Some(match self.byte()? % 2 {
            0 => End::Server,
            _ => End::User,
        })
    }

    /// One of the genuine datagrams, counted from the last.
    fn index(&mut self, world: &World) -> Option<usize> {
        let count = world.genuine.len();
        Some(count - 1 - usize::from(self.byte()?) % count)
    }

    /// Takes one operation; `None` at the end.
    fn step(&mut self, world: &mut World) -> Option<()> {
        match self.byte()? % OPERATIONS {
            0 => world.send(self.end()?, self.bytes()?),
            1 => world.deliver(self.index(world)?),
            2 => {
                let Genuine { to, datagram } = &world.genuine[self.index(world)?];
                let (to, mut datagram) = (*to, datagram.clone());
                let offset = usize::from(self.number()?) % datagram.len();
                datagram[offset] ^= self.byte()?;
                world.forge(to, &datagram);
            }
            3 => {
                let Genuine { to, datagram } = &world.genuine[self.index(world)?];
                let length = usize::from(self.number()?) % (datagram.len() + 1);
                let (to, datagram) = (*to, datagram[..length].to_vec());
                world.forge(to, &datagram);
            }
            4 => {
                let Genuine { to, datagram } = &world.genuine[self.index(world)?];
                let (to, mut datagram) = (*to, datagram.clone());
                datagram.extend_from_slice(self.bytes()?);
                world.forge(to, &datagram);
            }
            // Replayed from elsewhere, to the end that it was for or back to the one that sent it.
            5 => {
                let datagram = world.genuine[self.index(world)?].datagram.clone();
                world.forge(self.end()?, &datagram);
            }
            6 => world.forge(self.end()?, self.bytes()?),
            7 => world.wait(self.number()?),
            8 => world.initiate(),
            _ => world.lie(self.bytes()?),
        }
        Some(())
    }
}

fuzz_target!(|input: &[u8]| {
    let mut program = Program(input);
    let limited = program.byte().is_some_and(|byte| byte % 2 == 1);
    let options = TunnelOptions {
        handshakes_per_second_limit: limited.then_some(2),
        ..TunnelOptions::default()
    };
    let mut world = World::established(&options);
    while program.step(&mut world).is_some() {}
    world.assert_packets_pass();
});
