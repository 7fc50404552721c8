//! Timers of a worker: one comes up and is set anew, with few and with many others waiting; the wheel beside std's
//! heap.
//!
//! Deadlines lie half a second to 32 s ahead, as those of transactions do (T1 to 64·T1, RFC 3261 §17).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hopbench::sip::TimerWheel;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DAY: Duration = Duration::from_secs(86_400);
const WAITING: [usize; 3] = [10, 1_000, 100_000];

/// Deadlines ahead, so many that their repetition is of no use to anybody.
fn delays() -> Vec<Duration> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let delay = |_| Duration::from_micros(random.random_range(500_000..32_000_000));
    (0..1 << 16).map(delay).collect()
}

/// What both can do.
trait Timers {
    fn new(start: Instant) -> Self;
    fn insert(&mut self, at: Instant, key: u64);
    fn next(&self) -> Option<Instant>;
    fn pop_due(&mut self, now: Instant) -> Option<u64>;
}

impl Timers for TimerWheel<u64> {
    fn new(start: Instant) -> Self {
        Self::new(start)
    }
    fn insert(&mut self, at: Instant, key: u64) {
        self.insert(at, key);
    }
    fn next(&self) -> Option<Instant> {
        self.next_deadline()
    }
    fn pop_due(&mut self, now: Instant) -> Option<u64> {
        self.pop_due(now)
    }
}

impl Timers for BinaryHeap<Reverse<(Instant, u64)>> {
    fn new(_: Instant) -> Self {
        Self::new()
    }
    fn insert(&mut self, at: Instant, key: u64) {
        self.push(Reverse((at, key)));
    }
    fn next(&self) -> Option<Instant> {
        self.peek().map(|Reverse((at, _))| *at)
    }
    fn pop_due(&mut self, now: Instant) -> Option<u64> {
        self.next().filter(|at| *at <= now)?;
        self.pop().map(|Reverse((_, key))| key)
    }
}

/// Time goes from deadline to deadline; what comes up is inserted anew.
fn go_on<T: Timers>(waiting: usize) -> impl FnMut() -> u64 {
    let delays = delays();
    let mut start = Instant::now();
    let mut timers = T::new(start);
    let mut turn = 0;
    move || {
        let now = timers.next().unwrap_or(start);
        // With few that wait, months pass in seconds, which is nothing that anybody times.
        if timers.next().is_none() || now - start > DAY {
            start = now;
            timers = T::new(start);
            for (index, delay) in delays.iter().cycle().take(waiting).enumerate() {
                timers.insert(start + *delay, index as u64);
            }
            return 0;
        }
        let key = timers.pop_due(now).expect("it is due");
        turn = (turn + 1) % delays.len();
        timers.insert(now + delays[turn], black_box(key));
        key
    }
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    for waiting in WAITING {
        let mut wheel = go_on::<TimerWheel<u64>>(waiting);
        group.bench_function(BenchmarkId::new("wheel", waiting), |bencher| {
            bencher.iter(&mut wheel);
        });
        let mut heap = go_on::<BinaryHeap<Reverse<(Instant, u64)>>>(waiting);
        group.bench_function(BenchmarkId::new("heap", waiting), |bencher| {
            bencher.iter(&mut heap);
        });
    }
    group.finish();
}

criterion_group!(benches, timers);
criterion_main!(benches);
