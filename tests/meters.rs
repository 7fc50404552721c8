//! Calibration: every meter against something that does not share its way of measuring.
//!
//! The tests of one meter must not disturb another's (the heap and resident memory are those of the
//! whole process), so they take turns.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hopbench::measure::heap::{self, CountingAllocator, HeapCount};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::measure::kernel::SocketSlabs;
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::measure::{cpu, malloc, memory, socket};
use hopbench::record::Histogram;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn my_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assert_close(measured: f64, expected: f64, tolerance: f64) {
    let error = (measured - expected).abs() / expected;
    assert!(
        error <= tolerance,
        "measured {measured}, expected {expected} within {} %: off by {} %",
        tolerance * 100.0,
        error * 100.0
    );
}

fn process_heap() -> HeapCount {
    heap::process().expect("the counting allocator is installed")
}

#[test]
fn heap_counts_what_was_asked_for_to_the_byte() {
    let _turn = my_turn();
    let read = || heap::thread().expect("the counting allocator is installed");

    let before = read();
    let blocks: Vec<Box<[u8]>> = {
        let mut blocks = Vec::with_capacity(1_000);
        blocks.resize_with(1_000, || black_box(vec![1_u8; 1_024]).into_boxed_slice());
        blocks
    };
    let held = read();
    let table_bytes = i64::try_from(1_000 * size_of::<Box<[u8]>>()).unwrap();
    assert_eq!(held.live_bytes - before.live_bytes, 1_024_000 + table_bytes);
    assert_eq!(held.allocations - before.allocations, 1_001);
    assert_eq!(held.deallocations, before.deallocations);

    drop(black_box(blocks));
    let after = read();
    assert_eq!(after.live_bytes, before.live_bytes);
    assert_eq!(after.deallocations - before.deallocations, 1_001);
}

#[test]
fn heap_follows_growth_shrinking_and_zeroed_blocks() {
    let _turn = my_turn();
    let live = || heap::thread().unwrap().live_bytes;
    let before = live();
    let mut buffer = black_box(vec![0_u8; 4_096]);
    assert_eq!(live() - before, 4_096);
    buffer.reserve_exact(100_000 - buffer.len());
    assert_eq!(live() - before, 100_000);
    buffer.truncate(10);
    buffer.shrink_to_fit();
    assert_eq!(live() - before, 10);
    drop(black_box(buffer));
    assert_eq!(live(), before);
}

/// Against blocks that C asks for by itself, and against the same in Rust, which both meters see.
#[test]
fn malloc_tells_what_c_allocates_beyond_the_counted_chunks() {
    const BLOCKS: usize = 10_000;
    const BYTES: usize = 200;
    const CHUNK_BYTES: usize = 208;
    /// What threads of the test harness may allocate or free meanwhile, and thread caches keep.
    const SLACK_BYTES: i64 = 64 * 1_024;
    let _turn = my_turn();
    let in_use = || i64::try_from(malloc::in_use_bytes().expect("glibc tells")).unwrap();
    let by_c = || in_use() - process_heap().live_chunk_bytes;
    let expected = i64::try_from(BLOCKS * CHUNK_BYTES).unwrap();

    let (before, counted_before) = (by_c(), process_heap().live_bytes);
    // SAFETY: blocks of C, never read; each is freed below.
    let allocate = || unsafe { libc::malloc(black_box(BYTES)) };
    let blocks: Vec<_> = (0..BLOCKS).map(|_| black_box(allocate())).collect();
    let c_heap_bytes = by_c() - before;
    assert!(
        (c_heap_bytes - expected).abs() < SLACK_BYTES,
        "{c_heap_bytes}"
    );
    let counted = process_heap().live_bytes - counted_before;
    assert!(
        counted < expected / 4,
        "the table of blocks alone: {counted}"
    );
    for block in &blocks {
        // SAFETY: it came from `malloc`, and is freed once.
        unsafe { libc::free(*block) };
    }
    assert!((by_c() - before).abs() < SLACK_BYTES, "{}", by_c() - before);

    let before_rust = (in_use(), by_c());
    let blocks: Vec<_> = (0..BLOCKS).map(|_| black_box(vec![1_u8; BYTES])).collect();
    let table_bytes = i64::try_from(size_of_val(&blocks[..])).unwrap();
    let malloc_bytes = in_use() - before_rust.0 - table_bytes;
    assert!(
        (malloc_bytes - expected).abs() < SLACK_BYTES,
        "{malloc_bytes}"
    );
    assert!(
        (by_c() - before_rust.1).abs() < SLACK_BYTES,
        "none of it is C's"
    );
}

