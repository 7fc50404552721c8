//! What is promised of a port, however it batches.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::net::SocketBuffers;
use crate::net::kernel::BATCH_LENGTH;

const LOOPBACK: &str = "127.0.0.1:0";

/// Everything that is awaited happens at once or never: this only ends a test that failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Datagram = (SocketAddr, Vec<u8>);

fn kernel(batching: Batching) -> Kernel {
    Kernel {
        connect_limit: PATIENCE,
        share_port: false,
        source: None,
        device: None,
        batching,
        buffers: SocketBuffers::default(),
        meter: WireMeter::default(),
    }
}

fn bind(batching: Batching, address: &str) -> UdpPort {
    kernel(batching)
        .bind_port(address.parse().unwrap())
        .unwrap()
}

/// A socket that knows nothing of ports. What is sent to it waits there as soon as it is sent.
fn peer(address: &str) -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn arrived(socket: &std::net::UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    let mut arrived = Vec::new();
    while let Ok(bytes) = socket.recv(&mut buffer) {
        arrived.push(buffer[..bytes].to_vec());
    }
    arrived
}

fn numbered(numbers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let number = |number: usize| number.to_string().into_bytes();
    numbers.into_iter().map(number).collect()
}

/// Drives `port` until `count` datagrams have arrived, each of which `received` is shown.
async fn drive(port: &UdpPort, count: usize, mut received: impl FnMut(SocketAddr, &[u8])) {
    let mut arrived = 0;
    let driven = poll_fn(|cx| {
        let mut receive = |from, datagram: &[u8]| {
            arrived += 1;
            received(from, datagram);
        };
        while port.poll_drive(cx, &mut receive).is_ready() {}
        if arrived < count {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    let driven = tokio::time::timeout(PATIENCE, driven).await;
    assert!(
        driven.is_ok(),
        "expected {count} datagrams, found {arrived}"
    );
}

/// Sends what waits: what a driver does when it is woken.
async fn flush(port: &UdpPort) {
    port.socket.writable().await.unwrap();
    drive(port, 0, |_, _| {}).await;
}

async fn receive(port: &UdpPort, count: usize) -> Vec<Datagram> {
    let mut datagrams = Vec::new();
    drive(port, count, |from, datagram| {
        datagrams.push((from, datagram.to_vec()));
    })
    .await;
    datagrams
}

/// Runs `test` with every way of batching.
fn for_each(test: impl AsyncFn(Batching)) {
    for batching in [Batching::Off, Batching::On, Batching::Segments] {
        println!("{batching:?}");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(batching));
    }
}

#[test]
fn bursts_are_answered_in_order_and_each_datagram_is_metered() {
    const ROUNDS: usize = 5;
    const BURST: usize = 200;
    for_each(async |batching| {
        let server = bind(batching, LOOPBACK);
        let peers: Vec<_> = (0..5).map(|_| peer(LOOPBACK)).collect();
        for round in 0..ROUNDS {
            let burst = numbered(round * BURST..(round + 1) * BURST);
            for (number, datagram) in burst.iter().enumerate() {
                let (peer, _) = &peers[number % peers.len()];
                peer.send_to(datagram, server.local).unwrap();
            }

            let mut received = Vec::new();
            drive(&server, BURST, |from, datagram| {
                received.push(datagram.to_vec());
                server.send(from, datagram);
            })
            .await;

            assert_eq!(received, burst);
            for (index, (peer, _)) in peers.iter().enumerate() {
                let own = burst.iter().skip(index).step_by(peers.len());
                assert!(arrived(peer).iter().eq(own));
            }
        }
        assert_eq!(server.counters().unsent, 0);
        let digits: usize = numbered(0..ROUNDS * BURST).iter().map(Vec::len).sum();
        let metered = server.meter.total().unwrap();
        assert_eq!(metered.packets, 2 * (ROUNDS * BURST) as u64);
        assert_eq!(metered.bytes, 2 * (ROUNDS * BURST * 28 + digits) as u64);
    });
}

#[test]
fn datagrams_go_to_many_destinations_in_order() {
    for_each(async |batching| {
        let server = bind(batching, LOOPBACK);
        server.socket.writable().await.unwrap();
        let peers: Vec<_> = (0..3).map(|_| peer(LOOPBACK)).collect();
        for (number, datagram) in numbered(0..100).iter().enumerate() {
            server.send(peers[number % 3].1, datagram);
        }
        flush(&server).await;
        for (index, (peer, _)) in peers.iter().enumerate() {
            assert_eq!(arrived(peer), numbered((index..100).step_by(3)));
        }
    });
}

#[test]
fn what_the_system_refuses_is_counted_and_stops_nothing_else() {
    for_each(async |batching| {
        let server = bind(batching, LOOPBACK);
        server.socket.writable().await.unwrap();
        let (peer, address) = peer(LOOPBACK);
        let nowhere = SocketAddr::new(address.ip(), 0);
        for (number, datagram) in numbered(0..40).iter().enumerate() {
            let refused = matches!(number, 0 | 7 | 8 | 39);
            server.send(if refused { nowhere } else { address }, datagram);
        }
        flush(&server).await;
        assert_eq!(server.counters().unsent, 4);
        let rest = (1..39).filter(|number| !matches!(number, 7 | 8));
        assert_eq!(arrived(&peer), numbered(rest));
        assert_eq!(server.meter.total().unwrap().packets, 36);
    });
}

#[test]
fn what_the_system_does_not_take_yet_waits_in_order_up_to_a_limit() {
    for_each(async |batching| {
        // Whether a new socket may be written to is known when the runtime has asked.
        let server = bind(batching, LOOPBACK);
        let (peer, address) = peer(LOOPBACK);
        let sent = 2 * SEND_QUEUE_LENGTH;
        for datagram in numbered(0..sent) {
            server.send(address, &datagram);
        }
        flush(&server).await;
        flush(&server).await;
        // A batch that is still being gathered is sent once there is room for it.
        let arrived = arrived(&peer);
        let unsent = usize::try_from(server.counters().unsent).unwrap();
        assert!(unsent > 0 && arrived.len() >= SEND_QUEUE_LENGTH);
        assert_eq!(arrived.len() + unsent, sent);
        assert_eq!(arrived[..SEND_QUEUE_LENGTH], numbered(0..SEND_QUEUE_LENGTH));
        assert!(server.queue.borrow().is_empty());

        server.send(address, b"later");
        flush(&server).await;
        assert_eq!(self::arrived(&peer), [b"later"]);
    });
}

#[test]
fn news_of_an_earlier_datagram_costs_no_later_one() {
    for_each(async |batching| {
        let (gone, address) = peer(LOOPBACK);
        drop(gone);
        let client = kernel(batching).connect_port(address).await.unwrap();
        client.send(address, b"to nobody");
        flush(&client).await;

        let server = std::net::UdpSocket::bind(address).unwrap();
        server.set_nonblocking(true).unwrap();
        for datagram in numbered(0..3) {
            client.send(address, &datagram);
        }
        flush(&client).await;
        assert_eq!(arrived(&server), numbered(0..3));
        assert_eq!(client.counters().unsent, 0);
    });
}

#[test]
fn the_longest_and_the_shortest_datagram_pass_whole() {
    for_each(async |batching| {
        let server = bind(batching, LOOPBACK);
        let client = kernel(batching).connect_port(server.local).await.unwrap();
        let sent = [
            vec![b'a'; MAX_DATAGRAM_BYTES],
            vec![],
            vec![b'b'; MAX_DATAGRAM_BYTES],
            vec![b'c'; 700],
        ];
        for datagram in &sent {
            client.send(server.local, datagram);
        }
        flush(&client).await;
        let received = receive(&server, sent.len()).await;
        assert!(received.iter().all(|(from, _)| *from == client.local));
        assert!(received.iter().map(|(_, datagram)| datagram).eq(&sent));
    });
}

#[test]
fn addresses_of_both_families_are_told_apart() {
    for_each(async |batching| {
        let (server4, server6) = (bind(batching, LOOPBACK), bind(batching, "[::1]:0"));
        let ((peer4, address4), (peer6, address6)) = (peer(LOOPBACK), peer("[::1]:0"));
        assert_eq!(address6.ip(), Ipv6Addr::LOCALHOST);
        for _ in 0..2 {
            peer4.send_to(b"4", server4.local).unwrap();
            peer6.send_to(b"6", server6.local).unwrap();
            let echo = |server: &UdpPort, from, datagram: &[u8]| server.send(from, datagram);
            drive(&server4, 1, |from, datagram| {
                assert_eq!(from, address4);
                echo(&server4, from, datagram);
            })
            .await;
            drive(&server6, 1, |from, datagram| {
                assert_eq!(from, address6);
                echo(&server6, from, datagram);
            })
            .await;
            assert_eq!(arrived(&peer4), [b"4"]);
            assert_eq!(arrived(&peer6), [b"6"]);
        }
    });
}

/// Datagrams as long as `lengths` say, sent in one batch by a port that sends runs of them as one to a socket
/// that takes them as one, unless `spoil` is in the way.
#[cfg(target_os = "linux")]
async fn lengths_received(lengths: &[usize], spoil: impl Fn(&UdpPort)) -> Vec<usize> {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};

    let (peer, address) = peer(LOOPBACK);
    setsockopt(&peer, UdpGroSegment, &true).unwrap();
    let port = kernel(Batching::Segments);
    let port = port.connect_port(address).await.unwrap();
    spoil(&port);
    for length in lengths {
        port.send(address, &vec![b'x'; *length]);
    }
    flush(&port).await;
    assert_eq!(port.counters().unsent, 0);
    let metered = port.meter.total().unwrap();
    assert_eq!(metered.packets, lengths.len() as u64);
    assert_eq!(
        metered.bytes,
        lengths
            .iter()
            .map(|length| *length as u64 + 28)
            .sum::<u64>()
    );
    arrived(&peer).iter().map(Vec::len).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn runs_of_one_length_pass_as_one() {
    let lengths = [7, 100, 100, 100, 40, 200, 200, 300, 50, 60];
    let received = lengths_received(&lengths, |_| {}).await;
    // One that is shorter ends a run.
    assert_eq!(received, [7, 340, 400, 350, 60]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_passes_as_one_between_ports_arrives_one_by_one() {
    use nix::sys::socket::{getsockopt, sockopt::UdpGroSegment};

    let server = bind(Batching::Segments, LOOPBACK);
    let client = kernel(Batching::Segments);
    let client = client.connect_port(server.local).await.unwrap();
    let sent: Vec<Vec<u8>> = (0..45)
        .map(|number| {
            vec![
                number;
                if number < 40 {
                    100
                } else {
                    60 - usize::from(number)
                }
            ]
        })
        .collect();
    for (from, to) in [(&client, &server), (&server, &client)] {
        assert!(getsockopt(&to.socket, UdpGroSegment).unwrap());
        let before = to.meter.total().unwrap();
        for datagram in &sent {
            from.send(to.local, datagram);
        }
        flush(from).await;
        let received = receive(to, sent.len()).await;
        assert!(received.iter().all(|(peer, _)| *peer == from.local));
        assert!(received.iter().map(|(_, datagram)| datagram).eq(&sent));
        let metered = to.meter.total().unwrap();
        assert_eq!(metered.packets - before.packets, sent.len() as u64);
        let bytes: usize = sent.iter().map(|datagram| datagram.len() + 28).sum();
        assert_eq!(metered.bytes - before.bytes, bytes as u64);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_cannot_pass_as_one_passes_one_by_one() {
    use std::os::fd::AsRawFd;

    let without_checksums = |port: &UdpPort| {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open as long as `port` lives, and the option's value is a `c_int` that outlives
        // the call.
        let result = unsafe {
            libc::setsockopt(
                port.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(result, 0);
    };
    let received = lengths_received(&[100, 100, 40], without_checksums).await;
    assert_eq!(received, [100, 100, 40]);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_is_sent_between_drives_wakes_the_driver_once_and_leaves_with_it() {
    let server = bind(Batching::On, LOOPBACK);
    let (peer, address) = peer(LOOPBACK);
    flush(&server).await;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let poll = |cx: &mut Context<'_>| assert!(server.poll_drive(cx, &mut |_, _| {}).is_pending());
    poll(&mut cx);
    assert!(server.outbox.borrow().is_none(), "an idle port holds none");

    for datagram in numbered(0..3) {
        server.send(address, &datagram);
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(arrived(&peer).is_empty());
    poll(&mut cx);
    assert_eq!(arrived(&peer), numbered(0..3));
    assert!(server.outbox.borrow().is_none());

    // Whole batches do not wait.
    for datagram in numbered(0..2 * BATCH_LENGTH + 1) {
        server.send(address, &datagram);
    }
    assert_eq!(arrived(&peer), numbered(0..2 * BATCH_LENGTH));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    poll(&mut cx);
    assert_eq!(arrived(&peer), numbered([2 * BATCH_LENGTH]));
}

#[tokio::test]
async fn what_was_sent_last_leaves_before_the_port_closes() {
    let server = bind(Batching::On, LOOPBACK);
    let (peer, address) = peer(LOOPBACK);
    flush(&server).await;
    for datagram in numbered(0..3) {
        server.send(address, &datagram);
    }
    drop(server);
    assert_eq!(arrived(&peer), numbered(0..3));
}

/// The kernel doubles what it is asked for.
#[tokio::test]
async fn sockets_have_the_buffers_that_are_asked_for() {
    let kernel = Kernel {
        buffers: SocketBuffers {
            socket_send_buffer_bytes: Some(8_192),
            socket_receive_buffer_bytes: Some(16_384),
        },
        ..kernel(Batching::Off)
    };
    let server = kernel.bind_port(LOOPBACK.parse().unwrap()).unwrap();
    let client = kernel.connect_port(server.bound()).await.unwrap();
    for port in [&server, &client] {
        let socket = socket2::SockRef::from(&port.socket);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * 8_192);
        assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 16_384);
    }
}
