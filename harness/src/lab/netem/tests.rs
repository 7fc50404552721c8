//! The kernel's emulator against what was asked for, where the kernel has it.

#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use hopbench::net::link::Loss;

use super::super::tests::lab_is_possible;
use super::*;

const PORT: u16 = 5_060;
/// IP and UDP.
const HEADERS_BYTES: u64 = 28;
/// Longer than anything here is under way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two places, a socket at each, and a link between them.
struct Site {
    link: Netem,
    sockets: [UdpSocket; 2],
}

impl Site {
    /// `None` where there can be none and it is not required.
    fn with(conditions: &LinkConditions) -> Option<Self> {
        if !lab_is_possible() {
            return None;
        }
        if let Err(missing) = probe() {
            let told = missing.to_string();
            assert!(told.contains("modprobe sch_netem"), "{told}");
            let is_required = std::env::var("HOPBENCH_REQUIRE_KERNEL").as_deref() == Ok("1");
            assert!(!is_required, "{told}");
            eprintln!("skipped: {told}");
            return None;
        }
        let namespaces = [(); 2].map(|()| Namespace::create().unwrap());
        let ends = [0, 1].map(|place: usize| End {
            namespace: &namespaces[place],
            name: "hop0",
            address: address(place),
        });
        let link = Netem::join(ends, 30, conditions).unwrap();
        let sockets = [0, 1].map(|place: usize| {
            let bound =
                namespaces[place].run(|| Ok(UdpSocket::bind((address(place), PORT)).unwrap()));
            let socket = bound.unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        Some(Self { link, sockets })
    }

    fn send(&self, place: usize, payload: &[u8]) {
        let to = (address(1 - place), PORT);
        let sent = self.sockets[place].send_to(payload, to).unwrap();
        assert_eq!(sent, payload.len());
    }

    /// What arrives within `patience`.
    fn received(&self, place: usize, patience: Duration) -> Option<Vec<u8>> {
        let socket = &self.sockets[place];
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 2_048];
        match socket.recv(&mut buffer) {
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        }
    }

    /// How many of so many datagrams arrive, which are sent a few at a time.
    fn arriving(&self, sent: usize) -> usize {
        let mut arrived = 0;
        for _ in 0..sent / 100 {
            (0..100).for_each(|_| self.send(0, b"datagram"));
            while self.received(1, Duration::from_millis(50)).is_some() {
                arrived += 1;
            }
        }
        // What a busy machine has kept until now.
        while self.received(1, Duration::from_secs(1)).is_some() {
            arrived += 1;
        }
        arrived
    }
}

fn address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, if place == 0 { 1 } else { 2 })
}

/// As for hopbench's own emulator: a machine that is busy adds to a round trip but takes nothing away.
#[test]
fn a_one_way_delay_of_50_ms_is_a_round_trip_of_100_ms() {
    let Some(site) = Site::with(&LinkConditions::with_round_trip_ms(100.0)) else {
        return;
    };
    // Asks again and again instead of sleeping: what it takes to be woken is not the link's.
    let receive = |place: usize| {
        let asked = Instant::now();
        while let Err(error) = site.sockets[place].recv(&mut [0; 9]) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert!(asked.elapsed() < PATIENCE, "nothing comes");
            std::hint::spin_loop();
        }
    };
    let sockets = site.sockets.iter();
    sockets.for_each(|socket| socket.set_nonblocking(true).unwrap());
    let mut shortest_ms = f64::INFINITY;
    for _ in 0..600 {
        let sent = Instant::now();
        site.send(0, b"there");
        receive(1);
        site.send(1, b"back");
        receive(0);
        let excess_ms = sent.elapsed().as_secs_f64() * 1e3 - 100.0;
        assert!(excess_ms >= 0.0, "100 ms and {excess_ms:.3} ms");
        shortest_ms = shortest_ms.min(excess_ms);
        if shortest_ms < 0.5 {
            return;
        }
    }
    panic!("never less than 100 ms and {shortest_ms:.3} ms");
}

