//! What an interface has dropped, from the kernel's own books.

use std::fs::File;
use std::io::{self, Read, Seek};

/// Where the kernel counts what an interface dropped, in the network namespace that it was opened in.
#[derive(Debug)]
pub struct InterfaceBooks {
    file: File,
    name: String,
}

impl InterfaceBooks {
    /// Of the interface `name`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The system's.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/thread-self/net/dev")?,
            name: name.to_owned(),
        })
    }

    /// Packets that were to leave by it and did not.
    ///
    /// # Errors
    /// The system's, and when the interface is gone.
    pub fn dropped(&mut self) -> io::Result<u64> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        dropped_of(&text, &self.name).ok_or_else(|| {
            io::Error::other(format!("the kernel's list has no interface {}", self.name))
        })
    }
}

/// In the kernel's list of interfaces: of eight columns for each direction the fourth.
fn dropped_of(list: &str, name: &str) -> Option<u64> {
    let mut lines = list.lines().filter_map(|line| line.split_once(':'));
    let (_, columns) = lines.find(|(interface, _)| interface.trim() == name)?;
    columns.split_whitespace().nth(8 + 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_an_interface_dropped_in_the_kernels_list() {
        let list = "Inter-|   Receive                            |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop\n    \
                    lo:       1       2    3    4    5     6          7         8        9      10   11   12\n\
                    hop0: 1 2 3 4 5 6 7 8 9 10 11 42 13 14 15 16\n";
        assert_eq!(dropped_of(list, "hop0"), Some(42));
        assert_eq!(dropped_of(list, "lo"), Some(12));
        assert_eq!(dropped_of(list, "hop1"), None);
    }
}
