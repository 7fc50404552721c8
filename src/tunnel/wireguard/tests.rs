//! Two ends that mean well: handshakes that cross or repeat, reordered packets, padding, keep-alives,
//! admission, and the time that all of it takes.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::tunnel::packet::with_room;
use crate::tunnel::sides::{Datagrams, Side, USERS, answer, keys, outer, request, server_address};
use crate::tunnel::{
    Drops, Endpoint, Gateway, IP_UDP_HEADER_BYTES, Initiator, IpPacket, SCRATCH_BYTES, Tunnel,
};

type Server = Side<Gateway<Wireguard>>;
type User = Side<Initiator<Wireguard>>;

/// A server, and its user 0 without a tunnel yet.
fn sides(options: &TunnelOptions) -> (Server, User) {
    let protection = Rc::new(Wireguard::new(keys(), options));
    (Side::server(&protection), Side::user(&*protection, 0))
}

fn established() -> (Server, User) {
    let (mut server, mut user) = sides(&TunnelOptions::default());
    user.establish(&mut server, outer(1));
    (server, user)
}

impl User {
    fn retry(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        self.endpoint
            .tunnel_mut()
            .retry(&mut self.scratch, &mut |bytes| sent = bytes.to_vec());
        sent
    }
}

fn one(datagrams: Datagrams) -> Vec<u8> {
    assert_eq!(datagrams.len(), 1);
    datagrams.into_iter().next().unwrap().1
}

/// A packet each way arrives.
fn assert_both_hear(server: &mut Server, user: &mut User) {
    let datagram = one(user.send(&request(0, b"INVITE")).unwrap());
    let heard = server.receive(outer(1), &datagram).0;
    assert_eq!(heard, Some(request(0, b"INVITE")));
    let datagram = one(server.send(&answer(0, b"200")).unwrap());
    let heard = user.receive(server_address(), &datagram).0;
    assert_eq!(heard, Some(answer(0, b"200")));
}

#[test]
fn over_the_limit_a_user_shows_a_cookie_and_is_admitted_where_it_got_it() {
    let (mut server, mut user) = sides(&TunnelOptions {
        handshakes_per_second_limit: Some(0),
        ..TunnelOptions::default()
    });
    let initiation = one(user.initiate());
    let (_, sent) = server.receive(outer(1), &initiation);
    assert_eq!(sent[0].0, outer(1));
    let cookie_reply = one(sent);
    assert_eq!(cookie_reply.len(), COOKIE_REPLY_BYTES);
    assert_eq!(
        user.receive(server_address(), &cookie_reply),
        (None, vec![])
    );
    let wait = user.endpoint.deadline().unwrap() - user.now;
    assert_eq!(wait.as_secs(), 5, "the retry keeps its time");

    let initiation = user.retry();
    let elsewhere = SocketAddr::from(([198, 51, 100, 1], 1));
    let (_, sent) = server.receive(elsewhere, &initiation);
    assert_eq!(one(sent).len(), COOKIE_REPLY_BYTES);
    assert_eq!(server.endpoint.peers(), 0);
    let (_, sent) = server.receive(outer(1), &initiation);
    let (_, sent) = user.receive(server_address(), &one(sent));
    assert_eq!(server.receive(outer(1), &one(sent)), (None, vec![]));
    assert_both_hear(&mut server, &mut user);
    let expected = Drops {
        rate_limited: 2,
        ..Drops::default()
    };
    assert_eq!(server.endpoint.drops(), expected);
    assert_eq!(user.endpoint.drops(), Drops::default());
}

#[test]
fn as_many_initiations_as_the_limit_says_need_no_cookie() {
    let (mut server, mut user) = sides(&TunnelOptions {
        handshakes_per_second_limit: Some(2),
        ..TunnelOptions::default()
    });
    let _ = user.initiate();
    let answers = (0..40).map(|_| one(server.receive(outer(1), &user.retry()).1).len());
    let answers: Vec<usize> = answers.collect();
    const RESPONSE_BYTES: usize = 92;
    assert_eq!(answers[..2], [RESPONSE_BYTES; 2]);
    assert!(answers.contains(&COOKIE_REPLY_BYTES), "{answers:?}");
    let cookies = answers
        .iter()
        .filter(|&&bytes| bytes == COOKIE_REPLY_BYTES)
        .count();
    assert_eq!(server.endpoint.drops().rate_limited, cookies as u64);
}

