//! What one more connection holds on the heap, in bytes: each stack at each stage that takes no waiting,
//! client and server apart; and under it the bare cryptography, which no stack gets below.
//!
//! Each figure is a slope over a number of connections, of counted allocations: repeated measurements
//! differ by what a connection happens to hold when it is looked at, not by how fast the machine is.

#[path = "common/ends.rs"]
mod ends;

use std::cell::{Cell, LazyCell};
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use ends::{CONNECTIONS, HeapBytes, bytes_of_both, heap_bytes_per_connection};
use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::load::Stage;
use hopbench::measure::heap::{self, CountingAllocator};
use hopbench::transport::{Settings, stacks};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes of the live heap in place of time.
struct LiveHeap;

impl Measurement for LiveHeap {
    type Intermediate = i64;
    type Value = i64;

    fn start(&self) -> i64 {
        live_bytes()
    }

    fn end(&self, start: i64) -> i64 {
        live_bytes() - start
    }

    fn add(&self, one: &i64, other: &i64) -> i64 {
        one + other
    }

    fn zero(&self) -> i64 {
        0
    }

    fn to_f64(&self, bytes: &i64) -> f64 {
        *bytes as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Bytes
    }
}

/// Writes whole bytes, up to where they become hard to read.
struct Bytes;

const KIB: f64 = 1024.0;

impl Bytes {
    fn scale(typical: f64) -> (f64, &'static str) {
        match typical {
            ..10_240.0 => (1.0, "B"),
            10_240.0..10_485_760.0 => (KIB, "KiB"),
            _ => (KIB * KIB, "MiB"),
        }
    }
}

impl ValueFormatter for Bytes {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (unit_bytes, unit) = Self::scale(typical);
        values.iter_mut().for_each(|value| *value /= unit_bytes);
        unit
    }

    /// No bench here has a throughput.
    fn scale_throughputs(&self, typical: f64, _: &Throughput, values: &mut [f64]) -> &'static str {
        self.scale_values(typical, values)
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "B"
    }
}

fn live_bytes() -> i64 {
    heap::process().expect("the allocator counts").live_bytes
}

/// How often a stack is measured at a stage. A measurement takes two threads, of which the meter knows
/// some hundred apart; more would tell no more.
const REPEATS: usize = 3;

/// A row whose every sample is `bytes` anew.
fn row(group: &mut BenchmarkGroup<'_, LiveHeap>, name: &str, bytes: impl Fn() -> i64) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            bytes() * i64::try_from(iterations).expect("a few iterations")
        });
    });
}

fn connections(criterion: &mut Criterion<LiveHeap>) {
    type Side = fn(&HeapBytes) -> i64;
    let client: Side = |heap| heap.client;
    let server: Side = |heap| heap.server;
    let settings = Settings::generate(2 * CONNECTIONS).expect("random numbers");
    for stage in [Stage::Handshaken, Stage::Registered, Stage::InCall] {
        // One measurement is of both sides.
        let measured: Vec<_> = stacks()
            .iter()
            .map(|stack| {
                let settings = &settings;
                LazyCell::new(move || {
                    [(); REPEATS].map(|()| heap_bytes_per_connection(stack, settings, stage))
                })
            })
            .collect();
        for (side, of) in [("client", client), ("server", server)] {
            let name = format!("heap per connection/{}, {side}", stage.name());
            let mut group = criterion.benchmark_group(name);
            group.sampling_mode(SamplingMode::Flat);
            for (stack, measured) in stacks().iter().zip(&measured) {
                // A server of datagrams knows nothing of who has only opened a socket.
                let is_nothing = !stack.is_stream() && !stack.protected;
                if is_nothing && stage == Stage::Handshaken && side == "server" {
                    continue;
                }
                let turn = Cell::new(0);
                row(&mut group, stack.name, || {
                    turn.set((turn.get() + 1) % REPEATS);
                    of(&measured[turn.get()])
                });
            }
            group.finish();
        }
    }
}

/// Both ends of each in memory, boxed.
fn floors(criterion: &mut Criterion<LiveHeap>) {
    let settings = Settings::generate(0).expect("random numbers");
    let tls = settings.tls.expect("generated");
    let mut group = criterion.benchmark_group("heap per connection/floor");
    group.sampling_mode(SamplingMode::Flat);
    for (carrier, is_mutual) in [("tls", false), ("mtls", true)] {
        let ends = TlsEnds::new(&tls, is_mutual);
        let connect = || {
            let (client, server) = ends.connect();
            (Box::new(client), Box::new(server))
        };
        row(&mut group, &format!("rustls {carrier} client"), || {
            bytes_of_both(connect).client
        });
        row(&mut group, &format!("rustls {carrier} server"), || {
            bytes_of_both(connect).server
        });
    }
    let ends = WireguardEnds::new();
    row(&mut group, "boringtun client", || {
        bytes_of_both(|| ends.connect()).client
    });
    row(&mut group, "boringtun server", || {
        bytes_of_both(|| ends.connect()).server
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(LiveHeap)
        // There is nothing to warm up, and a figure that is there already takes no time.
        .warm_up_time(Duration::from_nanos(1))
        .measurement_time(Duration::from_millis(10))
        .sample_size(10);
    targets = floors, connections
}
criterion_main!(benches);
