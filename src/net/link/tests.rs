//! A link in virtual time, against closed forms. Seeds are fixed: what holds once holds always.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const SEED: u64 = 2_026;
const MS: Duration = Duration::from_millis(1);
/// Standard errors on either side of what is expected: passed by one seed in 10,000.
const ERRORS: f64 = 3.9;

fn link(conditions: LinkConditions) -> Link {
    Link::new(conditions, SEED).unwrap()
}

/// Packets of `bytes`, each with its number in front, offered `gap` apart.
fn offer(link: &mut Link, start: Instant, count: u32, gap: Duration, bytes: usize) -> Vec<Fate> {
    let mut packet = vec![0; bytes.max(4)];
    let fates = (0..count).map(|number| {
        packet[..4].copy_from_slice(&number.to_be_bytes());
        link.offer(start + gap * number, &packet)
    });
    fates.collect()
}

/// Everything that comes out: numbers of packets, and when each arrived.
fn drain(link: &mut Link) -> Vec<(u32, Instant)> {
    let mut arrived = Vec::new();
    while let Some(at) = link.deadline() {
        while let Some(packet) = link.poll(at) {
            let number = packet[..4].try_into().unwrap();
            arrived.push((u32::from_be_bytes(number), at));
        }
    }
    arrived
}

/// How far `found` out of `count` is from `ratio`, in standard errors.
fn binomial_errors(found: usize, count: usize, ratio: f64) -> f64 {
    let (found, count) = (found as f64, count as f64);
    (found - count * ratio).abs() / (count * ratio * (1.0 - ratio)).sqrt()
}

fn lost(fates: &[Fate]) -> usize {
    fates.iter().filter(|fate| **fate == Fate::Lost).count()
}

#[test]
fn a_perfect_link_passes_everything_on_at_once() {
    let mut link = link(LinkConditions::default());
    let now = Instant::now();
    assert_eq!(link.offer(now, b"packet"), Fate::UnderWay);
    assert_eq!(link.deadline(), Some(now));
    assert_eq!(link.poll(now).unwrap(), b"packet");
    assert_eq!(link.poll(now), None);
    assert_eq!(link.deadline(), None);
}

#[test]
fn the_delay_is_exact() {
    let conditions = LinkConditions::with_round_trip_ms(50.0);
    let mut link = link(conditions);
    let now = Instant::now();
    link.offer(now, b"one");
    link.offer(now + MS, b"two");
    let arrival = now + 25 * MS;
    assert_eq!(link.deadline(), Some(arrival));
    assert_eq!(link.poll(arrival - Duration::from_nanos(1)), None);
    assert_eq!(link.poll(arrival).unwrap(), b"one");
    assert_eq!(link.poll(arrival), None);
    assert_eq!(link.deadline(), Some(arrival + MS));
    assert_eq!(link.poll(arrival + 10 * MS).unwrap(), b"two");
    assert_eq!(link.in_flight(), 0);
}

#[test]
fn independent_loss_is_within_its_binomial_interval() {
    const COUNT: u32 = 100_000;
    for ratio in [0.005, 0.02, 0.05, 0.5] {
        let mut link = link(LinkConditions {
            loss: Loss::Independent { ratio },
            ..LinkConditions::default()
        });
        let fates = offer(&mut link, Instant::now(), COUNT, MS, 100);
        let errors = binomial_errors(lost(&fates), fates.len(), ratio);
        assert!(errors < ERRORS, "{ratio}: {errors} standard errors");
        // A loss does not make the next one likelier.
        let after_loss: Vec<_> = fates
            .windows(2)
            .filter(|pair| pair[0] == Fate::Lost)
            .collect();
        let again = after_loss.iter().filter(|pair| pair[1] == Fate::Lost);
        let errors = binomial_errors(again.count(), after_loss.len(), ratio);
        assert!(
            errors < ERRORS,
            "{ratio}: {errors} standard errors after a loss"
        );
        assert_eq!(drain(&mut link).len(), fates.len() - lost(&fates));
    }
}

