//! What a proxy refuses, ignores or cannot reach.

use super::*;

#[test]
fn what_must_not_be_forwarded_is_refused() {
    let table = [
        ("INVITE", "sip:nobody@hopbench.test", "", "404 Not Found"),
        ("INVITE", CALL, "", "480 Temporarily Unavailable"),
        ("INVITE", "sip:bob@elsewhere.test", "", "404 Not Found"),
        ("MESSAGE", "sip:bob@elsewhere.test", "", "404 Not Found"),
        ("INVITE", "tel:+1", "", "416 Unsupported URI Scheme"),
        (
            "INVITE",
            "sips:u00000002@hopbench.test",
            "",
            "416 Unsupported URI Scheme",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Max-Forwards: 0\r\n",
            "483 Too Many Hops",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Proxy-Require: foo\r\n",
            "420 Bad Extension",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Route: nonsense\r\n",
            "400 Bad Request",
        ),
        ("CANCEL", CALL, "", "481 Call/Transaction Does Not Exist"),
        ("OPTIONS", "sip:hopbench.test", "", "200 OK"),
        (
            "OPTIONS",
            "sip:hopbench.test",
            "Max-Forwards: 0\r\n",
            "483 Too Many Hops",
        ),
    ];
    for (method, uri, headers, status) in table {
        let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
        world.send(ALICE, PROXY, &request(method, uri, headers));
        world.run(1);
        let answers = world.mail(ALICE);
        assert_eq!(
            start_lines(&answers),
            [format!("SIP/2.0 {status}")],
            "{method} {uri} {headers}"
        );
        assert!(world.inbox.is_empty());
        if method == "INVITE" {
            // The ACK of a refusal ends where the refusal came from.
            world.send(
                ALICE,
                PROXY,
                &request(
                    "ACK",
                    uri,
                    &format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\n"),
                ),
            );
            world.run(2);
            assert!(world.inbox.is_empty(), "{uri}");
            assert_eq!(world.servers[0].1.counters().forwarded, 0);
        }
    }
}

#[test]
fn a_loop_is_seen_the_first_time_round() {
    // Each sends everything to the other.
    let mut world = World::new(vec![
        proxy("UDP", PROXY, Some(NEXT)),
        proxy("UDP", NEXT, Some(PROXY)),
    ]);
    world.send(ALICE, PROXY, &request("OPTIONS", "sip:elsewhere.test", ""));
    world.run(1);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 482 Loop Detected"]
    );
    let forwarded = world
        .servers
        .iter()
        .map(|(_, server)| server.counters().forwarded);
    assert_eq!(forwarded.collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn responses_that_nobody_waits_for_go_nowhere() {
    let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
    let invite = ringing(&mut world);
    let good = answer(&invite, 200);
    let branch = values(&invite, "Via")[0].split("branch=").nth(1).unwrap();
    let (slot, nonce) = (&branch[7..15], &branch[15..31]);
    let forgeries = [
        good.replace(nonce, "0123456789abcdef"),
        good.replace(slot, "00000001"),
        good.replace(&branch[31..39], "00000000"),
        good.replace("1 INVITE", "1 OPTIONS"),
        good.replace(branch, "z9hG4bKforeign"),
    ];
    for forgery in &forgeries {
        assert_ne!(forgery, &good);
        world.send(BOB, PROXY, forgery);
    }
    world.run(5);
    assert!(world.mail(ALICE).is_empty());
    let counters = *world.servers[0].1.counters();
    assert_eq!(counters.stray_responses, forgeries.len() as u64);
    // Nothing else was disturbed.
    world.send(BOB, PROXY, &good);
    world.run(6);
    assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_next_hop_that_is_not_there_is_500_and_a_lost_flow_is_told() {
    let mut world = World::new(vec![proxy("TCP", PROXY, Some(NEXT))]);
    world.dead.insert(address(NEXT));
    world.send(
        ALICE,
        PROXY,
        &request("INVITE", "sip:bob@elsewhere.test", ""),
    );
    world.run(1);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 500 Server Internal Error"]
    );
    let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.dead.insert(address(BOB));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(3);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 480 Temporarily Unavailable"]
    );
    assert_eq!(world.servers[0].1.counters().unreachable, 1);
}

