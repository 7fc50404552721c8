//! Both sides of tunnels without a network between them: every datagram passes through the test's hands.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::time::Instant;

use super::packet::with_room;
use super::{
    DropCause, Endpoint, Gateway, Initiator, IpPacket, Protection, SCRATCH_BYTES, SERVER,
    WireguardKeys, user_address, write_udp,
};

/// Users that the server knows.
pub(super) const USERS: u32 = 3;

pub(super) fn keys() -> WireguardKeys {
    WireguardKeys {
        seed: [7; 32],
        peers: USERS,
    }
}

pub(super) fn outer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

pub(super) fn udp_packet(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 2_000];
    let (source, destination) = (
        SocketAddrV4::new(source, 5060),
        SocketAddrV4::new(destination, 5060),
    );
    let bytes = write_udp(&mut packet, source, destination, payload);
    packet.truncate(bytes);
    packet
}

/// A packet of `user` for the server.
pub(super) fn request(user: u32, payload: &[u8]) -> Vec<u8> {
    udp_packet(user_address(user), SERVER, payload)
}

/// A packet of the server for `user`.
pub(super) fn answer(user: u32, payload: &[u8]) -> Vec<u8> {
    udp_packet(SERVER, user_address(user), payload)
}

/// Where users find the server.
pub(super) fn server_address() -> SocketAddr {
    outer(51_820)
}

/// One endpoint, with everything that it hands out collected.
pub(super) struct Side<E> {
    pub(super) endpoint: E,
    pub(super) scratch: Vec<u8>,
    pub(super) now: Instant,
}

/// Datagrams with the outer addresses that they are for.
pub(super) type Datagrams = Vec<(SocketAddr, Vec<u8>)>;

impl<E: Endpoint> Side<E> {
    pub(super) fn new(endpoint: E) -> Self {
        Self {
            endpoint,
            scratch: vec![0; SCRATCH_BYTES],
            now: Instant::now(),
        }
    }

    pub(super) fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
    ) -> (Option<Vec<u8>>, Datagrams) {
        let mut sent = Datagrams::new();
        let packet = self
            .endpoint
            .receive(
                datagram,
                from,
                self.now,
                &mut self.scratch,
                &mut |to, bytes| {
                    sent.push((to, bytes.to_vec()));
                },
            )
            .map(<[u8]>::to_vec);
        (packet, sent)
    }

    pub(super) fn send(&mut self, packet: &[u8]) -> Result<Datagrams, DropCause> {
        let mut sent = Datagrams::new();
        let mut roomy = with_room(packet);
        let packet = IpPacket::new(&mut roomy, packet.len());
        self.endpoint
            .send(packet, self.now, &mut self.scratch, &mut |to, bytes| {
                sent.push((to, bytes.to_vec()));
            })
            .map(|()| sent)
    }

    /// Lets it do what is due.
    pub(super) fn handle_timeout(&mut self) -> Datagrams {
        let mut sent = Datagrams::new();
        self.endpoint
            .handle_timeout(self.now, &mut self.scratch, &mut |to, bytes| {
                sent.push((to, bytes.to_vec()));
            });
        sent
    }
}

impl<P: Protection> Side<Gateway<P>> {
    pub(super) fn server(protection: &Rc<P>) -> Self {
        Self::new(Gateway::new(Rc::clone(protection)))
    }
}

impl<P: Protection> Side<Initiator<P>> {
    pub(super) fn user(protection: &P, user: u32) -> Self {
        Self::new(Initiator::new(
            protection,
            user,
            server_address(),
            Instant::now(),
        ))
    }

    pub(super) fn initiate(&mut self) -> Datagrams {
        let mut sent = Datagrams::new();
        self.endpoint
            .initiate(self.now, &mut self.scratch, &mut |to, bytes| {
                sent.push((to, bytes.to_vec()));
            });
        sent
    }

    /// Handshakes with `server` from the outer address `from`.
    pub(super) fn establish(&mut self, server: &mut Side<Gateway<P>>, from: SocketAddr) {
        let mut to_server = self.initiate();
        while let Some((_, datagram)) = to_server.pop() {
            for (to, answer) in server.receive(from, &datagram).1 {
                assert_eq!(to, from);
                to_server.extend(self.receive(server_address(), &answer).1);
            }
        }
        assert!(self.endpoint.is_established());
    }
}
