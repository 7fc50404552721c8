//! Captures of what passes the lab's emulated links: a file for each of them and each lab that is built, which is
//! each block of a cell, and beside them what it takes to read TLS in them.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::topology::Site;

/// What programs that speak TLS read it from by custom (the format is NSS's).
pub(super) const KEYS_VARIABLE: &str = "SSLKEYLOGFILE";
const KEYS_FILE: &str = "keys.log";

/// Where captures go.
#[derive(Debug)]
pub(crate) struct Captures {
    folder: PathBuf,
    has_keys: bool,
    begun: AtomicU32,
}

impl Captures {
    /// Into `folder`, which is made if need be; with the secrets of TLS if `has_keys`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(folder: PathBuf, has_keys: bool) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        // Children need not run where this process does.
        let folder = folder.canonicalize()?;
        Ok(Self {
            folder,
            has_keys,
            begun: AtomicU32::new(0),
        })
    }

    /// What the names of the next lab's captures begin with: they are numbered as they are made.
    pub(super) fn next(&self, site: &Site) -> PathBuf {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let (stack, topology) = (site.stack_name(), site.topology);
        self.folder.join(format!("{number:04}-{stack}-{topology}"))
    }

    /// The file of the secrets, if they are wanted.
    pub(super) fn keys(&self) -> Option<PathBuf> {
        self.has_keys.then(|| self.folder.join(KEYS_FILE))
    }
}
