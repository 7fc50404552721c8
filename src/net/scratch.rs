//! Working space of one datagram or one read, shared by everything on a worker.
//!
//! An idle connection holds no buffer: whoever works takes one here and gives it back by dropping
//! it. Taking a second one while the first is in use is fine, so that a handler may send.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::tunnel::SCRATCH_BYTES;

/// As many as are in use at once at the most: receive, decrypt, build a packet, encrypt.
const POOL_LENGTH: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// [`SCRATCH_BYTES`] of working space with arbitrary contents.
#[derive(Debug)]
pub struct Scratch(Box<[u8]>);

/// Takes a buffer, from the worker's pool if one is free.
#[must_use]
pub fn take() -> Scratch {
    let free = POOL.with_borrow_mut(Vec::pop);
    Scratch(free.unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice()))
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that is ending has no pool any more; then the buffer is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_LENGTH {
                pool.push(buffer);
            }
        });
    }
}
