//! The heap by malloc's own books: what this process has been given, whoever asked.
//!
//! Rust's blocks are counted by [`super::heap`] too; what is here beyond their chunks was allocated by C
//! libraries, for example by a provider of cryptography, or waits in the caches of threads to be given
//! out again (at most seven blocks of a size, which do not grow with what is measured).

use super::Unavailable;

/// Bytes in the chunks that malloc has given out and not got back, headers and rounding included: of all
/// arenas, and what it maps from the system block by block.
///
/// malloc locks its arenas one after the other and walks their free lists for this: not in the middle
/// of a load.
///
/// # Errors
/// Where the C library is not glibc.
pub fn in_use_bytes() -> Result<u64, Unavailable> {
    platform::books().map(|books| books.in_use_bytes)
}

/// Where malloc's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    /// See [`in_use_bytes`].
    pub in_use_bytes: u64,
    /// Bytes that it has from the system and has not given out: holes between blocks, what was freed
    /// and not returned, and what lies ahead of the last block. Pages among them that nobody has
    /// written yet, or that were returned inside an arena, are not resident.
    pub free_bytes: u64,
}

/// Both at one moment; as costly as [`in_use_bytes`].
///
/// # Errors
/// Where the C library is not glibc.
pub fn books() -> Result<Books, Unavailable> {
    platform::books()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod platform {
    use super::{Books, Unavailable};

    #[allow(clippy::unnecessary_wraps)] // the signature of every platform
    pub(super) fn books() -> Result<Books, Unavailable> {
        // SAFETY: it has no preconditions, and reads the books under malloc's own locks.
        let books = unsafe { libc::mallinfo2() };
        Ok(Books {
            in_use_bytes: books.uordblks as u64 + books.hblkhd as u64,
            free_bytes: books.fordblks as u64,
        })
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod platform {
    use super::{Books, Unavailable};

    pub(super) fn books() -> Result<Books, Unavailable> {
        let reason = "only glibc tells (mallinfo2)";
        Err(Unavailable::new("malloc's heap", reason))
    }
}
