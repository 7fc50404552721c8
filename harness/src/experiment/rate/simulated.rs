//! The closed forms against operations that pass an emulated link in virtual time.

use std::time::{Duration, Instant};

use hopbench::net::link::{Link, LinkConditions};

use super::footprint::Footprint;

/// Sizes of the packets of an operation. Each is sent when the one before has arrived: the first, third, …
/// onward.
const DIALOGUE: [usize; 8] = [60, 60, 560, 1_500, 120, 900, 640, 480];
const RATE: u64 = 64_000;

/// What came of operations that began at equal distances.
struct Played {
    /// How long each took, in the order of their beginnings; `None` of those that lost a packet.
    latencies: Vec<Option<Duration>>,
}

/// A packet carries the number of its operation and its place in the dialogue.
fn packet(operation: u32, place: usize) -> Vec<u8> {
    let mut packet = vec![0; DIALOGUE[place]];
    packet[..4].copy_from_slice(&operation.to_be_bytes());
    packet[4] = place as u8;
    packet
}

fn play(operations: u32, gap: Duration, queue_bytes: u32) -> Played {
    let conditions = LinkConditions {
        rate_bits_per_second: Some(RATE),
        queue_bytes,
        ..LinkConditions::default()
    };
    let mut links = [1, 2].map(|seed| Link::new(conditions, seed).expect("sound conditions"));
    let zero = Instant::now();
    let begins = |operation: u32| zero + gap * operation;
    let mut played = Played {
        latencies: vec![None; operations as usize],
    };
    let mut next = 0;
    loop {
        let due = links.iter().filter_map(Link::deadline).min();
        let begin = (next < operations).then(|| begins(next));
        let Some(now) = due.into_iter().chain(begin).min() else {
            return played;
        };
        if begin == Some(now) {
            links[0].offer(now, &packet(next, 0));
            next += 1;
        }
        for direction in 0..2 {
            let mut arrived = Vec::new();
            while let Some(packet) = links[direction].poll(now) {
                let number = packet[..4].try_into().expect("four bytes");
                arrived.push((u32::from_be_bytes(number), usize::from(packet[4])));
            }
            for (operation, place) in arrived {
                if place + 1 < DIALOGUE.len() {
                    links[1 - direction].offer(now, &packet(operation, place + 1));
                } else {
                    played.latencies[operation as usize] = Some(now - begins(operation));
                }
            }
        }
    }
}

fn footprint() -> Footprint {
    let bytes = |first: usize| DIALOGUE.iter().skip(first).step_by(2).sum::<usize>() as u64;
    Footprint::new(bytes(0), bytes(1), 1)
}

#[test]
fn an_operation_alone_takes_as_long_as_its_bytes() {
    let played = play(5, Duration::from_secs(2), 10_000);
    let expected = footprint().serialised_seconds(RATE);
    for latency in played.latencies {
        let found = latency.expect("none is lost").as_secs_f64();
        assert!((found - expected).abs() < 1e-6, "{found} s, {expected} s");
    }
}

#[test]
fn as_many_fit_as_the_fuller_direction_lets_through() {
    let predicted = footprint().predicted_per_second(RATE);
    // The answers are longer than the questions.
    assert!((predicted - 64_000.0 / (8.0 * 2_940.0)).abs() < 1e-9);
    let alone = footprint().serialised_seconds(RATE);
    // Of 200 operations, so many times as long as one alone takes.
    let slowest = |share: f64| {
        let gap = Duration::from_secs_f64(1.0 / (share * predicted));
        let latencies = play(200, gap, u32::MAX).latencies;
        let latencies = latencies.iter().map(|it| it.expect("no queue is full"));
        latencies.max().expect("there are some").as_secs_f64() / alone
    };
    assert!(slowest(0.95) < 4.0, "no queue grows: {}", slowest(0.95));
    assert!(slowest(1.1) > 8.0, "a queue grows: {}", slowest(1.1));
}
