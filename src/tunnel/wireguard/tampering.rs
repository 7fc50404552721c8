//! Datagrams that mean harm: whatever is done to one, it is dropped, counted by cause and not
//! answered, and the genuine ones behind it pass.

use std::rc::Rc;

use super::*;
use crate::tunnel::sides::{Datagrams, Side, USERS, answer, keys, outer, request, server_address};
use crate::tunnel::{Drops, Endpoint, Gateway, Initiator};

/// The second MAC closes both messages of a handshake. It covers what is before it, and is looked
/// at only where a cookie is asked for.
const MAC2_BYTES: usize = 16;

type Manipulation = fn(&mut Vec<u8>);

/// What is done to a packet of data, and what it counts as at either end.
const TO_DATA: &[(&str, Manipulation, DropCause)] = &[
    ("replayed", |_| {}, DropCause::Replayed),
    ("another type", |d| d[0] = 5, DropCause::Malformed),
    ("a reserved bit", |d| d[2] = 1, DropCause::Malformed),
    ("no tag", |d| d.truncate(31), DropCause::Malformed),
    ("nothing", Vec::clear, DropCause::Malformed),
    (
        "SIP",
        |d| *d = b"OPTIONS sip:hopbench.test SIP/2.0\r\n\r\n".to_vec(),
        DropCause::Malformed,
    ),
    ("another user's index", |d| d[5] = 1, DropCause::UnknownPeer),
    ("nobody's index", |d| d[7] = 0xff, DropCause::UnknownPeer),
    (
        "an association to come",
        |d| d[4] += 1,
        DropCause::NoAssociation,
    ),
    (
        "an association long gone",
        |d| d[4] += 8,
        DropCause::UnknownPeer,
    ),
    ("a new counter", |d| d[9] = 1, DropCause::NotAuthentic),
    (
        "the last counter",
        |d| d[8..16].fill(0xff),
        DropCause::NotAuthentic,
    ),
    (
        "tampered and new",
        |d| {
            d[9] = 2;
            d[20] ^= 1;
        },
        DropCause::NotAuthentic,
    ),
    (
        "shorter and new",
        |d| {
            d[9] = 3;
            d.pop();
        },
        DropCause::NotAuthentic,
    ),
    (
        "longer and new",
        |d| {
            d[9] = 4;
            d.push(0);
        },
        DropCause::NotAuthentic,
    ),
    (
        "an empty packet and new",
        |d| {
            d[9] = 5;
            d.truncate(32);
        },
        DropCause::NotAuthentic,
    ),
    (
        "a cookie reply",
        |d| {
            d[0] = 3;
            d.resize(COOKIE_REPLY_BYTES, 0);
        },
        DropCause::NotAuthentic,
    ),
];

type Server = Side<Gateway<Wireguard>>;
type User = Side<Initiator<Wireguard>>;

fn sides(handshakes_per_second_limit: Option<u32>) -> (Server, User) {
    let options = TunnelOptions {
        handshakes_per_second_limit,
        ..TunnelOptions::default()
    };
    let protection = Rc::new(Wireguard::new(keys(), &options));
    (Side::server(&protection), Side::user(&*protection, 0))
}

fn one(datagrams: Datagrams) -> Vec<u8> {
    assert_eq!(datagrams.len(), 1);
    datagrams.into_iter().next().unwrap().1
}

/// `side` drops `datagram` without an answer. Returns what it counted that as.
fn dropped<E: Endpoint>(side: &mut Side<E>, datagram: &[u8], name: &str) -> Drops {
    let before = side.endpoint.drops();
    assert_eq!(side.receive(outer(66), datagram), (None, vec![]), "{name}");
    let after = side.endpoint.drops();
    assert_eq!(after.total(), before.total() + 1, "{name}");
    after
}

/// Every byte of `genuine` before the last `unread_bytes` is altered, and it is cut at every length.
fn assert_no_part_can_change<E: Endpoint>(side: &mut Side<E>, genuine: &[u8], unread_bytes: usize) {
    for position in 0..genuine.len() - unread_bytes {
        let mut altered = genuine.to_vec();
        altered[position] ^= 0x5a;
        dropped(side, &altered, &format!("byte {position}"));
    }
    for bytes in 0..genuine.len() {
        dropped(side, &genuine[..bytes], &format!("{bytes} bytes"));
    }
}

#[test]
fn manipulated_packets_count_as_what_they_are_at_both_ends() {
    let (mut server, mut user) = sides(None);
    user.establish(&mut server, outer(1));
    let (asked, answered) = (request(0, b"INVITE"), answer(0, b"200"));
    let to_server = one(user.send(&asked).unwrap());
    assert_eq!(server.receive(outer(1), &to_server).0, Some(asked.clone()));
    let to_user = one(server.send(&answered).unwrap());
    assert_eq!(
        user.receive(server_address(), &to_user).0,
        Some(answered.clone())
    );

    let mut expected = Drops::default();
    for &(name, manipulate, cause) in TO_DATA {
        let manipulated = |datagram: &Vec<u8>| {
            let mut datagram = datagram.clone();
            manipulate(&mut datagram);
            datagram
        };
        expected.count(cause);
        assert_eq!(
            dropped(&mut server, &manipulated(&to_server), name),
            expected,
            "{name}"
        );
        assert_eq!(
            dropped(&mut user, &manipulated(&to_user), name),
            expected,
            "{name}"
        );
    }
    let to_user = server.send(&answered).unwrap();
    assert_eq!(to_user[0].0, outer(1), "forgers do not move the user");
    assert_eq!(
        user.receive(server_address(), &one(to_user)).0,
        Some(answered)
    );
    let to_server = one(user.send(&asked).unwrap());
    assert_eq!(server.receive(outer(1), &to_server).0, Some(asked));
}

