//! What must not stay, come twice or go astray, whatever peers send.

use super::*;

const ELSEWHERE: &str = "sip:bob@elsewhere.test";

/// A proxy that sends everything to the next one, which is nobody's server.
fn relay(transport: &'static str) -> World {
    World::new(vec![proxy(transport, PROXY, Some(NEXT))])
}

/// Alice's ACK of what answered her INVITE.
fn ack_of(response: &str, uri: &str) -> String {
    let to = values(response, "To")[0];
    request(
        "ACK",
        uri,
        &format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\nTo: {to}\r\nCSeq: 1 ACK\r\n"),
    )
}

#[test]
fn nothing_stays_of_a_request_that_nobody_answers() {
    for transport in ["UDP", "TCP"] {
        for method in ["OPTIONS", "MESSAGE", "FOO", "INVITE"] {
            let mut world = relay(transport);
            world.send(ALICE, PROXY, &request(method, ELSEWHERE, ""));
            world.run(120);
            let server = &world.servers[0].1;
            let remains = (server.forwards(), server.transactions());
            assert_eq!(remains, (0, 0), "{transport} {method}");
        }
    }
}

#[test]
fn a_response_that_could_be_brought_to_nobody_changes_nothing() {
    for status in [200, 486] {
        let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
        let invite = ringing(&mut world);
        let good = answer(&invite, status);
        let callers = format!("Via: {}\r\n", values(&good, "Via")[1]);
        world.send(BOB, PROXY, &good.replace(&callers, ""));
        world.run(5);
        assert!(world.mail(ALICE).is_empty());
        assert_eq!(world.servers[0].1.counters().stray_responses, 1);
        world.send(BOB, PROXY, &good);
        world.run(6);
        assert!(world.mail(ALICE)[0].starts_with(&format!("SIP/2.0 {status} ")));
        world.run(80);
        let server = &world.servers[0].1;
        assert_eq!((server.forwards(), server.transactions()), (0, 0));
    }
}

#[test]
fn a_cancelled_call_is_refused_once() {
    let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
    let invite = ringing(&mut world);
    let via = format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\n");
    world.send(ALICE, PROXY, &request("CANCEL", CALL, &via));
    world.run(5);
    let cancel = world.mail(BOB).remove(0);
    world.send(BOB, PROXY, &answer(&cancel, 200));
    world.send(BOB, PROXY, &answer(&invite, 487));
    world.run(5);
    world.run(6);
    let refusal = world.mail(ALICE).pop().unwrap();
    assert!(refusal.starts_with("SIP/2.0 487 "), "{refusal}");
    world.send(ALICE, PROXY, &ack_of(&refusal, CALL));
    world.run(7);
    world.inbox.clear();
    world.run(100);
    assert!(world.mail(ALICE).is_empty());
    let server = &world.servers[0].1;
    assert_eq!((server.forwards(), server.transactions()), (0, 0));
}

#[test]
fn the_ack_of_a_refusal_goes_no_further_however_often_it_comes() {
    let mut world = relay("UDP");
    world.send(ALICE, PROXY, &request("INVITE", ELSEWHERE, ""));
    // One for an INVITE that is still being forwarded is of nothing.
    let early = format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\nCSeq: 1 ACK\r\n");
    world.send(ALICE, PROXY, &request("ACK", ELSEWHERE, &early));
    world.run(1);
    let invite = world.mail(NEXT).remove(0);
    world.send(NEXT, PROXY, &answer(&invite, 486));
    world.run(2);
    let refusal = world.mail(ALICE).pop().unwrap();
    assert!(refusal.starts_with("SIP/2.0 486 "), "{refusal}");
    for _ in 0..3 {
        world.send(ALICE, PROXY, &ack_of(&refusal, ELSEWHERE));
    }
    world.run(3);
    let got = world.mail(NEXT);
    assert_eq!(start_lines(&got), [format!("ACK {ELSEWHERE} SIP/2.0")]);
    // Only the INVITE was forwarded: that ACK is the proxy's own.
    assert_eq!(world.servers[0].1.counters().forwarded, 1);
}

#[test]
fn the_ack_of_a_refusal_without_transaction_ends_here() {
    for (max_forwards, status) in [("70", "503"), ("x", "400")] {
        let mut config = proxy("UDP", PROXY, Some(NEXT));
        config.transactions_max = 0;
        let mut world = World::new(vec![config]);
        let headers = format!("Max-Forwards: {max_forwards}\r\n");
        world.send(ALICE, PROXY, &request("INVITE", ELSEWHERE, &headers));
        world.run(1);
        let refusal = world.mail(ALICE).pop().unwrap();
        assert!(
            refusal.starts_with(&format!("SIP/2.0 {status} ")),
            "{refusal}"
        );
        world.send(ALICE, PROXY, &ack_of(&refusal, ELSEWHERE));
        world.run(2);
        assert!(world.mail(NEXT).is_empty(), "{status}");
    }
}

#[test]
fn a_to_tag_alone_proves_nothing() {
    let mut config = proxy("UDP", PROXY, None);
    config.authenticate_calls = true;
    let mut world = World::new(vec![config]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    let to = "To: <sip:u00000002@hopbench.test>;tag=any\r\n";
    for (branch, route) in [(3, ""), (4, "Route: <sip:192.0.2.1:5060;lr>\r\n")] {
        let via = format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bK{branch}\r\n");
        world.send(
            ALICE,
            PROXY,
            &request("INVITE", CALL, &format!("{via}{to}{route}")),
        );
        world.run(branch);
        assert!(world.mail(BOB).is_empty(), "{route}");
        let answers = world.mail(ALICE);
        assert!(answers[0].starts_with("SIP/2.0 407 "), "{answers:?}");
    }
}

#[test]
fn every_extension_that_is_not_known_is_named() {
    let mut world = relay("TCP");
    let lines = "Proxy-Require: foo\r\nProxy-Require: bar\r\n";
    world.send(ALICE, PROXY, &request("MESSAGE", ELSEWHERE, lines));
    world.run(1);
    let refusal = world.mail(ALICE).pop().unwrap();
    assert!(refusal.starts_with("SIP/2.0 420 "), "{refusal}");
    assert_eq!(values(&refusal, "Unsupported"), ["foo", "bar"]);
}

#[test]
fn a_route_that_asks_for_protection_gets_it() {
    let mut config = proxy("TCP", PROXY, Some(NEXT));
    config.interfaces.push(Interface {
        is_protected: true,
        ..interface("TLS", "192.0.2.1:5061")
    });
    let mut world = World::new(vec![config]);
    let route = "Route: <sips:elsewhere.test;lr>\r\n";
    world.send(ALICE, PROXY, &request("INVITE", ELSEWHERE, route));
    world.run(1);
    assert!(world.mail(NEXT).is_empty());
    assert!(world.mail(ALICE)[0].starts_with("SIP/2.0 480 "));
}
