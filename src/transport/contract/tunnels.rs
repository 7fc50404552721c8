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
