//! What the meters themselves cost on the paths where they run all the time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hopbench::measure::heap::{self, CountingAllocator, Part};
use hopbench::measure::histogram::{LatencyHistogram, ThroughputWindows};
use hopbench::measure::snapshot::ProcessSnapshot;

fn allocate_and_free(allocator: &impl GlobalAlloc) {
    let layout = Layout::from_size_align(64, 8).expect("64 bytes aligned to 8 are a layout");
    // SAFETY: the size is not zero, and the block is freed once, with the layout it was given for.
    unsafe {
        let block = black_box(allocator.alloc(black_box(layout)));
        allocator.dealloc(block, layout);
    }
}

/// The allocators are called by name, so that one process can compare them; which of them is the
/// global one does not matter.
fn counting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heap/allocate and free 64 B");
    group.bench_function("system", |bencher| {
        bencher.iter(|| allocate_and_free(&System))
    });
    group.bench_function("counted", |bencher| {
        bencher.iter(|| allocate_and_free(&CountingAllocator));
    });
    group.finish();
}

/// Runs last: once blocks are traced, they are to the end.
fn tracing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heap/allocate and free 64 B");
    group.bench_function("counted, in a scope", |bencher| {
        bencher.iter(|| {
            let _scope = heap::part(black_box(Part::Buffers));
            allocate_and_free(&CountingAllocator);
        });
    });
    heap::trace();
    group.bench_function("traced", |bencher| {
        bencher.iter(|| allocate_and_free(&CountingAllocator));
    });
    group.finish();
}

fn recording(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record one operation");
    let start = Instant::now();
    group.bench_function("latency", |bencher| {
        let mut latencies = LatencyHistogram::new();
        let mut sample_ns = 1_u64;
        bencher.iter(|| {
            sample_ns = sample_ns
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            latencies.record_ns(sample_ns >> 40);
        });
    });
    group.bench_function("window", |bencher| {
        let mut windows = ThroughputWindows::new(start);
        bencher.iter(|| windows.record(black_box(start + Duration::from_millis(250))));
    });
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("process snapshot");
    group.bench_function("whole", |bencher| bencher.iter(ProcessSnapshot::take));
    group.bench_function("without rss", |bencher| {
        bencher.iter(ProcessSnapshot::take_without_rss)
    });
    group.finish();
}

criterion_group!(benches, counting, recording, snapshot, tracing);
criterion_main!(benches);
