//! The gateway and its peers against whoever means well and whoever does not.

use std::time::Duration;

use super::*;
use crate::tunnel::packet::with_room;
use crate::tunnel::sides::{Side, USERS, keys, outer, udp_packet};
use crate::tunnel::{Claim, Clear, Transmit, TunnelOptions, Wireguard, parse_udp};

fn exchange<P: Protection>(protection: P) {
    let protection = Rc::new(protection);
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    for user in 0..USERS {
        let from = outer(40_000 + user as u16);
        let mut client = Side::user(&*protection, user);
        client.establish(&mut server, from);
        let request = udp_packet(user_address(user), SERVER, b"REGISTER");
        let sent = client.send(&request).unwrap();
        let [(to, datagram)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(*to, outer(51_820));
        assert_eq!(datagram.len(), protection.datagram_bytes(request.len()));
        assert_eq!(server.receive(from, datagram).0, Some(request));

        // The user roams: the answer goes where it was heard from last.
        let request = udp_packet(user_address(user), SERVER, b"INVITE");
        let (_, datagram) = client.send(&request).unwrap().remove(0);
        assert_eq!(server.receive(outer(9), &datagram).0, Some(request));
        let answer = udp_packet(SERVER, user_address(user), b"200");
        let (to, datagram) = server.send(&answer).unwrap().remove(0);
        assert_eq!(to, outer(9));
        let (packet, _) = client.receive(outer(51_820), &datagram);
        assert_eq!(parse_udp(&packet.unwrap()).unwrap().payload, b"200");
    }
    assert_eq!(server.endpoint.peers(), USERS as usize);
    assert_eq!(server.endpoint.drops(), Drops::default());
    assert_eq!(
        server.send(&udp_packet(SERVER, user_address(9), b"")),
        Err(DropCause::UnknownPeer)
    );
    assert_eq!(
        server.send(&udp_packet(SERVER, Ipv4Addr::LOCALHOST, b"")),
        Err(DropCause::Misrouted)
    );
}

#[test]
fn packets_find_their_peers_and_back() {
    exchange(Clear);
    exchange(Wireguard::new(keys(), &TunnelOptions::default()));
}

/// A user that has its own tunnel cannot speak for another.
#[test]
fn another_users_source_address_is_dropped() {
    let protection = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    let mut client = Side::user(&*protection, 1);
    client.establish(&mut server, outer(1));
    let forged = udp_packet(user_address(0), SERVER, b"REGISTER");
    assert_eq!(client.send(&forged), Err(DropCause::Misrouted));
    let mut sent = Vec::new();
    client.endpoint.tunnel_mut().send(
        IpPacket::new(&mut with_room(&forged), forged.len()),
        client.now,
        &mut client.scratch,
        &mut |bytes| {
            sent = bytes.to_vec();
        },
    );
    assert_eq!(server.receive(outer(1), &sent), (None, vec![]));
    assert_eq!(server.endpoint.drops().misrouted, 1);
}

#[test]
fn what_is_replayed_forged_or_unknown_is_dropped_without_an_answer() {
    let protection = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    let mut client = Side::user(&*protection, 0);
    client.establish(&mut server, outer(1));
    let packet = udp_packet(user_address(0), SERVER, b"REGISTER");
    let (_, datagram) = client.send(&packet).unwrap().remove(0);
    assert!(server.receive(outer(1), &datagram).0.is_some());

    let mut stranger = Side::user(&*protection, USERS);
    let (_, initiation) = stranger.initiate().remove(0);
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    // A counter that was not seen yet.
    forged[8] = 200;
    let mut for_nobody = datagram.clone();
    for_nobody[5] = 99;
    for unwanted in [&datagram, &initiation, &forged, &for_nobody, &vec![]] {
        // From elsewhere: a datagram that is not authentic must not move the peer there.
        assert_eq!(server.receive(outer(66), unwanted), (None, vec![]));
    }
    let expected = Drops {
        replayed: 1,
        unknown_peer: 2,
        not_authentic: 1,
        malformed: 1,
        ..Drops::default()
    };
    assert_eq!(server.endpoint.drops(), expected);
    let answer = udp_packet(SERVER, user_address(0), b"200");
    assert_eq!(server.send(&answer).unwrap()[0].0, outer(1));
}

#[test]
fn a_user_that_starts_anew_replaces_its_association() {
    let protection = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    for from in [outer(1), outer(2)] {
        let mut client = Side::user(&*protection, 0);
        client.establish(&mut server, from);
        let answer = udp_packet(SERVER, user_address(0), b"NOTIFY");
        let (to, datagram) = server.send(&answer).unwrap().remove(0);
        assert_eq!(to, from);
        assert_eq!(client.receive(outer(51_820), &datagram).0, Some(answer));
    }
    assert_eq!(server.endpoint.peers(), 1);
}

/// When an end that is left alone asks to be looked at, in seconds.
fn looks_until_rest<E: Endpoint>(side: &mut Side<E>) -> Vec<u64> {
    let established = side.now;
    let mut looks = Vec::new();
    while let Some(deadline) = side.endpoint.deadline() {
        side.now = deadline;
        looks.push((deadline - established).as_secs());
        assert_eq!(side.handle_timeout(), vec![]);
    }
    looks
}

#[test]
fn an_idle_end_is_looked_at_a_few_times_and_then_never() {
    let protection = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    assert_eq!(server.endpoint.deadline(), None);
    let mut client = Side::user(&*protection, 0);
    assert_eq!(client.endpoint.deadline(), None);
    client.establish(&mut server, outer(1));
    assert_eq!(looks_until_rest(&mut server), [10, 15, 540]);
    assert_eq!(looks_until_rest(&mut client), [10, 15, 540]);
}

#[test]
fn traffic_adds_no_timers() {
    let protection = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::new(Gateway::new(Rc::clone(&protection)));
    let mut client = Side::user(&*protection, 0);
    client.establish(&mut server, outer(1));
    for _ in 0..100 {
        server.now += Duration::from_millis(10);
        let packet = udp_packet(user_address(0), SERVER, b"REGISTER");
        let (_, datagram) = client.send(&packet).unwrap().remove(0);
        assert!(server.receive(outer(1), &datagram).0.is_some());
    }
    assert_eq!(server.endpoint.timers.len(), 1);
}

/// A tunnel that has something to say at every tick.
struct Restless(Option<Instant>);

/// The kind of [`Restless`] tunnels.
struct Nervous;

impl Protection for Nervous {
    type Tunnel = Restless;

    const NAME: &'static str = "restless";
    const HANDSHAKE: Option<&'static str> = None;
    const OVERHEAD_BYTES: usize = 0;

    fn initiator(&self, _user: u32, _now: Instant) -> Restless {
        Restless(None)
    }

    fn responder(&self, _user: u32, _now: Instant) -> Restless {
        Restless(None)
    }

    fn identify(
        &self,
        _datagram: &[u8],
        _from: SocketAddr,
        _transmit: Transmit<'_>,
    ) -> Result<Claim, DropCause> {
        Ok(Claim {
            user: 0,
            opens: true,
        })
    }
}

impl Tunnel for Restless {
    fn initiate(&mut self, _: Instant, _: &mut [u8], _: Transmit<'_>) {}

    fn is_established(&self) -> bool {
        true
    }

    fn send(&mut self, _: IpPacket<'_>, _: Instant, _: &mut [u8], _: Transmit<'_>) {}

    fn tick(&mut self, now: Instant, _: &mut [u8], transmit: Transmit<'_>) {
        transmit(b"tick");
        self.0 = Some(now + Duration::from_secs(5));
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        _now: Instant,
        _scratch: &'s mut [u8],
        transmit: Transmit<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause> {
        if datagram != b"authentic" {
            return Err(DropCause::NotAuthentic);
        }
        transmit(b"answer");
        Ok(None)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut [u8], _: Transmit<'_>) {}
}

/// What time demands is sent to the peer, whosever datagram made the time be noticed.
#[test]
fn a_forged_datagram_draws_nothing_and_leaves_the_timers_right() {
    let mut server = Side::new(Gateway::new(Rc::new(Nervous)));
    let (peer, forger) = (outer(1), outer(66));
    let answer = (peer, b"answer".to_vec());
    assert_eq!(server.receive(peer, b"authentic").1, [answer]);
    assert_eq!(server.endpoint.deadline(), None);
    assert_eq!(
        server.receive(forger, b"forged").1,
        [(peer, b"tick".to_vec())]
    );
    let due = server.now + Duration::from_secs(5);
    assert_eq!(server.endpoint.deadline(), Some(due));
}

#[test]
fn a_packet_that_goes_nowhere_makes_no_peer() {
    let mut server = Side::new(Gateway::new(Rc::new(Clear)));
    let mut client = Side::user(&Clear, 1);
    let mut sent = Vec::new();
    let forged = udp_packet(user_address(2), SERVER, b"REGISTER");
    client.endpoint.tunnel_mut().send(
        IpPacket::new(&mut with_room(&forged), forged.len()),
        client.now,
        &mut client.scratch,
        &mut |bytes| {
            sent = bytes.to_vec();
        },
    );
    assert_eq!(server.receive(outer(1), &sent), (None, vec![]));
    assert_eq!(server.endpoint.drops().misrouted, 1);
    assert_eq!(server.endpoint.peers(), 0);
}

#[test]
fn an_unanswered_initiation_has_a_deadline() {
    let protection = Wireguard::new(keys(), &TunnelOptions::default());
    let mut client = Side::user(&protection, 0);
    assert_eq!(client.initiate().len(), 1);
    let wait = client.endpoint.deadline().unwrap() - client.now;
    assert_eq!(wait.as_secs(), 5);
}
