//! Which part each live block belongs to, while somebody wants to know.
//!
//! Beside the heap stands a table of blocks, in memory of the system's allocator, so that it does not
//! count itself. A block keeps its part from birth to death: whoever frees it, and on whichever thread,
//! the part that it was allocated for has less. Where it is moved or grows, it stays in its part.

use std::alloc::Layout;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use allocator_api2::alloc::System;
use hashbrown::HashMap;

use super::part::{Part, PartBytes, current};
use super::signed;

/// Set once and never reset: a block whose birth was seen must not die unseen.
static IS_TRACING: AtomicBool = AtomicBool::new(false);

static LIVE_BYTES: [AtomicI64; Part::ALL.len()] = [const { AtomicI64::new(0) }; Part::ALL.len()];

/// Threads seldom meet in one of so many. On Linux, a mutex of the standard library is a futex and
/// allocates nothing.
const SHARDS: usize = 64;

static BLOCKS: [Mutex<Blocks>; SHARDS] =
    [const { Mutex::new(Blocks::with_hasher_in(BuildHasherDefault::new(), System)) }; SHARDS];

/// The part of each block, by address.
type Blocks = HashMap<usize, Part, BuildHasherDefault<AddressHasher>, System>;

/// From now on, the allocator remembers what each new block is for; see [`super::parts`]. There is no way
/// back.
pub fn trace() {
    IS_TRACING.store(true, Relaxed);
}

/// Live bytes by part of what was allocated since tracing began; `None` if it has not, or if nobody
/// counts. A block that was there before and has been reallocated since belongs to the part that this
/// was done for.
#[must_use]
pub fn parts() -> Option<PartBytes> {
    let is_traced = super::is_counting() && is_tracing();
    is_traced.then(|| PartBytes::collect(|part| LIVE_BYTES[part as usize].load(Relaxed)))
}

// A thread that is handed a block sees tracing on if the one that allocated it did: loads of one atomic
// that are ordered by the handing over never read backwards.
#[inline]
pub(super) fn is_tracing() -> bool {
    IS_TRACING.load(Relaxed)
}

/// Notes a new block.
#[cold]
pub(super) fn allocated(block: *mut u8, layout: Layout) {
    let part = current();
    if remember(block, part) {
        grow(part, signed(layout.size()));
    }
}

/// Notes that a block is about to be freed: once it is, another thread may be given its address.
#[cold]
pub(super) fn freeing(block: *mut u8, layout: Layout) {
    if let Some(part) = forget(block) {
        grow(part, -signed(layout.size()));
    }
}

/// A block that is about to be reallocated, and so off the books for the moment.
pub(super) struct Moving {
    part: Option<Part>,
    layout: Layout,
}

/// Takes off the books a block that is about to be reallocated.
#[cold]
pub(super) fn moving(block: *mut u8, layout: Layout) -> Moving {
    Moving {
        part: forget(block),
        layout,
    }
}

impl Moving {
    /// It is at `block` now and has `new_size` bytes.
    #[cold]
    pub(super) fn moved(self, block: *mut u8, new_size: usize) {
        let before = self.part.map_or(0, |_| signed(self.layout.size()));
        let part = self.part.unwrap_or_else(current);
        let is_known = remember(block, part);
        grow(part, if is_known { signed(new_size) } else { 0 } - before);
    }

    /// There was no memory: it is where it was.
    #[cold]
    pub(super) fn stayed(self, block: *mut u8) {
        if let Some(part) = self.part
            && !remember(block, part)
        {
            grow(part, -signed(self.layout.size()));
        }
    }
}

#[inline]
fn grow(part: Part, bytes: i64) {
    LIVE_BYTES[part as usize].fetch_add(bytes, Relaxed);
}

/// `false` when the system has no memory for that, so that the block is in no part.
fn remember(block: *mut u8, part: Part) -> bool {
    let mut blocks = shard(block);
    let is_possible = blocks.try_reserve(1).is_ok();
    if is_possible {
        blocks.insert(block.addr(), part);
    }
    is_possible
}

fn forget(block: *mut u8) -> Option<Part> {
    shard(block).remove(&block.addr())
}

fn shard(block: *mut u8) -> MutexGuard<'static, Blocks> {
    // The hash's upper bits: the table of the shard goes by its lower and its uppermost ones.
    let place = (hash(block.addr()) >> 40) as usize % SHARDS;
    BLOCKS[place].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spreads addresses, which are multiples of 16 close to each other.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("an address is hashed as a usize");
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = hash(address);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// By Fibonacci's multiplier, whose product has its randomness at the top: folded down.
fn hash(address: usize) -> u64 {
    let product = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}
