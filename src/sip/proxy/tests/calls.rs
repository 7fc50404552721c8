//! What a proxy passes on, and until when: calls, their CANCEL, what nobody answers.

use super::*;
use crate::sip::agent::mix;
use crate::sip::stationery::Stationery;

#[test]
fn a_call_passes_with_what_a_proxy_changes_and_nothing_else() {
    for transport in ["UDP", "TCP"] {
        let mut world = World::new(vec![proxy(transport, PROXY, None)]);
        let invite = ringing(&mut world);
        assert!(invite.starts_with(&format!("INVITE sip:u00000002@{BOB} SIP/2.0\r\n")));
        let vias = values(&invite, "Via");
        assert!(vias[0].starts_with(&format!("SIP/2.0/{transport} {PROXY};branch=z9hG4bK")));
        assert_eq!(
            vias[1],
            format!("SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE")
        );
        assert_eq!(values(&invite, "Max-Forwards"), ["69"]);
        let routes: Vec<String> = values(&invite, "Record-Route")
            .into_iter()
            .map(Into::into)
            .collect();
        assert_eq!(routes.len(), 2, "one for each user agent's flow: {invite}");

        world.send(BOB, PROXY, &answer(&invite, 200));
        world.run(5);
        let answers = world.mail(ALICE);
        assert_eq!(start_lines(&answers), ["SIP/2.0 200 OK"]);
        assert_eq!(values(&answers[0], "Via"), [vias[1]]);
        assert_eq!(values(&answers[0], "Record-Route"), routes);

        // Alice's route set is the reverse of what was recorded, Bob's is not.
        let dialog = "To: <sip:u00000002@hopbench.test>;tag=b\r\n";
        let to_bob = format!("{dialog}Route: {}, {}\r\n", routes[1], routes[0]);
        let contact = format!("sip:u00000002@{BOB}");
        let ack = request("ACK", &contact, &format!("{to_bob}CSeq: 1 ACK\r\n"));
        world.send(ALICE, PROXY, &ack);
        world.run(6);
        let got = world.mail(BOB);
        assert_eq!(start_lines(&got), [format!("ACK {contact} SIP/2.0")]);
        assert!(values(&got[0], "Route").is_empty() && values(&got[0], "Record-Route").is_empty());
        assert_eq!(world.servers[0].1.counters().forwarded, 2);

        let bye = request(
            "BYE",
            &format!("sip:u00000001@{ALICE}"),
            &format!(
                "Via: SIP/2.0/UDP {BOB};branch=z9hG4bKbye\r\nFrom: <sip:u00000002@hopbench.test>;tag=b\r\n\
             To: <sip:u00000001@hopbench.test>;tag=a\r\nRoute: {}\r\nRoute: {}\r\n",
                routes[0], routes[1]
            ),
        );
        world.send(BOB, PROXY, &bye);
        world.run(7);
        let got = world.mail(ALICE);
        // Over UDP it may come again before the answer does.
        assert_eq!(
            start_lines(&got)[0],
            format!("BYE sip:u00000001@{ALICE} SIP/2.0")
        );
        world.send(ALICE, PROXY, &answer(&got[0], 200));
        world.run(8);
        assert_eq!(start_lines(&world.mail(BOB)), ["SIP/2.0 200 OK"]);

        // Nothing is remembered once the last timer has fired.
        world.run(60);
        let server = &world.servers[0].1;
        assert_eq!(server.forwards(), 0);
        assert_eq!(
            (server.counters().stray_responses, server.counters().ignored),
            (0, 0)
        );
    }
}

#[test]
fn a_long_request_leaves_over_a_stream_if_there_is_one() {
    for (pad, has_stream, sides) in [
        (600, true, "UDP"),
        (1_300, true, "TCP"),
        (1_300, false, "UDP"),
    ] {
        let mut config = proxy("UDP", PROXY, Some(NEXT));
        if has_stream {
            config.interfaces.push(interface("TCP", PROXY));
        }
        let mut world = World::new(vec![config]);
        let headers = format!("X: {}\r\n", "x".repeat(pad));
        world.send(
            ALICE,
            PROXY,
            &request("OPTIONS", "sip:elsewhere.test", &headers),
        );
        world.run(0);
        world.run(1);
        let got = world.mail(NEXT);
        let via = values(&got[0], "Via")[0];
        assert!(
            via.starts_with(&format!("SIP/2.0/{sides} ")),
            "{pad}: {via}"
        );
        let is_oversized = pad > 1_000 && !has_stream;
        assert_eq!(
            world.servers[0].1.counters().oversized,
            u64::from(is_oversized)
        );
    }
    // Where nobody takes it over a stream it goes as a datagram after all.
    let mut config = proxy("UDP", PROXY, Some(NEXT));
    config.interfaces.push(interface("TCP", "192.0.2.1:5070"));
    let mut world = World::new(vec![config]);
    world.streams_fail = true;
    let headers = format!("X: {}\r\n", "x".repeat(1_300));
    world.send(
        ALICE,
        PROXY,
        &request("OPTIONS", "sip:elsewhere.test", &headers),
    );
    world.run(1);
    let got = world.mail(NEXT);
    assert!(
        values(&got[0], "Via")[0].starts_with("SIP/2.0/UDP "),
        "{got:?}"
    );
}