#[test]
fn replayed_and_reflected_handshakes_count_as_what_they_are() {
    let (mut server, mut user) = sides(None);
    let initiation = one(user.initiate());
    let response = one(server.receive(outer(1), &initiation).1);
    let confirmation = one(user.receive(server_address(), &response).1);
    assert_eq!(server.receive(outer(1), &confirmation), (None, vec![]));

    let mut expected = Drops::default();
    let cases = [
        ("replayed initiation", &initiation, DropCause::Replayed),
        // Its MAC is made for whoever initiated.
        ("reflected response", &response, DropCause::NotAuthentic),
        ("replayed confirmation", &confirmation, DropCause::Replayed),
    ];
    for (name, datagram, cause) in cases {
        expected.count(cause);
        assert_eq!(dropped(&mut server, datagram, name), expected, "{name}");
    }
    let mut expected = Drops::default();
    // More often than boringtun's own limit for a peer, which would refuse a genuine one then.
    for _ in 0..20 {
        expected.count(DropCause::NoAssociation);
        assert_eq!(dropped(&mut user, &response, "replayed response"), expected);
    }
    expected.count(DropCause::NotAuthentic);
    assert_eq!(
        dropped(&mut user, &initiation, "reflected initiation"),
        expected
    );
    user.establish(&mut server, outer(1));
}

#[test]
fn who_has_no_key_gets_no_answer() {
    let known = Rc::new(Wireguard::new(keys(), &TunnelOptions::default()));
    let mut server = Side::server(&known);
    let mut other_keys = keys();
    other_keys.seed[0] ^= 1;
    let other = Wireguard::new(other_keys, &TunnelOptions::default());
    let cases = [
        (
            "a user who is not listed",
            Side::user(&*known, USERS),
            DropCause::UnknownPeer,
        ),
        // It takes another server for ours, so that its first MAC is for that one.
        (
            "a user of another server",
            Side::user(&other, 0),
            DropCause::NotAuthentic,
        ),
    ];
    let mut expected = Drops::default();
    for (name, mut stranger, cause) in cases {
        let initiation = one(stranger.initiate());
        for _ in 0..3 {
            expected.count(cause);
            assert_eq!(dropped(&mut server, &initiation, name), expected, "{name}");
        }
    }
    assert_eq!(server.endpoint.peers(), 0);
    assert_eq!(server.endpoint.deadline(), None);
}

/// The whole life of an association, each of its datagrams preceded by all its manipulations. The
/// server asks for cookies, so that all four types of messages occur.
#[test]
fn no_byte_of_any_message_can_be_altered_or_cut_off() {
    let (mut server, mut user) = sides(Some(0));
    let initiation = one(user.initiate());
    assert_no_part_can_change(&mut server, &initiation, MAC2_BYTES);
    let cookie_reply = one(server.receive(outer(1), &initiation).1);
    assert_no_part_can_change(&mut user, &cookie_reply, 0);
    assert_eq!(
        user.receive(server_address(), &cookie_reply),
        (None, vec![])
    );

    let mut initiation = Vec::new();
    let mut keep = |bytes: &[u8]| initiation = bytes.to_vec();
    user.endpoint
        .tunnel_mut()
        .retry(&mut user.scratch, &mut keep);
    assert_no_part_can_change(&mut server, &initiation, MAC2_BYTES);
    for position in initiation.len() - MAC2_BYTES..initiation.len() {
        let mut altered = initiation.clone();
        altered[position] ^= 0x5a;
        let (packet, sent) = server.receive(outer(1), &altered);
        assert_eq!(
            (packet, one(sent).len()),
            (None, COOKIE_REPLY_BYTES),
            "byte {position}"
        );
    }
    assert_eq!(server.endpoint.peers(), 0);
    let response = one(server.receive(outer(1), &initiation).1);
    assert_no_part_can_change(&mut user, &response, MAC2_BYTES);
    let confirmation = one(user.receive(server_address(), &response).1);
    assert_no_part_can_change(&mut server, &confirmation, 0);
    assert_eq!(server.receive(outer(1), &confirmation), (None, vec![]));

    let (asked, answered) = (request(0, b"INVITE"), answer(0, b"200"));
    let to_server = one(user.send(&asked).unwrap());
    assert_no_part_can_change(&mut server, &to_server, 0);
    assert_eq!(server.receive(outer(1), &to_server).0, Some(asked));
    let to_user = one(server.send(&answered).unwrap());
    assert_no_part_can_change(&mut user, &to_user, 0);
    assert_eq!(user.receive(server_address(), &to_user).0, Some(answered));
}