#[test]
fn callers_prove_who_they_are() {
    let mut config = proxy("UDP", PROXY, None);
    config.authenticate_calls = true;
    let mut world = World::new(vec![config]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(3);
    let challenges = world.mail(ALICE);
    assert!(challenges[0].starts_with("SIP/2.0 407 "), "{challenges:?}");
    assert!(world.mail(BOB).is_empty());
    let message = Message::parse(challenges[0].as_bytes()).unwrap();
    let challenge = digest::Challenge::choose(&message, Header::ProxyAuthenticate).unwrap();
    let with = |password: &str| {
        let mut line = b"Proxy-Authorization: ".to_vec();
        let identity = digest::Identity {
            username: "u00000001",
            password,
            method: "INVITE",
            uri: CALL,
        };
        identity.write_credentials(&mut emit::Value::new(&mut line), &challenge, 1, "c");
        let line = String::from_utf8(line).unwrap();
        request(
            "INVITE",
            CALL,
            &format!(
                "{line}\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{}\r\nCSeq: 2 INVITE\r\n",
                password.len()
            ),
        )
    };
    world.send(ALICE, PROXY, &with("wrong"));
    world.run(4);
    assert!(world.mail(BOB).is_empty());
    world.send(ALICE, PROXY, &with(&accounts().password(1)));
    world.run(5);
    assert!(world.mail(BOB)[0].starts_with("INVITE "));
}

#[test]
fn sips_never_leaves_unprotected() {
    // The proxy's interfaces towards Bob: protected or not; what Bob registered; what Alice calls.
    let plain = "sip:u00000002@hopbench.test";
    let secure = "sips:u00000002@hopbench.test";
    for (is_protected, contact, called, outcome) in [
        (true, "sips:b@x", secure, "INVITE sips:b@x SIP/2.0"),
        (true, "sip:b@x", secure, "480 380"),
        (true, "sips:b@x", plain, "INVITE sip:b@x SIP/2.0"),
        (false, "sips:b@x", plain, "480 381"),
        (false, "sip:b@x", secure, "480 380"),
        (false, "sips:b@x", secure, "480 380"),
    ] {
        let mut config = proxy("TCP", PROXY, None);
        config.interfaces[0].is_protected = is_protected;
        config.interfaces.push(Interface {
            is_protected: true,
            ..interface("TLS", "192.0.2.1:5061")
        });
        let mut world = World::new(vec![config]);
        world.register_bob_at(PROXY, &format!("<{contact}>"), 0);
        world.send(ALICE, PROXY, &request("INVITE", called, ""));
        world.run(5);
        let place = format!("{is_protected} {contact} {called}");
        match outcome.strip_prefix("480 ") {
            Some(code) => {
                let refusal = world.mail(ALICE).pop().unwrap();
                assert!(refusal.starts_with("SIP/2.0 480 "), "{place}: {refusal}");
                let warning = values(&refusal, "Warning")[0].to_owned();
                assert!(warning.starts_with(code), "{place}: {warning}");
                assert!(world.mail(BOB).is_empty(), "{place}");
            }
            None => assert_eq!(start_lines(&world.mail(BOB)), [outcome], "{place}"),
        }
    }
}

#[test]
fn a_proved_peer_is_reached_over_the_connection_that_it_opened() {
    struct Aliases(Vec<(NextHop, Leg)>);
    impl Outbound<Leg> for Aliases {
        fn send(&mut self, _: &Leg, _: &[u8]) -> bool {
            true
        }
        fn peer_of(&self, leg: &Leg) -> SocketAddr {
            leg.peer
        }
        fn alias(&mut self, address: NextHop, leg: &Leg) {
            self.0.push((address, *leg));
        }
    }
    for (is_mutual, via, expected) in [
        (true, "192.0.2.2:5061;alias", true),
        (true, "192.0.2.2:5061", false),
        (false, "192.0.2.2:5061;alias", false),
        // Nobody takes over the traffic of another address.
        (true, "192.0.2.9:5061;alias", false),
        (true, "peer.test;alias", false),
    ] {
        let mut config = proxy("TLS", PROXY, None);
        config.interfaces[0].is_mutual = is_mutual;
        let now = Instant::now();
        let mut server = Server::new(config, [7; 32], now);
        let via = format!("Via: SIP/2.0/TLS {via};branch=z9hG4bKx\r\n");
        let text = request("OPTIONS", "sip:hopbench.test", &via);
        let peer = address("192.0.2.2:40000");
        let leg = Leg {
            own: address(PROXY),
            peer,
        };
        let source = Source {
            flow: &leg,
            peer,
            interface: 0,
        };
        let mut out = Aliases(Vec::new());
        server.receive(now, source, text.as_bytes(), &mut out);
        let hop = NextHop {
            interface: 0,
            address: address("192.0.2.2:5061"),
        };
        let expected: &[(NextHop, Leg)] = if expected { &[(hop, leg)] } else { &[] };
        assert_eq!(out.0, expected, "{is_mutual} {via}");
    }
}
