//! What only tunnels can get wrong: datagrams are lost, come twice or in another order.

use super::*;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Passed,
    Lost,
    Doubled,
    /// The next one overtakes it, or, if none comes, it is late.
    Overtaken,
}

/// How late a datagram is that nothing overtakes.
const LATENESS: Duration = Duration::from_millis(3);

/// Passes datagrams to and fro between one client and `server`. They are numbered from 0 on as they
/// come, from either side.
pub(super) async fn datagram_path(
    server: SocketAddr,
    mut fate: impl FnMut(usize) -> Fate + 'static,
) -> SocketAddr {
    let near = UdpSocket::bind(LOOPBACK).await.unwrap();
    let far = UdpSocket::bind(LOOPBACK).await.unwrap();
    far.connect(server).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        let mut number = 0;
        let mut overtaken: Option<(bool, Vec<u8>)> = None;
        loop {
            let (is_up, datagram) = tokio::select! {
                received = near.recv_from(&mut up) => {
                    let (bytes, from) = received.unwrap();
                    client = Some(from);
                    (true, &up[..bytes])
                }
                received = far.recv(&mut down) => match received {
                    Ok(bytes) => (false, &down[..bytes]),
                    // The server has gone: so is what was sent to it.
                    Err(_) => continue,
                },
                () = tokio::time::sleep(LATENESS), if overtaken.is_some() => (true, &[][..]),
            };
            let send = async |is_up: bool, datagram: &[u8]| {
                // As on any path, nobody may be there.
                let _ = match is_up {
                    true => far.send(datagram).await,
                    false => near.send_to(datagram, client.unwrap()).await,
                };
            };
            let late = overtaken.take();
            if !datagram.is_empty() {
                let fate = fate(number);
                number += 1;
                match fate {
                    Fate::Lost => {}
                    Fate::Overtaken => overtaken = Some((is_up, datagram.to_vec())),
                    Fate::Passed | Fate::Doubled => send(is_up, datagram).await,
                }
                if fate == Fate::Doubled {
                    send(is_up, datagram).await;
                }
            }
            if let Some((is_up, datagram)) = late {
                send(is_up, &datagram).await;
            }
        }
    });
    address
}

/// It takes the five seconds after which WireGuard sends an initiation again.
#[test]
fn any_datagram_of_a_tunnels_handshake_may_be_lost() {
    let expected = EXPECTATIONS.iter().find(|row| row.stack == "udp@wireguard");
    on_worker(async {
        let hop = Hop::open(expected.unwrap()).await;
        // Initiation, response, confirmation.
        let exchange = async |lost: usize| {
            let fate = move |number| match number == lost {
                true => Fate::Lost,
                false => Fate::Passed,
            };
            let target = datagram_path(hop.listening.local, fate).await;
            let client = Rc::new(Recorder::default());
            let user = User(lost.try_into().unwrap());
            let connected = hop.transport.connect(user, target, client.clone()).await;
            let connected = connected.unwrap();
            let took = connected.phases.security_handshake.unwrap();
            // Whoever lacks the confirmation takes the first packet for one.
            assert!(lost == 2 || took >= Duration::from_secs(5), "{took:?}");
            connected.flow.send(&message(100)).unwrap();
            assert_eq!(client.messages(1).await, [message(100)]);
        };
        tokio::join!(exchange(0), exchange(1), exchange(2));
    });
}

fn row(stack: &str) -> &'static Expectation {
    EXPECTATIONS.iter().find(|row| row.stack == stack).unwrap()
}

/// Streams inside tunnels.
fn tunneled_streams() -> impl Iterator<Item = &'static Expectation> {
    let is_one = |row: &&Expectation| row.vanished.is_some() && row.inner_server.is_some();
    EXPECTATIONS.iter().filter(is_one)
}

/// Sends a message of `body_bytes` over a new flow through `target` and waits for its echo.
async fn echo_through(hop: &Hop, user: u32, target: SocketAddr, body_bytes: usize) -> Connected {
    let client = Rc::new(Recorder::default());
    let connected = hop.transport.connect(User(user), target, client.clone());
    let connected = connected.await.unwrap();
    let sent = message(body_bytes);
    connected.flow.send(&sent).unwrap();
    assert!(client.messages(1).await == [sent]);
    connected
}

