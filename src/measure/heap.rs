//! Live heap bytes and allocations, counted by the allocator itself.
//!
//! A binary that wants the meter installs [`CountingAllocator`] as its global allocator; in one
//! that does not, every reading is `None`. Counted is what was asked for, and beside it what glibc's
//! malloc takes for that; not what C libraries allocate behind its back, for which see
//! [`super::malloc`]. For what the process costs the machine see [`super::memory`].
//!
//! Each thread writes a slot of its own, so that counting takes no lock and no atomic
//! read-modify-write: the owner loads, adds and stores. A thread that frees what another one
//! allocated counts below zero; the sum over the slots is right all the same.
//!
//! What the bytes are for is known where they are asked for: a thread says so by [`part`], and once
//! [`trace`] was called the allocator remembers it of each block. [`parts`] tells the sums. Until then
//! that costs the allocator one look at a flag.

mod part;
mod trace;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

pub use part::{Part, PartBytes, PartScope, Within, part, within};
pub use trace::{parts, trace};

/// Threads with a slot of their own. The slots of ended threads are not given out again, since what
/// such a thread allocated may still be alive; threads beyond this number share the last slot.
const OWNED_SLOTS: usize = 511;

static SLOTS: [Slot; OWNED_SLOTS + 1] = [const { Slot::new() }; OWNED_SLOTS + 1];
static SLOTS_TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Initialised by a constant and without a destructor, so that it can be read at any moment of a
    // thread's life, also while its other thread-locals are being destroyed.
    static MINE: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

/// The system's allocator, counting.
///
/// ```
/// use hopbench::measure::heap::{self, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let before = heap::thread().expect("the allocator is installed");
/// let block = std::hint::black_box(vec![0_u8; 1000]);
/// let after = heap::thread().expect("the allocator is installed");
/// assert_eq!(after.live_bytes - before.live_bytes, 1000);
/// # drop(block);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What has been counted so far, by one thread or by all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapCount {
    /// Bytes allocated less bytes freed. Of a single thread it may be negative.
    pub live_bytes: i64,
    /// The same in chunks, as glibc's malloc cuts them on 64-bit machines: each block with a header of
    /// 8 bytes, rounded up to a multiple of 16, at least 32.
    pub live_chunk_bytes: i64,
    /// Blocks allocated; a reallocation counts as one allocation and one deallocation.
    pub allocations: u64,
    /// Blocks freed.
    pub deallocations: u64,
}

/// What the calling thread has allocated and freed since it started. `None` when the
/// [`CountingAllocator`] is not installed, or when so many threads have lived that this one shares
/// its slot.
#[must_use]
pub fn thread() -> Option<HeapCount> {
    MINE.get().filter(|slot| !slot.is_shared()).map(Slot::read)
}

/// What all threads of this process have allocated and freed, ended ones included. `None` when the
/// [`CountingAllocator`] is not installed. While other threads allocate, the sum is of moments a
/// few nanoseconds apart.
#[must_use]
pub fn process() -> Option<HeapCount> {
    let taken = SLOTS_TAKEN.load(Relaxed).min(SLOTS.len());
    is_counting().then(|| {
        SLOTS[..taken]
            .iter()
            .map(Slot::read)
            .fold(HeapCount::default(), |sum, slot| HeapCount {
                live_bytes: sum.live_bytes + slot.live_bytes,
                live_chunk_bytes: sum.live_chunk_bytes + slot.live_chunk_bytes,
                allocations: sum.allocations + slot.allocations,
                deallocations: sum.deallocations + slot.deallocations,
            })
    })
}

/// Whether [`CountingAllocator`] is this process' global allocator (it takes the first slot before
/// `main` starts).
#[must_use]
pub fn is_counting() -> bool {
    SLOTS_TAKEN.load(Relaxed) > 0
}