#[test]
fn the_options_that_protection_depends_on_are_told() {
    let told = |options: TunnelOptions, name| {
        let security = Wireguard::security(&options);
        security
            .into_iter()
            .find(|&(key, _)| key == name)
            .unwrap()
            .1
    };
    let limited = TunnelOptions {
        handshakes_per_second_limit: Some(50),
        keep_alive_seconds: Some(25),
        ..TunnelOptions::default()
    };
    let cases = [
        ("handshake_rate_limit", "none", "50"),
        ("keep_alive_seconds", "none", "25"),
        ("padding", "16", "16"),
        ("mtu_bytes", "1420", "1420"),
    ];
    for (name, by_default, varied) in cases {
        assert_eq!(told(TunnelOptions::default(), name), by_default);
        assert_eq!(told(limited, name), varied);
    }
}

#[test]
fn packets_are_padded_on_the_wire_and_cut_to_length_again() {
    let protection = Wireguard::new(keys(), &TunnelOptions::default());
    let (mut server, mut user) = sides(&TunnelOptions::default());
    let queued = request(0, &[b'q'; 33]);
    let initiation = one(user.send(&queued).unwrap());
    let (_, response) = server.receive(outer(1), &initiation);
    let (_, sent) = user.receive(server_address(), &one(response));
    let [(_, keep_alive), (_, after)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(keep_alive.len(), Wireguard::OVERHEAD_BYTES);
    assert_eq!(after.len(), 64 + Wireguard::OVERHEAD_BYTES);
    assert_eq!(server.receive(outer(1), keep_alive), (None, vec![]));
    assert_eq!(server.receive(outer(1), after).0, Some(queued));

    let cases = [
        (28, 32),
        (32, 32),
        (33, 48),
        (1_408, 1_408),
        (1_409, 1_420),
        (1_421, 1_421),
    ];
    for (packet_bytes, padded_bytes) in cases {
        let packet = request(0, &vec![b'x'; packet_bytes - IP_UDP_HEADER_BYTES]);
        assert_eq!(packet.len(), packet_bytes);
        let datagram = one(user.send(&packet).unwrap());
        assert_eq!(datagram.len(), padded_bytes + Wireguard::OVERHEAD_BYTES);
        assert_eq!(datagram.len(), protection.datagram_bytes(packet_bytes));
        assert_eq!(server.receive(outer(1), &datagram).0, Some(packet));
    }
}

/// What waits at a server is sent once the user's first packet confirms the association, even when
/// the keep-alive that should have done so is lost.
#[test]
fn the_first_packet_releases_what_the_responder_has_queued() {
    let now = Instant::now();
    let protection = Wireguard::new(keys(), &TunnelOptions::default());
    let (mut user, mut server) = (protection.initiator(0, now), protection.responder(0, now));
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut send = |tunnel: &mut WireguardTunnel, packet: &[u8]| {
        let mut sent = Vec::new();
        let mut roomy = with_room(packet);
        let packet = IpPacket::new(&mut roomy, packet.len());
        tunnel.send(packet, now, &mut scratch, &mut |bytes| {
            sent.push(bytes.to_vec())
        });
        sent
    };
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut receive = |tunnel: &mut WireguardTunnel, datagram: &[u8]| {
        let mut sent = Vec::new();
        let packet = tunnel
            .receive(datagram, now, &mut scratch, &mut |bytes| {
                sent.push(bytes.to_vec())
            })
            .unwrap()
            .map(<[u8]>::to_vec);
        (packet, sent)
    };
    // Both begin at once, and the server's initiation is lost.
    let _lost = send(&mut server, &answer(0, b"NOTIFY"));
    let initiation = send(&mut user, &request(0, b"REGISTER")).remove(0);
    let (_, responses) = receive(&mut server, &initiation);
    assert_eq!(responses.len(), 1, "no initiation beside the response");
    let (_, mut sent) = receive(&mut user, &responses[0]);
    let first_packet = sent.pop().unwrap();
    let (packet, released) = receive(&mut server, &first_packet);
    assert_eq!(packet, Some(request(0, b"REGISTER")));
    assert_eq!(
        receive(&mut user, &released[0]).0,
        Some(answer(0, b"NOTIFY"))
    );
}

#[test]
fn handshakes_that_cross_leave_both_ends_with_an_association() {
    let now = Instant::now();
    let protection = Wireguard::new(keys(), &TunnelOptions::default());
    let mut ends = [protection.initiator(0, now), protection.responder(0, now)];
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut flights = [Vec::new(), Vec::new()];
    for (end, flight) in ends.iter_mut().zip(&mut flights) {
        end.initiate(now, &mut scratch, &mut |bytes| flight.push(bytes.to_vec()));
    }
    while flights.iter().any(|flight| !flight.is_empty()) {
        let arriving = std::mem::take(&mut flights);
        for (sender, flight) in arriving.into_iter().enumerate() {
            let receiver = 1 - sender;
            for datagram in flight {
                ends[receiver]
                    .receive(&datagram, now, &mut scratch, &mut |bytes| {
                        flights[receiver].push(bytes.to_vec());
                    })
                    .unwrap();
            }
        }
    }
    let packets = [request(0, b"INVITE"), answer(0, b"200")];
    for (sender, packet) in packets.iter().enumerate() {
        assert!(ends[sender].is_established());
        let mut datagram = Vec::new();
        let outgoing = &mut with_room(packet);
        let outgoing = IpPacket::new(outgoing, packet.len());
        ends[sender].send(outgoing, now, &mut scratch, &mut |bytes| {
            datagram = bytes.to_vec()
        });
        let arrived = ends[1 - sender].receive(&datagram, now, &mut scratch, &mut |_| {});
        assert_eq!(arrived, Ok(Some(&packet[..])));
    }
}

/// Packets of the old association arrive after the new one was made, and are taken; those of one
/// that is gone are not.
#[test]
fn new_keys_come_while_packets_are_in_flight() {
    let (mut server, mut user) = established();
    let first = one(user.send(&request(0, b"first")).unwrap());
    for round in 0..4_u8 {
        let requests: Datagrams = (0..3)
            .flat_map(|n| user.send(&request(0, &[round, n])).unwrap())
            .collect();
        let answers: Datagrams = (0..3)
            .flat_map(|n| server.send(&answer(0, &[round, n])).unwrap())
            .collect();
        user.establish(&mut server, outer(1));
        assert_both_hear(&mut server, &mut user);
        for (n, (_, datagram)) in requests.iter().enumerate().rev() {
            let heard = server.receive(outer(1), datagram).0;
            assert_eq!(heard, Some(request(0, &[round, n as u8])));
        }
        for (n, (_, datagram)) in answers.iter().enumerate().rev() {
            let heard = user.receive(server_address(), datagram).0;
            assert_eq!(heard, Some(answer(0, &[round, n as u8])));
        }
        assert_both_hear(&mut server, &mut user);
    }
    assert_eq!(server.endpoint.drops(), Drops::default());
    for _ in 0..4 {
        user.establish(&mut server, outer(1));
    }
    assert_eq!(server.receive(outer(1), &first), (None, vec![]));
    assert_eq!(server.endpoint.drops().unknown_peer, 1);
    assert_both_hear(&mut server, &mut user);
    assert_eq!(server.endpoint.peers(), 1);
}

#[test]
fn within_the_window_any_order_is_taken_once() {
    const SENT: usize = 1_100;
    const WINDOW: usize = 1_024;
    let (mut server, mut user) = established();
    let packet = request(0, b"REGISTER");
    let sent: Vec<_> = (0..SENT)
        .map(|_| one(user.send(&packet).unwrap()))
        .collect();
    let mut receive_backwards = || {
        let taken = sent.iter().rev().map(|datagram| {
            let (packet, answers) = server.receive(outer(1), datagram);
            assert_eq!(answers, vec![]);
            packet.is_some()
        });
        taken.collect::<Vec<_>>()
    };
    let taken = receive_backwards();
    assert!(taken[..WINDOW].iter().all(|&taken| taken));
    assert!(!taken[WINDOW..].iter().any(|&taken| taken));
    assert!(!receive_backwards().iter().any(|&taken| taken));
    let expected = Drops {
        replayed: (2 * SENT - WINDOW) as u64,
        ..Drops::default()
    };
    assert_eq!(server.endpoint.drops(), expected);
    assert_both_hear(&mut server, &mut user);
}

/// boringtun has a clock of its own, so that this takes the second that it is about.
#[test]
fn an_idle_user_that_keeps_alive_sends_an_empty_packet() {
    let (mut server, mut user) = sides(&TunnelOptions {
        keep_alive_seconds: Some(1),
        ..TunnelOptions::default()
    });
    assert_eq!(user.endpoint.deadline(), None);
    user.establish(&mut server, outer(1));
    let due = user.endpoint.deadline().unwrap();
    assert_eq!((due - user.now).as_secs(), 1);
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
    user.now = due;
    let keep_alive = one(user.handle_timeout());
    assert_eq!(keep_alive.len(), Wireguard::OVERHEAD_BYTES);
    assert_eq!(server.receive(outer(1), &keep_alive), (None, vec![]));
    assert_eq!(server.endpoint.drops(), Drops::default());
    assert_eq!((user.endpoint.deadline().unwrap() - user.now).as_secs(), 1);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait { milliseconds: u64 },
    UserInitiates,
    UserSends,
    ServerSends,
    Lose,
    Deliver,
    Forge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u64..700_000).prop_map(|milliseconds| Step::Wait { milliseconds }),
        1 => Just(Step::UserInitiates),
        2 => Just(Step::UserSends),
        2 => Just(Step::ServerSends),
        1 => Just(Step::Lose),
        4 => Just(Step::Deliver),
        1 => Just(Step::Forge),
    ]
}