#[test]
fn bursts_have_the_share_and_the_mean_length_that_were_asked() {
    const COUNT: u32 = 400_000;
    for (ratio, burst_packets) in [(0.01, 2.0), (0.02, 5.0), (0.2, 10.0)] {
        let loss = Loss::bursts(ratio, burst_packets).unwrap();
        let Loss::GilbertElliott {
            good_to_bad_ratio: p,
            bad_to_good_ratio: r,
            ..
        } = loss
        else {
            panic!("{loss:?}");
        };
        let mut link = link(LinkConditions {
            loss,
            ..LinkConditions::default()
        });
        let fates = offer(&mut link, Instant::now(), COUNT, MS, 100);
        // Successive packets of the chain correlate by 1 − p − r, which widens the interval.
        let correlation = 1.0 - p - r;
        let widening = ((1.0 + correlation) / (1.0 - correlation)).sqrt();
        let errors = binomial_errors(lost(&fates), fates.len(), ratio) / widening;
        assert!(errors < ERRORS, "{ratio}: {errors} standard errors");
        let bursts = fates.chunk_by(|one, next| one == next);
        let bursts: Vec<_> = bursts
            .filter(|run| run[0] == Fate::Lost)
            .map(<[Fate]>::len)
            .collect();
        let mean = bursts.iter().sum::<usize>() as f64 / bursts.len() as f64;
        // Lengths are geometric: their variance is (1 − r) ÷ r².
        let error = ((1.0 - r) / (r * r) / bursts.len() as f64).sqrt();
        let errors = (mean - burst_packets).abs() / error;
        assert!(errors < ERRORS, "{mean} packets, {errors} standard errors");
    }
}

#[test]
fn both_states_of_gilbert_and_elliott_may_lose() {
    let loss = Loss::GilbertElliott {
        good_to_bad_ratio: 0.1,
        bad_to_good_ratio: 0.4,
        good_loss_ratio: 0.01,
        bad_loss_ratio: 0.6,
    };
    let mean = 0.2 * 0.6 + 0.8 * 0.01;
    assert!((loss.mean_ratio() - mean).abs() < 1e-12);
    let mut link = link(LinkConditions {
        loss,
        ..LinkConditions::default()
    });
    let fates = offer(&mut link, Instant::now(), 200_000, MS, 100);
    // Correlated by 0.5 at most.
    let errors = binomial_errors(lost(&fates), fates.len(), mean) / 3.0f64.sqrt();
    assert!(errors < ERRORS, "{errors} standard errors");
}

#[test]
fn jitter_has_the_moments_of_its_distribution_and_keeps_the_order() {
    const COUNT: u32 = 50_000;
    let cases = [
        (Jitter::Uniform, 0.0, 1.0 / 3.0f64.sqrt()),
        (Jitter::Normal, 0.0, 1.0),
        (Jitter::Exponential, 1.0, 1.0),
    ];
    for (jitter, mean, deviation) in cases {
        let conditions = LinkConditions {
            one_way_delay_ms: 20.0,
            one_way_jitter_ms: 4.0,
            jitter,
            ..LinkConditions::default()
        };
        let start = Instant::now();
        // So far apart that none meets another.
        let gap = 200 * MS;
        let mut far = link(conditions);
        offer(&mut far, start, COUNT, gap, 100);
        let delays: Vec<f64> = drain(&mut far)
            .into_iter()
            .map(|(number, at)| (at - start - gap * number).as_secs_f64() * 1e3)
            .collect();
        let count = delays.len() as f64;
        let found = delays.iter().sum::<f64>() / count;
        let errors = (found - (20.0 + 4.0 * mean)).abs() / (4.0 * deviation / count.sqrt());
        assert!(
            errors < ERRORS,
            "{jitter:?}: {errors} standard errors of the mean"
        );
        let squares = delays.iter().map(|delay| (delay - found).powi(2));
        let found = (squares.sum::<f64>() / count).sqrt();
        assert!(
            (found / (4.0 * deviation) - 1.0).abs() < 0.03,
            "{jitter:?}: {found} ms"
        );
        // So close together that they would pass each other.
        let mut near = link(conditions);
        offer(&mut near, start, COUNT, MS / 10, 100);
        assert!(
            drain(&mut near).is_sorted_by_key(|(number, _)| *number),
            "{jitter:?}"
        );
    }
}