/// Of 2,000, each with a probability of its own: within five standard deviations.
#[test]
fn as_many_are_lost_as_are_meant_to_be() {
    let sent = 2_000;
    for (loss, deviations) in [
        (Loss::Independent { ratio: 0.2 }, 5.0),
        // Bursts of two on average make a sum vary more: by √(1 + 2·ρ/(1 − ρ)) with ρ = 1 − 0.125 − 0.5.
        (Loss::bursts(0.2, 2.0).unwrap(), 5.0 * 1.5),
    ] {
        let conditions = LinkConditions {
            loss,
            ..LinkConditions::default()
        };
        let Some(site) = Site::with(&conditions) else {
            return;
        };
        let lost = (sent - site.arriving(sent)) as f64;
        let expected = 0.2 * sent as f64;
        let allowed = deviations * (expected * 0.8).sqrt();
        assert!(
            (lost - expected).abs() < allowed,
            "{lost} of {sent}, {loss:?}"
        );
        // What is lost on purpose nobody counts as it enters.
        assert_eq!(site.link.reading().unwrap(), None);
    }
}

#[test]
fn copies_arrive_where_they_are_asked_for() {
    let conditions = LinkConditions {
        duplicated_ratio: 1.0,
        ..LinkConditions::default()
    };
    let Some(site) = Site::with(&conditions) else {
        return;
    };
    assert_eq!(site.arriving(200), 400);
}

#[test]
fn who_is_held_back_is_passed_by_others_and_who_is_jittered_is_not() {
    let disordered = |conditions: &LinkConditions| {
        let site = Site::with(conditions)?;
        let numbers = 0..200_u8;
        numbers.clone().for_each(|number| site.send(0, &[number]));
        let arrived = numbers.map(|_| site.received(1, PATIENCE).unwrap()[0]);
        let arrived: Vec<u8> = arrived.collect();
        let behind = arrived.windows(2).filter(|pair| pair[0] > pair[1]);
        Some(behind.count())
    };
    let held_back = LinkConditions {
        held_back_ratio: 0.2,
        held_back_one_way_ms: 300.0,
        ..LinkConditions::default()
    };
    let jitter = LinkConditions {
        one_way_delay_ms: 20.0,
        one_way_jitter_ms: 10.0,
        ..LinkConditions::default()
    };
    let (Some(passed), Some(kept)) = (disordered(&held_back), disordered(&jitter)) else {
        return;
    };
    assert!(passed > 0);
    assert_eq!(kept, 0);
}

/// 8,000 bytes a second, a queue of ten packets.
#[test]
fn a_rate_has_a_queue_and_what_finds_it_full_is_counted() {
    let conditions = LinkConditions {
        rate_bits_per_second: Some(64_000),
        queue_bytes: 15_000,
        ..LinkConditions::default()
    };
    let Some(site) = Site::with(&conditions) else {
        return;
    };
    let payload = [0; 172];
    let packet_bytes = payload.len() as u64 + HEADERS_BYTES;
    let sent = Instant::now();
    // More than pass while they are sent, on any machine: 40 a second do.
    (0..500).for_each(|_| site.send(0, &payload));
    site.received(1, PATIENCE).unwrap();
    let mut arrived = 1;
    while site.received(1, Duration::from_secs(1)).is_some() {
        arrived += 1;
    }
    let took = sent.elapsed();
    let reading = site.link.reading().unwrap().unwrap();
    assert_eq!(reading.onward.packets, arrived);
    assert_eq!(reading.onward.bytes, arrived * packet_bytes);
    assert_eq!(reading.queue_full, 500 - arrived);
    assert!(arrived >= 10, "{arrived}");
    // None is sooner there than its bytes take.
    let least = Duration::from_secs_f64(arrived as f64 * packet_bytes as f64 / 8_000.0);
    assert!(took >= least, "{arrived} in {took:?}, not {least:?}");

    // At full width none waits.
    site.link.set_rate(None).unwrap();
    (0..100).for_each(|_| site.send(0, &payload));
    (0..100).for_each(|_| drop(site.received(1, PATIENCE).unwrap()));
    site.link.set_rate(Some(64_000)).unwrap();
    assert_eq!(
        site.link.reading().unwrap().unwrap().queue_full,
        500 - arrived
    );
}
