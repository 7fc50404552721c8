//! Working space of one datagram or one read, shared by everything on a worker.
//!
//! An idle connection holds no buffer: whoever works takes one here and gives it back by dropping
//! it. Taking a second one while the first is in use is fine, so that a handler may send.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

use crate::measure::heap::{self, Part};

use crate::tunnel::SCRATCH_BYTES;

/// As many as are in use at once at the most: receive, decrypt, build a packet, encrypt.
const POOL_LENGTH: usize = 4;

thread_local! {
    static POOL: Pool<Box<[u8]>> = const { Pool::new(POOL_LENGTH) };
}

/// [`SCRATCH_BYTES`] of working space with arbitrary contents.
#[derive(Debug)]
pub struct Scratch(Lent<Box<[u8]>>);

/// Takes a buffer, from the worker's pool if one is free.
#[must_use]
pub fn take() -> Scratch {
    Scratch(Pool::take(&POOL, || {
        vec![0; SCRATCH_BYTES].into_boxed_slice()
    }))
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

/// What is free of one kind of working space on this worker.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: RefCell<Vec<T>>,
    /// What is given back beyond that is freed.
    length: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new(length: usize) -> Self {
        Self {
            free: RefCell::new(Vec::new()),
            length,
        }
    }

    /// Takes one from `pool`, or makes one if none is free.
    pub(super) fn take(pool: &'static LocalKey<Self>, make: impl FnOnce() -> T) -> Lent<T> {
        let _scope = heap::part(Part::Buffers);
        let free = pool.with(|pool| pool.free.borrow_mut().pop());
        Lent {
            item: Some(free.unwrap_or_else(make)),
            pool,
        }
    }
}

/// Working space in use, which goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Lent<T: 'static> {
    item: Option<T>,
    pool: &'static LocalKey<Pool<T>>,
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.item.as_ref().expect("there until it is dropped")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.item.as_mut().expect("there until it is dropped")
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // A thread that is ending has no pool any more; then the space is simply freed.
        let _ = self.pool.try_with(|pool| {
            let mut free = pool.free.borrow_mut();
            if free.len() < pool.length {
                free.extend(self.item.take());
            }
        });
    }
}
