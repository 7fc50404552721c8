//! Tagged allocations: every block counts in the part that it was allocated for, to the byte, whatever
//! becomes of it and on whichever thread.
//!
//! Counted is the whole process, so the tests take turns; and what the test tools allocate is in
//! [`Part::Other`], which they leave alone.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use hopbench::measure::heap::{self, CountingAllocator, Part, PartBytes};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert_eq, prop_oneof, proptest};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    heap::trace();
    turn
}

fn parts() -> PartBytes {
    heap::parts().expect("the allocator counts and traces")
}

/// What a holder of blocks does next. Places are taken modulo the number of blocks.
#[derive(Clone, Debug)]
enum Step {
    Allocate {
        part: Part,
        bytes: usize,
        is_zeroed: bool,
    },
    Resize {
        place: usize,
        bytes: usize,
        within: Part,
    },
    Free {
        place: usize,
        within: Part,
    },
}

fn claimed() -> impl Strategy<Value = Part> {
    (0..Part::ALL.len() - 1).prop_map(|index| Part::ALL[index])
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || 1..5_000_usize;
    prop_oneof![
        (claimed(), bytes(), proptest::bool::ANY).prop_map(|(part, bytes, is_zeroed)| {
            Step::Allocate {
                part,
                bytes,
                is_zeroed,
            }
        }),
        (0..64_usize, bytes(), claimed()).prop_map(|(place, bytes, within)| Step::Resize {
            place,
            bytes,
            within
        }),
        (0..64_usize, claimed()).prop_map(|(place, within)| Step::Free { place, within }),
    ]
}

/// A block of exactly so many bytes.
fn block(part: Part, bytes: usize, is_zeroed: bool) -> Vec<u8> {
    let _scope = heap::part(part);
    black_box(if is_zeroed {
        vec![0; bytes]
    } else {
        Vec::with_capacity(bytes)
    })
}

fn resize(block: &mut Vec<u8>, bytes: usize) {
    if bytes > block.capacity() {
        block.reserve_exact(bytes - block.len());
    } else {
        block.truncate(bytes);
        block.shrink_to(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_stay_in_their_part(steps in vec(step(), 1..200)) {
        let _turn = turn();
        let before = parts();
        let mut blocks: Vec<(Part, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate { part, bytes, is_zeroed } => {
                    blocks.push((part, block(part, bytes, is_zeroed)));
                }
                Step::Resize { place, bytes, within } => {
                    let count = blocks.len().max(1);
                    if let Some((_, block)) = blocks.get_mut(place % count) {
                        let _scope = heap::part(within);
                        resize(block, bytes);
                    }
                }
                Step::Free { place, within } => {
                    if !blocks.is_empty() {
                        let freed = blocks.swap_remove(place % blocks.len());
                        let _scope = heap::part(within);
                        drop(freed);
                    }
                }
            }
            let now = parts();
            for part in Part::ALL.into_iter().filter(|part| *part != Part::Other) {
                let held = blocks.iter().filter(|(of, _)| *of == part);
                let held: usize = held.map(|(_, block)| block.capacity()).sum();
                prop_assert_eq!(now.of(part) - before.of(part), held as i64, "{:?}", part);
            }
        }
    }
}

#[test]
fn blocks_that_change_threads_are_counted_once() {
    const THREADS: usize = 4;
    const BLOCKS: usize = 2_000;
    let _turn = turn();
    let before = parts();
    // Each thread allocates for a part of its own, grows what the thread before it has allocated, and
    // frees every other one of those.
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<Vec<u8>>()).unzip();
    let rest: Vec<Vec<u8>> = thread::scope(|scope| {
        let workers: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(own, received)| {
                let next = senders[(own + 1) % THREADS].clone();
                scope.spawn(move || {
                    for index in 0..BLOCKS {
                        next.send(block(Part::ALL[own], 1 + index % 300, false))
                            .unwrap();
                    }
                    drop(next);
                    let mut kept = Vec::new();
                    for (index, mut block) in received.iter().take(BLOCKS).enumerate() {
                        if index % 2 == 0 {
                            resize(&mut block, 400);
                            kept.push(block);
                        }
                    }
                    kept
                })
            })
            .collect();
        let joined = workers.into_iter();
        joined.flat_map(|worker| worker.join().unwrap()).collect()
    });
    let with_rest = parts();
    for part in &Part::ALL[..THREADS] {
        let expected = (BLOCKS / 2 * 400) as i64;
        assert_eq!(with_rest.of(*part) - before.of(*part), expected, "{part:?}");
    }
    drop(rest);
    let after = parts();
    for part in &Part::ALL[..THREADS] {
        assert_eq!(after.of(*part), before.of(*part), "{part:?}");
    }
}

#[test]
fn the_parts_are_the_growth_of_the_heap() {
    let _turn = turn();
    let live = || heap::process().unwrap().live_bytes;
    let growth = || {
        let (live_before, parts_before) = (live(), parts().total());
        let blocks = Part::ALL.map(|part| block(part, 1_000, true));
        let grown = (live() - live_before, parts().total() - parts_before);
        drop(blocks);
        grown
    };
    let expected = Part::ALL.len() as i64 * 1_000;
    // The thread of a test that has just ended, and the test tools themselves, may allocate and free a
    // little meanwhile. That passes; a meter that is wrong is wrong every time.
    let mut grown = growth();
    for _ in 0..1_000 {
        if grown == (expected, expected) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
        grown = growth();
    }
    assert_eq!(grown, (expected, expected));
}
