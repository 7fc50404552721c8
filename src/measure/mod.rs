//! Meters: what reads the clock, the heap, the kernel's books and the processor's.
//!
//! The layer above [`crate::units`] and below everything that measures. A meter reads one quantity
//! of this machine; what the quantity means for an experiment is decided elsewhere. Each meter is
//! calibrated against something independent in `tests/meters.rs`.
//!
//! * [`histogram`]: latencies, and operations completed in each 100 ms window
//! * [`heap`]: live bytes and allocations, counted by an allocator
//! * [`malloc`]: the heap by the C library's books, what C allocates included
//! * [`memory`]: resident memory of a process
//! * [`kernel`]: kernel memory that sockets hold
//! * [`cpu`]: processor time of this process or thread
//! * [`handicap`]: a burden of known size, to show what the method can find
//! * [`socket`]: datagrams that the kernel dropped before they were read
//! * [`snapshot`]: the meters of one process, read together
//!
//! A meter that cannot be read here answers [`Unavailable`] with the reason, never zero.

pub mod cpu;
pub mod handicap;
pub mod heap;
pub mod histogram;
pub mod kernel;
pub mod malloc;
pub mod memory;
pub mod snapshot;
pub mod socket;

/// Why a meter cannot be read on this machine, or by this user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot measure {quantity}: {reason}")]
pub struct Unavailable {
    /// What was to be measured.
    pub quantity: &'static str,
    /// What stood in the way.
    pub reason: String,
}

impl Unavailable {
    fn new(quantity: &'static str, reason: impl ToString) -> Self {
        Self {
            quantity,
            reason: reason.to_string(),
        }
    }
}