#[test]
fn cancel_follows_the_invite_once_that_was_heard_of() {
    let cancel = request(
        "CANCEL",
        CALL,
        &format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\n"),
    );
    let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.send(ALICE, PROXY, &cancel);
    world.run(3);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    );
    // Bob has said nothing: no CANCEL yet (RFC 3261 §9.1), but the INVITE again.
    let invites = world.mail(BOB);
    assert!(invites.len() > 1 && invites.iter().all(|text| text.starts_with("INVITE ")));
    world.send(BOB, PROXY, &answer(&invites[0], 100));
    world.run(4);
    let got = world.mail(BOB);
    let first = got.iter().find(|text| text.starts_with("CANCEL ")).unwrap();
    assert_eq!(values(first, "Via"), values(&invites[0], "Via")[..1]);
    assert_eq!(values(first, "CSeq"), ["1 CANCEL"]);
    world.send(BOB, PROXY, &answer(first, 200));
    world.send(BOB, PROXY, &answer(&invites[0], 487));
    world.run(5);
    assert_eq!(
        start_lines(&world.mail(ALICE))[..1],
        ["SIP/2.0 487 Request Terminated"]
    );
    let acks = world.mail(BOB);
    assert!(acks.iter().any(|text| text.starts_with("ACK ")), "{acks:?}");
    let counters = world.servers[0].1.counters();
    assert_eq!((counters.calls_cancelled, counters.stray_responses), (1, 0));
}

#[test]
fn who_does_not_answer_is_given_up() {
    for (transport, provisional, last, seconds) in [
        ("UDP", false, "SIP/2.0 408 Request Timeout", 33),
        ("TCP", false, "SIP/2.0 408 Request Timeout", 33),
        // Timer C, then CANCEL, then nothing again.
        ("UDP", true, "SIP/2.0 487 Request Terminated", 181 + 33),
    ] {
        let mut world = World::new(vec![proxy(transport, PROXY, None)]);
        world.register_bob(&format!("<sip:u00000002@{BOB}>"));
        world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
        world.run(3);
        let invite = world.mail(BOB).pop().unwrap();
        if provisional {
            world.send(BOB, PROXY, &answer(&invite, 180));
        }
        world.run(seconds - 2);
        assert!(
            !start_lines(&world.mail(ALICE)).contains(&last),
            "{transport}"
        );
        world.run(seconds + 4);
        assert!(
            start_lines(&world.mail(ALICE)).contains(&last),
            "{transport}"
        );
        let cancels = world
            .mail(BOB)
            .iter()
            .filter(|text| text.starts_with("CANCEL"))
            .count();
        assert_eq!(cancels > 0, provisional, "{transport}");
        world.run(seconds + 80);
        assert_eq!(world.servers[0].1.forwards(), 0);
    }
}

/// Loses, duplicates and delays; the seed decides.
fn hostile(seed: u64) -> Fate {
    let mut state = seed;
    Box::new(move |_| {
        state = mix(state);
        let delay = |shift: u32| 1 + (state >> shift) % 40;
        match state % 10 {
            0 | 1 => vec![],
            2 => vec![delay(8), delay(16)],
            _ => vec![delay(8)],
        }
    })
}

#[test]
fn calls_get_through_two_proxies_whatever_the_network_does() {
    let timing = Timing::default();
    let epoch = Instant::now();
    for seed in 0..40 {
        let mut end = ServerConfig::new(accounts(), vec![interface("UDP", END)]);
        end.ring = Duration::from_millis(300);
        let mut world = World::new(vec![
            proxy("UDP", PROXY, Some(NEXT)),
            proxy("UDP", NEXT, Some(END)),
            end,
        ]);
        world.fate = hostile(mix(seed));
        let accounts = accounts();
        let agent = Agent {
            accounts: &accounts,
            user: 1,
            transport: "UDP",
            reliability: Reliability::Datagram,
            sent_by: address(ALICE),
            timing: &timing,
            seed,
            epoch,
            expires_seconds: 600,
            stationery: &Stationery::default(),
        };
        let mut caller = Caller::new(7, Duration::from_millis(200));
        let mut outbox = Outbox::new();
        caller.start(&agent, world.now, &mut outbox);
        let mut ended = None;
        while ended.is_none() || world.now < world.start + Duration::from_secs(100) {
            for message in outbox.iter() {
                world.post(Packet {
                    from: address(ALICE),
                    to: address(PROXY),
                    bytes: message.to_vec(),
                });
            }
            outbox.clear();
            let deadlines = world
                .servers
                .iter()
                .filter_map(|(_, server)| server.deadline());
            let next = deadlines
                .chain(world.link.next_deadline())
                .chain(caller.deadline())
                .min();
            let Some(at) = next else { break };
            world.now = world.now.max(at);
            if caller.deadline().is_some_and(|at| at <= world.now) {
                let event = caller.timeout(&agent, world.now, &mut outbox);
                ended = ended.or(outcome(event));
                continue;
            }
            world.step();
            for text in world.mail(ALICE) {
                let response = Response::parse(text.as_bytes()).unwrap();
                let event = caller.receive(&agent, world.now, &response, &mut outbox);
                ended = ended.or(outcome(event));
            }
        }
        assert_eq!(ended, Some(Ok(())), "seed {seed}");
        for (_, server) in &world.servers {
            assert_eq!((server.forwards(), server.calls()), (0, 0), "seed {seed}");
        }
        assert_eq!(world.servers[2].1.counters().calls_answered, 1);
    }
}

fn outcome(event: CallEvent) -> Option<Result<(), CallFailure>> {
    match event {
        CallEvent::Completed => Some(Ok(())),
        CallEvent::Failed(failure) => Some(Err(failure)),
        CallEvent::Nothing
        | CallEvent::Challenged
        | CallEvent::HopNeeded
        | CallEvent::Cancelled
        | CallEvent::Progress { .. }
        | CallEvent::Answered { .. }
        | CallEvent::ByeSent => None,
    }
}
