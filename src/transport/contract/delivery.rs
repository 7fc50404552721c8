//! What flows deliver, and what opening them tells.

use super::*;

#[test]
fn a_flow_is_established_and_delivers_both_ways() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(7).await;
        let phases = connected.phases;
        assert_eq!(phases.transport_connect.is_some(), hop.stack.is_stream());
        assert_eq!(phases.security_handshake.is_some(), hop.expected.handshake);
        let kind = hop.expected.handshake.then_some(HandshakeKind::Full);
        assert_eq!(phases.handshake_kind, kind);
        let flow = connected.flow;
        assert_eq!(flow.id(), 7);
        let server = hop
            .expected
            .inner_server
            .map(|address| address.parse().unwrap());
        assert_eq!(flow.peer(), server.unwrap_or(hop.listening.local));

        let sent = message(300);
        flow.send(&sent).unwrap();
        assert_eq!(client.messages(1).await, std::slice::from_ref(&sent));
        assert_eq!(hop.server.messages(1).await, [sent]);
        let opened = hop.server.count(|event| matches!(event, Event::Opened(0)));
        assert_eq!(opened, usize::from(hop.stack.is_stream()));
    });
}

#[test]
fn messages_arrive_one_by_one_however_they_were_written() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        let sent: Vec<_> = (0..20).map(|i| message(i * 50)).collect();
        // Queued in one wake-up, so that a stream carries them in one write.
        for message in &sent {
            connected.flow.send(message).unwrap();
        }
        assert_eq!(client.messages(20).await, sent);

        if hop.stack.is_stream() {
            let whole = message(500);
            for part in whole.chunks(60) {
                connected.flow.send(part).unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(client.messages(21).await[20], whole);
        }
    });
}

#[test]
fn keep_alives_are_no_messages() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        let sent = message(10);
        connected.flow.send(b"\r\n\r\n").unwrap();
        connected.flow.send(&sent).unwrap();
        assert_eq!(client.messages(1).await, std::slice::from_ref(&sent));
        assert_eq!(messages(&hop.server.events.borrow()), [sent]);
    });
}

#[test]
fn the_longest_message_arrives_and_a_longer_one_does_not() {
    for_every_stack(async |hop| {
        let longest_bytes = hop.expected.longest_message_bytes;
        let (connected, client) = hop.connect(0).await;
        let longest = message_of(longest_bytes);
        connected.flow.send(&longest).unwrap();
        assert!(client.messages(1).await == [longest]);

        let too_long = connected.flow.send(&message_of(longest_bytes + 1));
        if hop.stack.is_stream() {
            too_long.unwrap();
            let bytes = longest_bytes + 1;
            let garbage = CloseReason::Garbage(FramingError::MessageTooLong { bytes });
            assert_eq!(hop.server.closed(0).await, garbage);
        } else {
            let bytes = longest_bytes + 1;
            assert_eq!(too_long, Err(SendError::TooLarge { bytes }));
        }
    });
}

#[test]
fn a_user_that_starts_anew_is_served() {
    for_every_stack(async |hop| {
        hop.assert_serves(5).await;
        hop.assert_serves(5).await;
    });
}

#[test]
fn a_user_who_comes_back_resumes_where_the_stack_can() {
    let mut settings = settings().clone();
    settings.tls.as_mut().unwrap().options.resumption = Resumption::Ticket;
    for expected in EXPECTATIONS {
        on_worker(async {
            let hop = Hop::open_with(expected, &settings).await;
            let resumed = match hop.stack.carrier {
                "tls" | "mtls" => HandshakeKind::Resumed,
                _ => HandshakeKind::Full,
            };
            let full = HandshakeKind::Full;
            // The ticket comes with the first message from the server.
            for (user, kind) in [(5, full), (5, resumed), (5, resumed), (6, full)] {
                let (connected, client) = hop.connect(user).await;
                let kind = expected.handshake.then_some(kind);
                let stack = expected.stack;
                assert_eq!(
                    connected.phases.handshake_kind, kind,
                    "{stack}, user {user}"
                );
                connected.flow.send(&message(100)).unwrap();
                client.messages(1).await;
                connected.flow.close();
            }
        });
    }
}

#[test]
fn an_idle_flow_stays_usable_from_both_ends() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        connected.flow.send(&message(1)).unwrap();
        client.messages(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        connected.flow.send(&message(2)).unwrap();
        assert_eq!(client.messages(2).await, [message(1), message(2)]);
    });
}

#[test]
fn many_flows_do_not_mix() {
    for_every_stack(async |hop| {
        let mut flows = Vec::new();
        for user in 0..USERS {
            flows.push(hop.connect(user).await);
        }
        for (i, (connected, _)) in flows.iter().enumerate() {
            connected.flow.send(&message(i)).unwrap();
        }
        for (i, (_, client)) in flows.iter().enumerate() {
            assert_eq!(client.messages(1).await, [message(i)]);
        }
    });
}