#[test]
fn what_is_held_back_is_passed_by_what_was_sent_meanwhile() {
    const COUNT: u32 = 20_000;
    let mut link = link(LinkConditions {
        one_way_delay_ms: 10.0,
        held_back_ratio: 0.05,
        held_back_one_way_ms: 5.5,
        ..LinkConditions::default()
    });
    let start = Instant::now();
    offer(&mut link, start, COUNT, MS, 100);
    let arrived = drain(&mut link);
    assert_eq!(arrived.len(), COUNT as usize);
    let late = |(number, at): &(u32, Instant)| *at - start - MS * *number > 10 * MS;
    let held_back = arrived.iter().filter(|arrival| late(arrival)).count();
    let errors = binomial_errors(held_back, COUNT as usize, 0.05);
    assert!(errors < ERRORS, "{errors} standard errors");
    assert_eq!(link.counters().held_back, held_back as u64);
    for (place, (number, at)) in arrived.iter().enumerate() {
        let passed_by = arrived[..place]
            .iter()
            .rev()
            .take(10)
            .filter(|(other, _)| other > number);
        if *at - start - MS * *number > 10 * MS {
            assert_eq!(*at - start - MS * *number, Duration::from_micros(15_500));
            // Five are sent meanwhile, unless they are held back as well.
            assert!(passed_by.count() <= 5, "{number}");
        } else {
            assert_eq!(passed_by.count(), 0, "{number}");
        }
    }
}

#[test]
fn doubled_packets_come_in_pairs() {
    const COUNT: u32 = 20_000;
    let mut link = link(LinkConditions {
        duplicated_ratio: 0.1,
        ..LinkConditions::default()
    });
    offer(&mut link, Instant::now(), COUNT, MS, 100);
    let arrived = drain(&mut link);
    let doubled = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(arrived.len(), COUNT as usize + doubled);
    assert_eq!(link.counters().duplicated, doubled as u64);
    let errors = binomial_errors(doubled, COUNT as usize, 0.1);
    assert!(errors < ERRORS, "{errors} standard errors");
}

#[test]
fn the_rate_is_what_was_asked_and_the_queue_bounds_the_wait() {
    let start = Instant::now();
    for (rate, bytes) in [
        (64_000, 200),
        (1_000_000, 1_500),
        (10_000_000, 700),
        (1_000_000_000, 1_500),
    ] {
        let queue_bytes = 30_000;
        let mut link = link(LinkConditions {
            rate_bits_per_second: Some(rate),
            queue_bytes,
            ..LinkConditions::default()
        });
        // Twice as much as there is room for.
        let gap = Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64 / 2.0);
        let fates = offer(&mut link, start, 5_000, gap, bytes);
        let arrived = drain(&mut link);
        let taken = fates.iter().filter(|fate| **fate == Fate::UnderWay).count();
        assert_eq!(taken, arrived.len());
        let seconds = (arrived.last().unwrap().1 - arrived[0].1).as_secs_f64();
        let found = (arrived.len() - 1) as f64 * bytes as f64 * 8.0 / seconds;
        assert!(
            (found / rate as f64 - 1.0).abs() < 0.01,
            "{found} of {rate} bit/s"
        );
        let queue = Duration::from_secs_f64(f64::from(queue_bytes) * 8.0 / rate as f64);
        let waits = arrived
            .iter()
            .map(|(number, at)| *at - start - gap * *number);
        let longest = waits.max().unwrap();
        assert!(
            longest <= queue + Duration::from_micros(10),
            "{longest:?} of {queue:?}"
        );
        assert!(
            longest + gap * 4 >= queue,
            "{longest:?}: the queue was never full"
        );
        assert!(arrived.is_sorted_by_key(|(number, _)| *number));
    }
}