/// The counters of one thread, on cache lines that no other thread writes (two lines, since
/// processors fetch them in pairs).
#[repr(align(128))]
struct Slot {
    live_bytes: AtomicI64,
    live_chunk_bytes: AtomicI64,
    allocations: AtomicU64,
    deallocations: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self {
            live_bytes: AtomicI64::new(0),
            live_chunk_bytes: AtomicI64::new(0),
            allocations: AtomicU64::new(0),
            deallocations: AtomicU64::new(0),
        }
    }

    #[inline]
    fn of_this_thread() -> &'static Self {
        MINE.get().unwrap_or_else(Self::take)
    }

    #[cold]
    fn take() -> &'static Self {
        let slot = &SLOTS[SLOTS_TAKEN.fetch_add(1, Relaxed).min(OWNED_SLOTS)];
        MINE.set(Some(slot));
        slot
    }

    #[inline]
    fn is_shared(&self) -> bool {
        std::ptr::eq(self, &SLOTS[OWNED_SLOTS])
    }

    #[inline]
    fn count(&self, growth: Growth) {
        if self.is_shared() {
            self.live_bytes.fetch_add(growth.bytes, Relaxed);
            self.live_chunk_bytes.fetch_add(growth.chunk_bytes, Relaxed);
            self.allocations.fetch_add(growth.allocations, Relaxed);
            self.deallocations.fetch_add(growth.deallocations, Relaxed);
        } else {
            // Only the owner writes, so nothing is lost between load and store.
            let grow = |counter: &AtomicI64, by| counter.store(counter.load(Relaxed) + by, Relaxed);
            let add = |counter: &AtomicU64, by| counter.store(counter.load(Relaxed) + by, Relaxed);
            grow(&self.live_bytes, growth.bytes);
            grow(&self.live_chunk_bytes, growth.chunk_bytes);
            add(&self.allocations, growth.allocations);
            add(&self.deallocations, growth.deallocations);
        }
    }

    fn read(&self) -> HeapCount {
        HeapCount {
            live_bytes: self.live_bytes.load(Relaxed),
            live_chunk_bytes: self.live_chunk_bytes.load(Relaxed),
            allocations: self.allocations.load(Relaxed),
            deallocations: self.deallocations.load(Relaxed),
        }
    }
}

/// What a call of the allocator changes.
struct Growth {
    bytes: i64,
    chunk_bytes: i64,
    allocations: u64,
    deallocations: u64,
}

impl Growth {
    #[inline]
    fn allocated(bytes: usize) -> Self {
        Self {
            bytes: signed(bytes),
            chunk_bytes: signed(chunk_bytes(bytes)),
            allocations: 1,
            deallocations: 0,
        }
    }

    #[inline]
    fn freed(bytes: usize) -> Self {
        Self {
            bytes: -signed(bytes),
            chunk_bytes: -signed(chunk_bytes(bytes)),
            allocations: 0,
            deallocations: 1,
        }
    }

    #[inline]
    fn reallocated(from_bytes: usize, to_bytes: usize) -> Self {
        Self {
            bytes: signed(to_bytes) - signed(from_bytes),
            chunk_bytes: signed(chunk_bytes(to_bytes)) - signed(chunk_bytes(from_bytes)),
            allocations: 1,
            deallocations: 1,
        }
    }
}

/// What glibc's malloc takes for a block.
#[inline]
fn chunk_bytes(block_bytes: usize) -> usize {
    const HEADER_BYTES: usize = 8;
    const STEP_BYTES: usize = 16;
    const LEAST_BYTES: usize = 32;
    // No block is so large that this overflows.
    let bytes = (block_bytes + HEADER_BYTES + STEP_BYTES - 1) & !(STEP_BYTES - 1);
    bytes.max(LEAST_BYTES)
}

/// A block's size as a difference; no block is larger than [`isize::MAX`] bytes.
#[inline]
#[allow(clippy::cast_possible_wrap)]
fn signed(bytes: usize) -> i64 {
    bytes as i64
}

// SAFETY: every call is passed on unaltered to `System`, which is a correct allocator; the counting
// around it does not unwind and touches no block, and what it allocates itself, for the books of traced
// blocks, it asks of `System`.
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::alloc`.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            Slot::of_this_thread().count(Growth::allocated(layout.size()));
            if trace::is_tracing() {
                trace::allocated(block, layout);
            }
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::alloc_zeroed`.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            Slot::of_this_thread().count(Growth::allocated(layout.size()));
            if trace::is_tracing() {
                trace::allocated(block, layout);
            }
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if trace::is_tracing() {
            trace::freeing(block, layout);
        }
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::dealloc`, and `block` came from
        // `System`.
        unsafe { System.dealloc(block, layout) };
        Slot::of_this_thread().count(Growth::freed(layout.size()));
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let traced = trace::is_tracing().then(|| trace::moving(block, layout));
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::realloc`, and `block` came from
        // `System`.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if moved.is_null() {
            if let Some(traced) = traced {
                traced.stayed(block);
            }
            return moved;
        }
        Slot::of_this_thread().count(Growth::reallocated(layout.size(), new_size));
        if let Some(traced) = traced {
            traced.moved(moved, new_size);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_allocator_there_is_no_reading() {
        assert!(!is_counting());
        assert_eq!(thread(), None);
        assert_eq!(process(), None);
        assert_eq!(parts(), None);
    }
}
