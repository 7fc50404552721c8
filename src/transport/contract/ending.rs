//! How flows end: by garbage, by vanishing, by closing, for want of a pong.

use std::cell::Cell;

use super::tunnels::{Fate, datagram_path};
use super::*;

#[test]
fn garbage_ends_its_own_flow_at_most() {
    for_every_stack(async |hop| {
        let (bystander, bystander_events) = hop.connect(1).await;
        bystander.flow.send(&message(1)).unwrap();
        bystander_events.messages(1).await;

        let (sender, sender_events) = hop.connect(2).await;
        sender.flow.send(&[0xff; 2_000]).unwrap();
        if hop.stack.is_stream() {
            let reason = hop.server.closed(1).await;
            assert!(matches!(reason, CloseReason::Garbage(_)), "{reason:?}");
            // The server may have closed with bytes unread, which TCP tells as a reset.
            let told = sender_events.closed(2).await;
            assert!(!matches!(told, CloseReason::Local), "{told:?}");
            assert_eq!(sender.flow.send(b"x"), Err(SendError::Closed));
        }

        bystander.flow.send(&message(2)).unwrap();
        bystander_events.messages(2).await;
        hop.assert_serves(3).await;
    });
}

#[test]
fn garbage_below_the_stack_does_not_stop_the_listener() {
    for_every_stack(async |hop| {
        let (bystander, bystander_events) = hop.connect(1).await;
        bystander.flow.send(&message(1)).unwrap();
        bystander_events.messages(1).await;

        if hop.stack.is_stream() {
            let mut raw = hop.raw_stream(4).await;
            raw.write_all(&[0xff; 2_000]).await.unwrap();
            if hop.stack.speaks_tls() {
                let reason = hop.server.refused().await;
                assert!(reason.contains("TLS handshake"), "{reason}");
            } else {
                let reason = hop.server.closed(1).await;
                assert!(matches!(reason, CloseReason::Garbage(_)), "{reason:?}");
            }
        }
        if hop.takes_datagrams() {
            let raw = UdpSocket::bind(LOOPBACK).await.unwrap();
            for first in 0..=8 {
                for length in [0, 1, 7, 8, 31, 32, 64, 92, 148, 1_400] {
                    let mut garbage = vec![0xa5; length];
                    let head = [first, 0, 0, 0];
                    let head_bytes = length.min(4);
                    garbage[..head_bytes].copy_from_slice(&head[..head_bytes]);
                    raw.send_to(&garbage, hop.listening.local).await.unwrap();
                }
            }
            // Received in order, so before what the bystander sends next is answered.
        }

        bystander.flow.send(&message(2)).unwrap();
        bystander_events.messages(2).await;
        let dropped = hop.listening.counters().map(|lost| lost.tunnel.total());
        let expected = match (hop.takes_datagrams(), hop.stack.tunnel) {
            (false, _) => None,
            (true, None) => Some(0),
            (true, Some(_)) => Some(90),
        };
        assert_eq!(dropped, expected);
        hop.assert_serves(3).await;
    });
}

#[test]
fn a_peer_that_vanishes_in_a_message_is_noticed() {
    for_every_stack(async |hop| {
        let Some(vanished) = &hop.expected.vanished else {
            return;
        };
        let start = &message(200)[..100];
        let mut raw = hop.raw_stream(4).await;
        match vanished {
            Vanished::Closed => {
                raw.write_all(start).await.unwrap();
                drop(raw);
                assert_eq!(hop.server.closed(0).await, CloseReason::Peer);
            }
            Vanished::Broken => {
                let mut stream = tls::raw_client(hop.stack, settings(), raw).await.unwrap();
                stream.write_all(start).await.unwrap();
                stream.flush().await.unwrap();
                drop(stream);
                let reason = hop.server.closed(0).await;
                assert!(matches!(reason, CloseReason::Broken(_)), "{reason:?}");
            }
        }
        assert!(messages(&hop.server.events.borrow()).is_empty());
        hop.assert_serves(1).await;
    });
}