/// What is given back in the middle of an arena stays with malloc: every second block, so that no page
/// of theirs is empty.
#[test]
fn malloc_keeps_what_is_freed_between_blocks() {
    const BLOCKS: usize = 20_000;
    const BYTES: usize = 2_000;
    const CHUNK_BYTES: u64 = 2_016;
    /// As above; thread caches hold seven chunks of a size.
    const SLACK_BYTES: u64 = 64 * 1_024;
    let _turn = my_turn();
    let books = || malloc::books().expect("glibc tells");
    let mut blocks: Vec<Option<Box<[u8]>>> = Vec::with_capacity(BLOCKS);
    blocks.resize_with(BLOCKS, || Some(black_box(vec![1_u8; BYTES]).into()));
    let before = books();
    for block in blocks.iter_mut().step_by(2) {
        *block = None;
    }
    let after = books();
    let freed = BLOCKS as u64 / 2 * CHUNK_BYTES;
    assert!((before.in_use_bytes - after.in_use_bytes).abs_diff(freed) < SLACK_BYTES);
    assert!((after.free_bytes - before.free_bytes).abs_diff(freed) < SLACK_BYTES);
}

/// Within 1 %, since the test's own threads and channels allocate a little as well.
#[test]
fn heap_sums_over_threads_also_when_another_thread_frees() {
    const THREADS: usize = 4;
    const BYTES: usize = 4 << 20;
    let _turn = my_turn();
    let before = process_heap().live_bytes;

    let (sender, blocks) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                let before = heap::thread().unwrap().live_bytes;
                for _ in 0..64 {
                    sender.send(black_box(vec![1_u8; BYTES / 64])).unwrap();
                }
                heap::thread().unwrap().live_bytes - before
            })
        })
        .collect();
    for thread in threads {
        let kept_by_thread = thread.join().unwrap();
        assert!(kept_by_thread >= i64::try_from(BYTES).unwrap());
    }
    #[allow(clippy::cast_precision_loss)]
    {
        // The threads have ended; what they allocated lives on in the channel.
        let held = process_heap().live_bytes - before;
        assert_close(held as f64, (THREADS * BYTES) as f64, 0.01);
    }

    let mine_before = heap::thread().unwrap().live_bytes;
    let freed: usize = blocks.try_iter().map(|block| block.len()).sum();
    assert_eq!(freed, THREADS * BYTES);
    let mine = heap::thread().unwrap().live_bytes - mine_before;
    assert!(
        mine <= -i64::try_from(freed).unwrap(),
        "this thread freed {mine}"
    );
    let left = process_heap().live_bytes - before;
    assert!(left.unsigned_abs() < 100 * 1_024, "{left} bytes are left");
}

#[test]
fn heap_can_be_counted_while_a_thread_ends() {
    static GROWTH_BYTES: AtomicI64 = AtomicI64::new(0);

    struct AllocatesAtTheEnd;
    impl Drop for AllocatesAtTheEnd {
        fn drop(&mut self) {
            let before = heap::thread().unwrap().live_bytes;
            let block = black_box(vec![1_u8; 1_024]);
            GROWTH_BYTES.store(heap::thread().unwrap().live_bytes - before, Relaxed);
            drop(block);
        }
    }
    thread_local! {
        static LAST: AllocatesAtTheEnd = const { AllocatesAtTheEnd };
    }

    let _turn = my_turn();
    thread::spawn(|| LAST.with(|_| ())).join().unwrap();
    assert_eq!(GROWTH_BYTES.load(Relaxed), 1_024);
}

