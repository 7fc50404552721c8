//! In the steady state a packet costs an emulated link no allocation, whatever the link does to it.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hopbench::measure::heap::{self, CountingAllocator};
use hopbench::net::link::{Jitter, Link, LinkConditions, Loss};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const GAP: Duration = Duration::from_micros(100);
const PACKETS: u32 = 20_000;

/// Offers packets of all lengths at equal distances and takes out what arrives; how many came out.
fn carry(link: &mut Link, zero: Instant, numbers: std::ops::Range<u32>) -> u64 {
    let packet = [0x45; 1_400];
    let mut delivered = 0;
    for number in numbers {
        let now = zero + GAP * number;
        link.offer(now, &packet[..40 + number as usize % 1_361]);
        while link.poll(now).is_some() {
            delivered += 1;
        }
    }
    delivered
}

#[test]
fn a_packet_costs_no_allocation() {
    let everything = LinkConditions {
        one_way_delay_ms: 20.0,
        one_way_jitter_ms: 5.0,
        jitter: Jitter::Normal,
        loss: Loss::bursts(0.05, 3.0).unwrap(),
        duplicated_ratio: 0.02,
        held_back_ratio: 0.02,
        held_back_one_way_ms: 10.0,
        rate_bits_per_second: Some(50_000_000),
        queue_bytes: 20_000,
        mtu_bytes: 1_300,
    };
    let cases = [
        ("as fast as it comes", LinkConditions::default()),
        ("delayed", LinkConditions::with_round_trip_ms(100.0)),
        ("everything at once", everything),
    ];
    for (name, conditions) in cases {
        let mut link = Link::new(conditions, 7).unwrap();
        let zero = Instant::now();
        // Grows to what it ever needs: more is under way at no time of the same load, up to what is drawn at random.
        carry(&mut link, zero, 0..PACKETS);
        let before = heap::thread().unwrap();
        let delivered = carry(&mut link, zero, PACKETS..2 * PACKETS);
        let after = heap::thread().unwrap();
        assert!(
            delivered > u64::from(PACKETS) / 2,
            "{name}: {delivered} came out"
        );
        let allocations = after.allocations - before.allocations;
        assert_eq!(allocations, 0, "{name}: for {PACKETS} packets");
    }
}
