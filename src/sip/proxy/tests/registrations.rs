//! Calls to who registered: by the path of the registration, and to several contacts.

use super::*;

/// An edge proxy and the registrar behind it, which is a proxy as well.
fn edge_and_registrar() -> World {
    World::new(vec![
        proxy("UDP", NEXT, Some(PROXY)),
        proxy("UDP", PROXY, None),
    ])
}

#[test]
fn calls_come_back_by_the_path_that_the_registration_took() {
    let mut world = edge_and_registrar();
    // Bob registers through the edge proxy.
    world.register_bob_at(
        NEXT,
        "<sip:bob.invalid>;reg-id=1;+sip.instance=\"<urn:uuid:b>\"",
        0,
    );
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(5);
    let invite = world.mail(BOB).pop().unwrap();
    assert!(
        invite.starts_with("INVITE sip:bob.invalid SIP/2.0\r\n"),
        "{invite}"
    );
    assert!(values(&invite, "Route").is_empty(), "{invite}");
    assert_eq!(values(&invite, "Via").len(), 3);
    // Alice's flow and the hop between the proxies; that hop and Bob's flow.
    assert_eq!(values(&invite, "Record-Route").len(), 4);
    world.send(BOB, NEXT, &answer(&invite, 200));
    world.run(6);
    assert!(
        world
            .mail(ALICE)
            .iter()
            .any(|text| text.starts_with("SIP/2.0 200 "))
    );
    // Without the flow that the token names, nobody else gets the call (RFC 5626 §5.3.1).
    world.dead.insert(address(BOB));
    let again = request("INVITE", CALL, "Call-ID: again\r\n");
    world.send(ALICE, PROXY, &again.replace("z9hG4bKa", "z9hG4bKagain"));
    world.run(7);
    let last = world.mail(ALICE).pop().unwrap();
    assert!(last.starts_with("SIP/2.0 430 Flow Failed"), "{last}");
}

#[test]
fn targets_are_tried_in_turn_and_the_best_refusal_is_told() {
    const DESK: &str = "192.0.2.103:4003";
    for (first, second, told) in [
        (486, 200, "SIP/2.0 200 "),
        (486, 404, "SIP/2.0 486 "),
        (503, 486, "SIP/2.0 486 "),
        (503, 503, "SIP/2.0 500 "),
        (603, 0, "SIP/2.0 603 "),
    ] {
        let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
        world.register_bob_at(PROXY, &format!("<sip:u00000002@{BOB}>;q=0.9"), 0);
        world.register_bob_from(DESK, PROXY, &format!("<sip:u00000002@{DESK}>;q=0.5"), 2);
        world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
        world.run(5);
        let invite = world.mail(BOB).pop().unwrap();
        assert!(world.mail(DESK).is_empty());
        world.send(BOB, PROXY, &answer(&invite, first));
        world.run(6);
        let ack = world.mail(BOB).pop().unwrap();
        assert!(ack.starts_with("ACK "), "{ack}");
        let desk = world.mail(DESK);
        assert_eq!(desk.len(), usize::from(second > 0), "{first}");
        if let Some(invite) = desk.first() {
            world.send(DESK, PROXY, &answer(invite, second));
        }
        world.run(7);
        let last = world.mail(ALICE).pop().unwrap();
        assert!(last.starts_with(told), "{first} {second}: {last}");
    }
}