/// User and system time by `getrusage`, which reads the scheduler's books by another system call.
fn getrusage_ns(of: libc::c_int) -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills the whole structure, unless it fails, which is checked.
    let usage = unsafe {
        assert_eq!(libc::getrusage(of, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let ns = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap() * 1_000_000_000
            + u64::try_from(time.tv_usec).unwrap() * 1_000
    };
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Burns processor time until `getrusage` says that this thread has used `ns` more.
fn burn_by_getrusage(ns: u64) {
    let start = getrusage_ns(libc::RUSAGE_THREAD);
    let mut state = 1_u64;
    while getrusage_ns(libc::RUSAGE_THREAD) - start < ns {
        for _ in 0..10_000 {
            state = black_box(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
    }
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn processor_time_of_a_thread_is_that_of_getrusage() {
    let _turn = my_turn();
    let before = cpu::thread_ns();
    burn_by_getrusage(300_000_000);
    assert_close((cpu::thread_ns() - before) as f64, 300e6, 0.05);
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn processor_time_of_the_process_includes_ended_threads_and_no_sleep() {
    let _turn = my_turn();
    let before = ProcessSnapshot::take();
    let by_getrusage = getrusage_ns(libc::RUSAGE_SELF);
    let threads = [(); 2].map(|()| thread::spawn(|| burn_by_getrusage(150_000_000)));
    for thread in threads {
        thread.join().unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    let by_getrusage = getrusage_ns(libc::RUSAGE_SELF) - by_getrusage;
    let used = ProcessSnapshot::take().since(&before);
    assert!(by_getrusage >= 290_000_000, "{by_getrusage}");
    assert_close(used.cpu_ns as f64, by_getrusage as f64, 0.05);
    assert!(used.elapsed_ns >= 100_000_000, "{}", used.elapsed_ns);
}

/// The injected delay is what another clock says that it was, since a sleep may overrun. A reading
/// counts only if the two clocks were read at almost the same moment: this thread may lose the
/// processor, or the wall clock be set, between one and the other.
#[test]
fn an_injected_delay_is_measured_within_a_millisecond() {
    let _turn = my_turn();
    let read_clocks = || {
        loop {
            let before = Instant::now();
            let wall = SystemTime::now();
            let after = Instant::now();
            if after - before < Duration::from_micros(100) {
                return (after, wall);
            }
        }
    };
    for injected in [Duration::from_millis(20), Duration::from_millis(3)] {
        let mut latencies = LatencyHistogram::new();
        let (start, wall_start) = read_clocks();
        thread::sleep(injected);
        let (end, wall_end) = read_clocks();
        latencies.record_between(start, end);

        let measured = Duration::from_nanos(latencies.median_ns().unwrap());
        let by_wall_clock = wall_end.duration_since(wall_start).unwrap();
        let error = measured.abs_diff(by_wall_clock);
        assert!(
            error < Duration::from_millis(1),
            "measured {measured:?}, injected {by_wall_clock:?}"
        );
        assert!(measured >= injected, "{measured:?} < {injected:?}");
    }
}

#[test]
fn a_recorded_histogram_is_the_one_that_was_measured() {
    let _turn = my_turn();
    let mut latencies = LatencyHistogram::new();
    let mut sample_ns = 1_u64;
    for _ in 0..100_000 {
        sample_ns = sample_ns
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        latencies.record_ns(sample_ns >> (24 + sample_ns % 32));
    }
    let json = serde_json::to_string(&Histogram::from(&latencies)).unwrap();
    let recorded: Histogram = serde_json::from_str(&json).unwrap();
    assert_eq!(recorded.count, 100_000);
    assert_eq!(LatencyHistogram::try_from(&recorded).unwrap(), latencies);
    assert_eq!(Histogram::from(&latencies), recorded);
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn resident_memory_grows_by_what_is_touched() {
    const BYTES: usize = 64 << 20;
    let _turn = my_turn();
    let before = memory::resident_bytes().unwrap();
    let mut block: Vec<u8> = Vec::with_capacity(BYTES);
    block.resize(BYTES, 1);
    let block = black_box(block);
    let after = memory::resident_bytes().unwrap();
    assert_close((after - before) as f64, block.len() as f64, 0.05);
}

#[test]
fn dropped_datagrams_are_those_sent_and_not_readable() {
    const SENT: u64 = 2_000;
    let _turn = my_turn();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..SENT {
        assert_eq!(sender.send_to(&[0; 1_200], address).unwrap(), 1_200);
    }

    receiver.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2_048];
    let readable = std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).count();
    let lost = SENT - u64::try_from(readable).unwrap();
    assert!(lost > 0, "the default buffer holds less than 2.4 MB");
    assert_eq!(socket::receive_drops(&receiver), Ok(lost));
    assert_eq!(
        socket::receive_drops_on_port(std::process::id(), address.port()),
        Ok(lost)
    );
    assert_eq!(socket::receive_drops(&sender), Ok(0));
}

/// The size of a cache's objects, as another interface of the kernel than the meter's tells it.
fn object_bytes(cache: &str) -> f64 {
    let path = format!("/sys/kernel/slab/{cache}/slab_size");
    let size = std::fs::read_to_string(path).unwrap_or_default();
    // A kernel without such a cache (security labels, for one) has no objects of it.
    size.trim().parse().unwrap_or_default()
}

/// What a socket is made of, beside what it speaks: inode, dentry, open file and the labels of these.
const EACH_SOCKET: [&str; 5] = [
    "sock_inode_cache",
    "dentry",
    "filp",
    "lsm_file_cache",
    "lsm_inode_cache",
];

/// Asserts that 500 of what `open` makes take the kernel as many `bytes` each, and returns what was opened:
/// what is closed is freed some time later, in the middle of a measurement. The kernel's books are those
/// of the whole machine, where sockets of others come and go: one undisturbed attempt is enough.
fn assert_kernel_bytes<T>(open: impl Fn() -> T, bytes: f64) -> Vec<T> {
    const COUNT: usize = 500;
    let mut opened = Vec::new();
    let mut found = Vec::new();
    for _ in 0..8 {
        let before = SocketSlabs::read().unwrap();
        opened.extend((0..COUNT).map(|_| open()));
        let growth = SocketSlabs::read().unwrap().growth_bytes(&before);
        let measured = growth as f64 / COUNT as f64;
        if (measured / bytes - 1.0).abs() < 0.03 {
            return opened;
        }
        found.push(measured);
    }
    panic!("expected {bytes} bytes each, found {found:?}");
}

#[test]
fn kernel_memory_grows_by_what_sockets_are_made_of_or_says_why_it_cannot_be_read() {
    let _turn = my_turn();
    if let Err(unavailable) = SocketSlabs::read() {
        assert!(std::fs::read("/proc/slabinfo").is_err(), "{unavailable}");
        return;
    }
    // Two sockets for a connection, eight attempts, and as many sockets again.
    let (_, hard_limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard_limit.min(16_384), hard_limit).unwrap();
    let sum = |caches: &[&str]| caches.iter().map(|cache| object_bytes(cache)).sum::<f64>();
    let socket_bytes = sum(&EACH_SOCKET);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        (client, listener.accept().unwrap())
    };
    // The client's port stands in two tables.
    let port_bytes = sum(&["tcp_bind_bucket", "tcp_bind2_bucket"]);
    let connection_bytes = 2.0 * (sum(&["TCP"]) + socket_bytes) + port_bytes;
    let connections = assert_kernel_bytes(connect, connection_bytes);

    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_kernel_bytes(bind, sum(&["UDP"]) + socket_bytes);
    drop(connections);
}
