//! The pump between sockets that stand in for TUN devices, and between TUN devices where they can be made. No
//! test here depends on how fast the machine is; `measures_what_it_forwards` is for whoever wants to know.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use hopbench::net::link::{LinkConditions, Loss};
use hopbench::net::tun::{Tun, TunConfig};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::super::pcap::Capture;
use super::super::tests::lab_is_possible;
use super::super::wire;
use super::*;
use crate::lab::Namespace;

const PATIENCE: Duration = Duration::from_secs(20);

fn links(conditions: LinkConditions) -> [Link; 2] {
    [1, 2].map(|seed| Link::new(conditions, seed).unwrap())
}

/// A socket that keeps packets apart, and the end of a link that it is connected to.
fn end() -> (OwnedFd, End) {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (outside, device) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    for socket in [&outside, &device] {
        setsockopt(socket, sockopt::SndBuf, &(1 << 22)).unwrap();
    }
    let end = End {
        device,
        books: None,
    };
    (outside, end)
}

/// The next packet.
fn receive(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let mut readable = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    ppoll(&mut readable, Some(PATIENCE.into()), None).unwrap();
    let bytes = unistd::read(socket, &mut buffer).unwrap();
    buffer.truncate(bytes);
    buffer
}

/// Waits until so many packets were taken.
fn taken(pump: &Pump, packets: u64) {
    let deadline = Instant::now() + PATIENCE;
    while pump.with_tap(|tap| tap.seen().total().packets) < packets {
        assert!(Instant::now() < deadline, "packets were not taken");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn packet(number: u16, payload_bytes: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
        .udp(number, 5_060)
        .write(&mut packet, &vec![0; payload_bytes])
        .unwrap();
    packet
}

#[test]
fn packets_arrive_at_the_other_end_not_before_their_delay() {
    let (near, near_end) = end();
    let (far, far_end) = end();
    let conditions = LinkConditions::with_round_trip_ms(40.0);
    let pump = Pump::start([near_end, far_end], links(conditions), Tap::default(), &[]).unwrap();
    let began = Instant::now();
    unistd::write(&near, b"ping").unwrap();
    assert_eq!(receive(&far), b"ping");
    assert!(began.elapsed() >= Duration::from_millis(20));
    unistd::write(&far, b"pong!").unwrap();
    assert_eq!(receive(&near), b"pong!");
    assert!(began.elapsed() >= Duration::from_millis(40));
    let seen = pump.with_tap(|tap| tap.seen());
    assert_eq!((seen.onward.packets, seen.onward.bytes), (1, 4));
    assert_eq!((seen.back.packets, seen.back.bytes), (1, 5));
}

#[test]
fn what_is_lost_on_purpose_is_counted_apart_from_what_is_not() {
    let (near, near_end) = end();
    let (_far, far_end) = end();
    let conditions = LinkConditions {
        loss: Loss::Independent { ratio: 1.0 },
        ..LinkConditions::default()
    };
    let pump = Pump::start([near_end, far_end], links(conditions), Tap::default(), &[]).unwrap();
    for number in 0..100 {
        unistd::write(&near, &packet(number, 10)).unwrap();
    }
    taken(&pump, 100);
    let mut counters = pump.counters().unwrap();
    counters.late = 0; // nothing is delivered at all
    assert_eq!(counters.links.lost, 100);
    assert_eq!(counters.refused, 0);
    assert_eq!(counters.overwhelmed(), None);
}

#[test]
fn what_the_far_device_does_not_take_is_told() {
    let (near, near_end) = end();
    // Nobody reads there: its buffer fills up.
    let (_far, far_end) = end();
    setsockopt(&far_end.device, sockopt::SndBuf, &4_096).unwrap();
    let pump = Pump::start(
        [near_end, far_end],
        links(LinkConditions::default()),
        Tap::default(),
        &[],
    )
    .unwrap();
    for number in 0..100 {
        unistd::write(&near, &packet(number, 1_000)).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counters = pump.counters().unwrap();
        if counters.links.delivered == 100 {
            let reason = counters.overwhelmed().unwrap();
            assert!(reason.contains("could not keep up"), "{reason}");
            break;
        }
        assert!(Instant::now() < deadline, "{counters:?}");
    }
}

#[test]
fn lateness_of_few_packets_is_let_pass_and_of_many_is_told() {
    let counters = |late| PumpCounters {
        links: LinkCounters {
            delivered: 1_000,
            ..LinkCounters::default()
        },
        late,
        ..PumpCounters::default()
    };
    assert_eq!(counters(500).overwhelmed(), None);
    let reason = counters(501).overwhelmed().unwrap();
    assert!(
        reason.contains("501 of 1000 packets more than 250 µs late"),
        "{reason}"
    );
    let since = counters(11).since(counters(4));
    assert_eq!((since.late, since.links.delivered), (7, 0));
}

/// Frames and bytes that tshark finds in a capture; `None` where it is not installed.
fn counted_by_tshark(capture: &Path) -> Option<(u64, u64)> {
    let output = Command::new("tshark")
        .args(["-q", "-z", "io,stat,0", "-r"])
        .arg(capture)
        .output();
    let Ok(output) = output else {
        let is_required = std::env::var("HOPBENCH_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!is_required, "tshark is not installed");
        eprintln!("skipped: `apt-get install tshark` on Debian provides tshark");
        return None;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    // The one row of the table: the interval, the frames, the bytes.
    let row = said
        .lines()
        .find(|line| line.contains("<>"))
        .unwrap_or_else(|| panic!("{said}"));
    let columns: Vec<&str> = row.split('|').map(str::trim).collect();
    Some((columns[2].parse().unwrap(), columns[3].parse().unwrap()))
}

#[test]
fn tshark_counts_in_a_capture_what_the_tap_counted() {
    const PACKETS: u16 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hop.pcap");
    let tap = Tap::with_capture(Capture::create(&file).unwrap());
    let (near, near_end) = end();
    let (far, far_end) = end();
    // Lost packets are on the wire as well.
    let conditions = LinkConditions {
        loss: Loss::Independent { ratio: 0.3 },
        ..LinkConditions::default()
    };
    let pump = Pump::start([near_end, far_end], links(conditions), tap, &[]).unwrap();
    let mut bytes = 0;
    for number in 0..PACKETS {
        let packet = packet(number, usize::from(number) % 1_400);
        bytes += packet.len() as u64;
        let side = if number % 3 == 0 { &far } else { &near };
        while unistd::write(side, &packet).is_err() {
            std::thread::yield_now(); // the pump has to read first
        }
        let mut arrived = [0; 2_000];
        for side in [&near, &far] {
            while unistd::read(side, &mut arrived).is_ok() {}
        }
    }
    taken(&pump, PACKETS.into());
    let seen = pump
        .with_tap(|tap| tap.finish().map(|()| tap.seen()))
        .unwrap();
    assert_eq!(seen.total().packets, u64::from(PACKETS));
    assert_eq!(seen.total().bytes, bytes);
    assert_eq!(seen.back.packets, u64::from(PACKETS) / 3);
    if let Some(counted) = counted_by_tshark(&file) {
        assert_eq!(counted, (u64::from(PACKETS), bytes));
    }
}

/// A TUN device in a namespace of its own, and what the kernel drops there.
fn device(host: u8) -> (Namespace, End) {
    let namespace = Namespace::create().unwrap();
    let config = TunConfig {
        name: "hop0".into(),
        address: Ipv4Addr::new(198, 18, 0, host),
        prefix_bits: 30,
        peer: None,
        mtu_bytes: 1_500,
        queue_packets: wire::QUEUE_PACKETS,
    };
    let device: Tun = namespace.tun(&config).unwrap();
    let books = namespace.run(|| Ok(device.books())).unwrap().unwrap();
    let end = End {
        device: device.into(),
        books: Some(books),
    };
    (namespace, end)
}

fn bind(namespace: &Namespace, host: u8) -> UdpSocket {
    let address = (Ipv4Addr::new(198, 18, 0, host), 5_060);
    namespace
        .run(|| Ok(UdpSocket::bind(address)))
        .unwrap()
        .unwrap()
}

#[test]
fn carries_packets_between_devices() {
    if !lab_is_possible() {
        return;
    }
    let (here, near) = device(1);
    let (there, far) = device(2);
    let conditions = LinkConditions::with_round_trip_ms(10.0);
    let pump = Pump::start([near, far], links(conditions), Tap::default(), &[]).unwrap();
    let [client, server] = [bind(&here, 1), bind(&there, 2)];
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    client
        .send_to(b"REGISTER", server.local_addr().unwrap())
        .unwrap();
    let mut buffer = [0; 100];
    let (bytes, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"REGISTER");
    assert_eq!(from, client.local_addr().unwrap());
    assert!(began.elapsed() >= Duration::from_millis(5));
    assert_eq!(pump.counters().unwrap().overrun, Some(0));
}

/// `cargo test --release -p hopbench-harness --bin hopbench measures_ -- --ignored --nocapture`
#[test]
#[ignore = "measures: takes ten seconds, wants the machine for itself, and root or user namespaces"]
fn measures_what_it_forwards_and_how_exact_delays_are() {
    let (here, near) = device(1);
    let (there, far) = device(2);
    let conditions = LinkConditions::default();
    let pump = Pump::start([near, far], links(conditions), Tap::default(), &[]).unwrap();
    let [client, server] = [bind(&here, 1), bind(&there, 2)];
    let target = server.local_addr().unwrap();
    for offered_per_second in [50_000, 100_000, 150_000, 200_000, 250_000] {
        let before = pump.counters().unwrap();
        let began = Instant::now();
        let total = offered_per_second * 3 / 2;
        let mut sent = 0;
        while sent < total {
            // A few microseconds' worth at a time.
            let due = (began.elapsed().as_secs_f64() * f64::from(offered_per_second)) as u32;
            while sent < due.min(total) {
                client.send_to(&[0; 200], target).unwrap();
                sent += 1;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_millis(200));
        let counters = pump.counters().unwrap().since(before);
        println!(
            "{:.0} packets/s offered for {seconds:.1} s: {} delivered, {:?} dropped unread, {} refused, {} late",
            f64::from(total) / seconds,
            counters.links.delivered,
            counters.overrun,
            counters.refused,
            counters.late,
        );
    }
    drop(pump);
    measure_round_trips();
}

fn measure_round_trips() {
    let (here, near) = device(1);
    let (there, far) = device(2);
    let conditions = LinkConditions::with_round_trip_ms(100.0);
    let pump = Pump::start([near, far], links(conditions), Tap::default(), &[]).unwrap();
    let [client, server] = [bind(&here, 1), bind(&there, 2)];
    let target = server.local_addr().unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_over = AtomicBool::new(false);
    let mut round_trips_us: Vec<u128> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 100];
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((bytes, from)) = server.recv_from(&mut buffer) {
                    server.send_to(&buffer[..bytes], from).unwrap();
                }
            }
        });
        let mut buffer = [0; 100];
        let round_trips = (0..30).map(|_| {
            let began = Instant::now();
            client.send_to(b"ping", target).unwrap();
            client.recv_from(&mut buffer).unwrap();
            began.elapsed().as_micros()
        });
        let round_trips = round_trips.collect();
        is_over.store(true, Ordering::Relaxed);
        round_trips
    });
    round_trips_us.sort_unstable();
    println!(
        "round trips of 100 ms: {} to {} µs, median {} µs; {:?}",
        round_trips_us[0],
        round_trips_us[29],
        round_trips_us[15],
        pump.counters().unwrap()
    );
}
