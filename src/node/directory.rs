//! The location directory of a node's workers: a file mapped into all of them, with two bytes for
//! each account that say which worker the user registered at last.
//!
//! User names follow from rules, so the directory is an array and a look-up is one load; a
//! registration is one load too, and an exchange where the user has come to another worker.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::sip::Directory;

/// Entry of a user whom nobody holds. The others are a worker's place plus one.
const NOBODY: u16 = 0;

/// What else is read after it says nothing that the entry itself does not: each user's entry stands
/// alone, and a worker that sees it late forwards to where the user was a moment ago.
const ORDER: Ordering = Ordering::Relaxed;

/// The directory as one worker sees it.
#[derive(Debug)]
pub(super) struct LocationDirectory {
    /// How many users each worker holds (`u32`), then the entry of each account (`u16`).
    map: MmapRaw,
    workers: u16,
    accounts: u32,
    place: u16,
}

impl LocationDirectory {
    /// Makes the file of a directory in which nobody is.
    ///
    /// # Errors
    /// The system's, also when there is such a file.
    pub(super) fn create(path: &Path, workers: u16, accounts: u32) -> io::Result<()> {
        let file = File::create_new(path)?;
        file.set_len(bytes(workers, accounts))
    }

    /// Maps the directory into the process of the worker at `place`, which is below `workers`. The file
    /// may be unlinked afterwards.
    ///
    /// # Errors
    /// The system's, and when the file was made for other numbers.
    pub(super) fn open(path: &Path, place: u16, workers: u16, accounts: u32) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let (expected, found) = (bytes(workers, accounts), file.metadata()?.len());
        if expected != found {
            return Err(io::Error::other(format!(
                "expected a location directory of {expected} bytes for {workers} workers and \
                 {accounts} accounts, found {found} bytes"
            )));
        }
        Ok(Self {
            map: MmapOptions::new().map_raw(&file)?,
            workers,
            accounts,
            place,
        })
    }

    fn entry(&self, user: u32) -> &AtomicU16 {
        assert!(
            user < self.accounts,
            "an account has a number below their count"
        );
        let offset = heads(self.workers) + size_of::<AtomicU16>() * user as usize;
        // SAFETY: the offset is within the map, whose length was checked, and even, as the map's start
        // is; the map lives as long as `self`, and everybody uses it by atomics of this size only.
        unsafe { &*self.map.as_ptr().add(offset).cast() }
    }

    fn held_by(&self, place: u16) -> &AtomicU32 {
        assert!(
            place < self.workers,
            "a worker has a place below their count"
        );
        let offset = size_of::<AtomicU32>() * usize::from(place);
        // SAFETY: as in `entry`; the offset is a multiple of four and before the entries.
        unsafe { &*self.map.as_ptr().add(offset).cast() }
    }

    fn own(&self) -> u16 {
        self.place + 1
    }

    /// What `user`'s entry is replaced by now; keeps the count of who held the user.
    fn replace(&self, user: u32, entry: u16) {
        let before = self.entry(user).swap(entry, ORDER);
        if before != NOBODY {
            self.held_by(before - 1).fetch_sub(1, ORDER);
        }
        if entry != NOBODY {
            self.held_by(entry - 1).fetch_add(1, ORDER);
        }
    }
}

impl Directory for LocationDirectory {
    fn arrived(&self, user: u32) {
        // A refresh at the same worker writes nothing: the cache line stays everybody's.
        if self.entry(user).load(ORDER) != self.own() {
            self.replace(user, self.own());
        }
    }

    fn ended(&self, user: u32) {
        let entry = self.entry(user);
        let exchanged = entry.compare_exchange(self.own(), NOBODY, ORDER, ORDER);
        if exchanged.is_ok() {
            self.held_by(self.place).fetch_sub(1, ORDER);
        }
    }

    fn removed(&self, user: u32) {
        self.replace(user, NOBODY);
    }

    fn sibling_of(&self, user: u32) -> Option<u16> {
        let entry = self.entry(user).load(ORDER);
        (entry != NOBODY && entry != self.own()).then(|| entry - 1)
    }

    fn users(&self) -> u64 {
        self.held_by(self.place).load(ORDER).into()
    }
}

/// Bytes in front of the entries.
fn heads(workers: u16) -> usize {
    size_of::<AtomicU32>() * usize::from(workers)
}

fn bytes(workers: u16, accounts: u32) -> u64 {
    heads(workers) as u64 + size_of::<AtomicU16>() as u64 * u64::from(accounts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn workers(count: u16, accounts: u32) -> Vec<LocationDirectory> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory");
        LocationDirectory::create(&path, count, accounts).unwrap();
        let places = 0..count;
        places
            .map(|place| LocationDirectory::open(&path, place, count, accounts).unwrap())
            .collect()
    }

    fn counts(workers: &[LocationDirectory]) -> Vec<u64> {
        workers.iter().map(Directory::users).collect()
    }

    #[test]
    fn the_latest_registration_counts_at_every_worker() {
        let workers = workers(3, 5);
        let [first, second, third] = &workers[..] else {
            panic!("three were asked for");
        };
        for user in 0..5 {
            assert_eq!(first.sibling_of(user), None);
        }
        first.arrived(4);
        first.arrived(4);
        first.arrived(0);
        assert_eq!(counts(&workers), [2, 0, 0]);
        let seen = |user| [first, second, third].map(|worker| worker.sibling_of(user));
        assert_eq!(seen(4), [None, Some(0), Some(0)]);
        third.arrived(4);
        assert_eq!(seen(4), [Some(2), Some(2), None]);
        assert_eq!(counts(&workers), [1, 0, 1]);
        // What ends at the first worker is not what counts any more.
        first.ended(4);
        assert_eq!(seen(4), [Some(2), Some(2), None]);
        third.ended(4);
        assert_eq!(seen(4), [None; 3]);
        // The user's own word holds wherever it is said.
        second.removed(0);
        second.removed(1);
        assert_eq!(seen(0), [None; 3]);
        assert_eq!(counts(&workers), [0; 3]);
    }

    #[test]
    fn counts_stay_true_when_users_come_to_all_workers_at_once() {
        const USERS: u32 = 64;
        let workers = workers(4, USERS);
        std::thread::scope(|scope| {
            for (place, worker) in (0_u32..).zip(&workers) {
                scope.spawn(move || {
                    for step in 0..20_000 {
                        let user = (step * 7 + place) % USERS;
                        match step % 3 {
                            0 | 1 => worker.arrived(user),
                            _ => worker.ended(user),
                        }
                    }
                });
            }
        });
        let held = |worker: &LocationDirectory| {
            let users = (0..USERS).filter(|user| worker.entry(*user).load(ORDER) == worker.own());
            users.count() as u64
        };
        let expected: Vec<u64> = workers.iter().map(held).collect();
        assert_eq!(counts(&workers), expected);
    }

    #[test]
    fn a_directory_of_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory");
        LocationDirectory::create(&path, 2, 100).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * 4 + 100 * 2);
        let error = LocationDirectory::open(&path, 0, 2, 101).unwrap_err();
        let told = "expected a location directory of 210 bytes for 2 workers and 101 accounts, found \
                    208 bytes";
        assert_eq!(error.to_string(), told);
        assert!(LocationDirectory::create(&path, 2, 100).is_err());
    }
}