#[test]
fn closing_delivers_what_was_sent_and_tells_both_ends_once() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(5).await;
        let sent = message_of(60_000);
        connected.flow.send(&sent).unwrap();
        connected.flow.close();
        connected.flow.close();
        assert_eq!(connected.flow.send(b"x"), Err(SendError::Closed));
        assert!(hop.server.messages(1).await == [sent]);
        let is_closed = |event: &Event| matches!(event, Event::Closed(..));
        if hop.stack.is_stream() {
            assert_eq!(client.closed(5).await, CloseReason::Local);
            hop.server.closed(0).await;
        }
        hop.assert_serves(6).await;
        assert_eq!(client.count(is_closed), usize::from(hop.stack.is_stream()));
        let of_first = |event: &Event| matches!(event, Event::Closed(0, _));
        assert_eq!(
            hop.server.count(of_first),
            usize::from(hop.stack.is_stream())
        );
    });
}

/// Closes each flow that a message comes on.
#[derive(Default)]
struct HangsUp(Recorder);

impl Handler for HangsUp {
    fn message(&self, flow: &Flow, message: &[u8], now: Instant) {
        flow.close();
        self.0.message(flow, message, now);
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        Handler::closed(&self.0, flow, reason);
    }
}

#[test]
fn a_server_closes_one_flow_and_serves_the_others() {
    for_every_stack(async |mut hop| {
        let server = Rc::new(HangsUp::default());
        hop.listening = hop
            .transport
            .listen(LOOPBACK, server.clone())
            .await
            .unwrap();
        for user in 0..2 {
            let (connected, client) = hop.connect(user).await;
            connected.flow.send(&message(user as usize)).unwrap();
            server.0.messages(user as usize + 1).await;
            if hop.stack.is_stream() {
                assert_eq!(client.closed(user.into()).await, CloseReason::Peer);
                let closed = server.0.closed(user.into()).await;
                assert_eq!(closed, CloseReason::Local);
            }
        }
    });
}

#[test]
fn clients_are_told_when_the_server_goes_and_find_it_when_it_returns() {
    for_every_stack(async |mut hop| {
        let (connected, client) = hop.connect(5).await;
        connected.flow.send(&message(1)).unwrap();
        client.messages(1).await;

        let address = hop.listening.local;
        drop(hop.listening);
        if hop.stack.is_stream() {
            assert_eq!(client.closed(5).await, CloseReason::Peer);
            assert_eq!(hop.server.closed(0).await, CloseReason::Local);
        } else {
            connected.flow.send(&message(1)).unwrap();
        }

        hop.listening = hop
            .transport
            .listen(address, hop.server.clone())
            .await
            .unwrap();
        hop.assert_serves(5).await;
    });
}

/// Passes on everything between one client and the server, until it is told to stop; then it takes
/// what comes and says nothing.
async fn breakable_path(hop: &Hop) -> (SocketAddr, Box<dyn Fn()>) {
    let server = hop.listening.local;
    if hop.takes_datagrams() {
        let is_broken = Rc::new(Cell::new(false));
        let broken = Rc::clone(&is_broken);
        let fate = move |_| match broken.get() {
            true => Fate::Lost,
            false => Fate::Passed,
        };
        let address = datagram_path(server, fate).await;
        return (address, Box::new(move || is_broken.set(true)));
    }
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let broken = Rc::new(Notify::new());
    let stop = Rc::clone(&broken);
    tokio::task::spawn_local(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = stop.notified() => {}
        }
        std::future::pending::<()>().await;
        drop((near, far));
    });
    (address, Box::new(move || broken.notify_one()))
}

#[test]
fn an_unanswered_ping_ends_a_flow_and_an_answered_one_does_not() {
    for_every_stack(async |hop| {
        if !hop.stack.is_stream() {
            let (connected, _) = hop.connect(5).await;
            assert_eq!(connected.flow.ping(), Err(SendError::NoKeepAlive));
            connected.flow.require_pong();
            return hop.assert_serves(5).await;
        }
        let (target, break_path) = breakable_path(&hop).await;
        let client = Rc::new(Recorder::default());
        let connected = hop.transport.connect(User(5), target, client.clone());
        let flow = connected.await.unwrap().flow;
        for round in 1..=3 {
            flow.ping().unwrap();
            // Its answer comes behind the pong.
            flow.send(&message(round)).unwrap();
            client.messages(round).await;
            flow.require_pong();
            flow.require_pong();
        }

        break_path();
        // The path takes it for sure, and passes it on no more.
        tokio::task::yield_now().await;
        flow.ping().unwrap();
        flow.require_pong();
        assert_eq!(client.closed(5).await, CloseReason::NoPong);
        assert_eq!(flow.ping(), Err(SendError::Closed));
        assert_eq!(client.messages(3).await.len(), 3);
        hop.assert_serves(6).await;
    });
}