/// All at the same time, since the longest takes five seconds, as above, and the second after which
/// TCP repeats a SYN.
#[test]
fn any_datagram_of_opening_a_stream_may_be_lost() {
    async fn exchange(hop: Rc<Hop>, lost: usize) {
        let fate = move |number| match number == lost {
            true => Fate::Lost,
            false => Fate::Passed,
        };
        let target = datagram_path(hop.listening.local, fate).await;
        let connected = echo_through(&hop, lost as u32, target, 300).await;
        let phases = connected.phases;
        let is_wireguard = hop.stack.tunnel == Some("wireguard");
        assert_eq!(phases.tunnel_handshake.is_some(), is_wireguard);
        assert!(phases.transport_connect.is_some());
    }
    on_worker(async {
        let mut exchanges = Vec::new();
        for expected in tunneled_streams() {
            let hop = Rc::new(Hop::open(expected).await);
            // WireGuard's three, TCP's three, two flights of TLS, and the message with its echo.
            for lost in 0..12 {
                exchanges.push(tokio::task::spawn_local(exchange(Rc::clone(&hop), lost)));
            }
        }
        for exchange in exchanges {
            exchange.await.unwrap();
        }
    });
}

#[test]
fn datagrams_may_come_twice_and_in_another_order() {
    for expected in tunneled_streams() {
        on_worker(async {
            let hop = Hop::open(expected).await;
            let fate = |number: usize| match number % 5 {
                1 => Fate::Doubled,
                2 | 4 => Fate::Overtaken,
                _ => Fate::Passed,
            };
            let target = datagram_path(hop.listening.local, fate).await;
            let connected = echo_through(&hop, 1, target, 20_000).await;
            connected.flow.close();
            hop.server.closed(0).await;
        });
    }
}

#[test]
fn the_longest_messages_cross_both_ways_at_once() {
    for expected in tunneled_streams() {
        on_worker(async {
            let hop = Hop::open(expected).await;
            let (connected, client) = hop.connect(1).await;
            // Each echo of a message is on its way back while the next one comes.
            let sent = vec![message_of(MAX_MESSAGE_BYTES); 8];
            for message in &sent {
                connected.flow.send(message).unwrap();
            }
            assert!(client.messages(8).await == sent);
        });
    }
}

/// The first connection is never closed: its user's end has just gone.
#[test]
fn a_user_who_reboots_is_served_over_a_new_tunnel() {
    for expected in tunneled_streams() {
        on_worker(async {
            let hop = Hop::open(expected).await;
            let is_gone = Rc::new(std::cell::Cell::new(false));
            let gone = Rc::clone(&is_gone);
            let fate = move |_| match gone.get() {
                true => Fate::Lost,
                false => Fate::Passed,
            };
            let target = datagram_path(hop.listening.local, fate).await;
            let _before = echo_through(&hop, 1, target, 100).await;
            is_gone.set(true);
            hop.assert_serves(1).await;
            hop.assert_serves(1).await;
        });
    }
}

#[test]
fn a_user_may_come_and_go_many_times() {
    for expected in tunneled_streams() {
        on_worker(async {
            let hop = Hop::open(expected).await;
            for _ in 0..20 {
                hop.assert_serves(1).await;
            }
        });
    }
}

#[test]
fn a_listener_that_goes_takes_living_connections_with_it_and_frees_its_port() {
    for expected in tunneled_streams() {
        on_worker(async {
            let hop = Hop::open(expected).await;
            let mut flows = Vec::new();
            for user in 0..10 {
                let (connected, client) = hop.connect(user).await;
                connected.flow.send(&message(1)).unwrap();
                client.messages(1).await;
                flows.push((connected, client));
            }
            let address = hop.listening.local;
            drop(hop.listening);
            for (user, (_, client)) in (0..).zip(&flows) {
                assert_eq!(client.closed(user).await, CloseReason::Peer);
            }
            // Another network: it shares nothing with the one that has just let go of the port.
            let freed = async {
                while UdpSocket::bind(address).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, freed).await.unwrap();
        });
    }
}

/// Retransmission timers that traffic has made needless fire once, within a second.
#[test]
fn idle_connections_wake_nobody() {
    on_worker(async {
        let hop = Hop::open(row("tcp@clear")).await;
        let mut flows = Vec::new();
        for user in 0..200 {
            let (connected, client) = hop.connect(user).await;
            connected.flow.send(&message(1)).unwrap();
            client.messages(1).await;
            flows.push(connected);
        }
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let wake_ups = || {
            let metrics = tokio::runtime::Handle::current().metrics();
            metrics.worker_park_count(0)
        };
        let before = wake_ups();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(wake_ups() - before <= 3, "{} wake-ups", wake_ups() - before);
        flows[199].flow.send(&message(2)).unwrap();
        hop.server.messages(201).await;
    });
}