/// What was due is done at once, whatever happened before: no deadline stays in the past, where it
/// would wake its owner for ever.
fn assert_time_is_served<E: Endpoint>(side: &mut Side<E>, now: Instant) -> Datagrams {
    side.now = now;
    let sent = side.handle_timeout();
    assert!(
        side.endpoint
            .deadline()
            .is_none_or(|deadline| deadline > now)
    );
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_deadline_stays_in_the_past(
        steps in proptest::collection::vec(step(), 1..40),
        keep_alive_seconds in proptest::option::of(1_u16..60),
    ) {
        let options = TunnelOptions { keep_alive_seconds, ..TunnelOptions::default() };
        let (mut server, mut user) = sides(&options);
        let (mut to_server, mut to_user) = (Datagrams::new(), Datagrams::new());
        let mut now = user.now;
        for step in steps {
            match step {
                Step::Wait { milliseconds } => now += Duration::from_millis(milliseconds),
                Step::UserInitiates => to_server.extend(user.initiate()),
                Step::UserSends => to_server.extend(user.send(&request(0, b"")).unwrap()),
                Step::ServerSends => to_user.extend(server.send(&answer(0, b"")).unwrap_or_default()),
                Step::Lose => to_server.clear(),
                Step::Deliver => {
                    for (_, datagram) in std::mem::take(&mut to_server) {
                        to_user.extend(server.receive(outer(1), &datagram).1);
                    }
                    for (_, datagram) in std::mem::take(&mut to_user) {
                        to_server.extend(user.receive(server_address(), &datagram).1);
                    }
                }
                Step::Forge => {
                    let mut forged = [0; 32];
                    forged[0] = 4;
                    server.receive(outer(66), &forged);
                    user.receive(outer(66), &forged);
                }
            }
            to_server.extend(assert_time_is_served(&mut user, now));
            to_user.extend(assert_time_is_served(&mut server, now));
        }
        prop_assert!(server.endpoint.peers() <= USERS as usize);
    }
}