#[test]
fn a_burst_fills_the_queue_to_the_byte() {
    let mut link = link(LinkConditions {
        rate_bits_per_second: Some(8_000),
        queue_bytes: 3_000,
        ..LinkConditions::default()
    });
    let now = Instant::now();
    let fates = offer(&mut link, now, 4, Duration::ZERO, 1_000);
    let took = Fate::UnderWay;
    assert_eq!(fates, [took, took, took, Fate::QueueFull]);
    // A second later one has been sent.
    assert_eq!(link.offer(now + Duration::from_secs(1), &[0; 1_000]), took);
    let seconds: Vec<u64> = drain(&mut link)
        .iter()
        .map(|(_, at)| (*at - now).as_secs())
        .collect();
    assert_eq!(seconds, [1, 2, 3, 4]);
}

#[test]
fn what_is_lost_has_taken_its_share_of_the_rate() {
    let mut link = link(LinkConditions {
        rate_bits_per_second: Some(8_000),
        loss: Loss::Independent { ratio: 1.0 },
        queue_bytes: 1_500,
        ..LinkConditions::default()
    });
    let now = Instant::now();
    assert_eq!(link.offer(now, &[0; 1_000]), Fate::Lost);
    assert_eq!(link.offer(now, &[0; 1_000]), Fate::QueueFull);
}

#[test]
fn longer_packets_than_the_mtu_do_not_pass() {
    let mut link = link(LinkConditions {
        mtu_bytes: 1_280,
        ..LinkConditions::default()
    });
    let now = Instant::now();
    assert_eq!(link.offer(now, &[0; 1_280]), Fate::UnderWay);
    assert_eq!(link.offer(now, &[0; 1_281]), Fate::TooLong);
    assert_eq!(link.counters().too_long, 1);
}

#[test]
fn fates_follow_from_the_seed_alone() {
    let conditions = LinkConditions {
        loss: Loss::bursts(0.1, 2.0).unwrap(),
        duplicated_ratio: 0.1,
        held_back_ratio: 0.1,
        held_back_one_way_ms: 3.0,
        one_way_delay_ms: 10.0,
        one_way_jitter_ms: 5.0,
        ..LinkConditions::default()
    };
    let fates = |seed, gap| {
        let mut link = Link::new(conditions, seed).unwrap();
        let fates = offer(&mut link, Instant::now(), 1_000, gap, 100);
        (fates, link.counters())
    };
    // Whatever the time.
    assert_eq!(fates(1, MS), fates(1, MS * 7));
    assert_ne!(fates(1, MS), fates(2, MS));
}

proptest! {
    #[test]
    fn every_packet_is_accounted_for(
        loss in 0.0..1.0f64,
        duplicated_ratio in 0.0..1.0f64,
        held_back_ratio in 0.0..1.0f64,
        rate in proptest::option::of(10_000..10_000_000u64),
        gaps_us in proptest::collection::vec((0..2_000u64, 20..1_600usize), 0..200),
    ) {
        let mut link = link(LinkConditions {
            one_way_delay_ms: 1.0,
            one_way_jitter_ms: 1.0,
            loss: Loss::Independent { ratio: loss },
            duplicated_ratio,
            held_back_ratio,
            held_back_one_way_ms: 1.0,
            rate_bits_per_second: rate,
            queue_bytes: 5_000,
            ..LinkConditions::default()
        });
        let mut now = Instant::now();
        let mut arrived = 0;
        for (gap_us, bytes) in gaps_us {
            now += Duration::from_micros(gap_us);
            link.offer(now, &vec![0; bytes]);
            while let Some(packet) = link.poll(now) {
                prop_assert!(packet.len() <= 1_500);
                arrived += 1;
            }
            prop_assert!(link.deadline().is_none_or(|deadline| deadline > now));
        }
        arrived += drain(&mut link).len() as u64;
        let LinkCounters { offered, delivered, lost, queue_full, too_long, duplicated, .. } =
            link.counters();
        prop_assert_eq!(arrived, delivered);
        prop_assert_eq!(offered, delivered - duplicated + lost + queue_full + too_long);
    }
}
