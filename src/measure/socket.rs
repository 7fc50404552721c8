//! Datagrams that arrived and were dropped because nobody read them in time.
//!
//! Without this meter a full receive buffer looks like a slow or silent peer.

use std::os::fd::AsFd;

use super::Unavailable;

const QUANTITY: &str = "dropped datagrams";

/// Datagrams that the kernel dropped on arrival at `socket` since it was opened: its receive buffer
/// was full, or the checksum was wrong.
///
/// # Errors
/// Outside Linux, before Linux 4.12, or when `socket` is no socket.
pub fn receive_drops(socket: &impl AsFd) -> Result<u64, Unavailable> {
    platform::receive_drops(socket.as_fd())
}

/// The same, summed over all UDP sockets that are bound to `port` in the network namespace of
/// `process`: those of other processes too, and each of a group that shares the port.
///
/// # Errors
/// Where there is no readable `/proc/PROCESS/net/udp`.
pub fn receive_drops_on_port(process: u32, port: u16) -> Result<u64, Unavailable> {
    platform::receive_drops_on_port(process, port)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::{QUANTITY, Unavailable};

    pub(super) fn receive_drops(socket: BorrowedFd<'_>) -> Result<u64, Unavailable> {
        const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
        let mut meminfo = [0_u32; DROPS + 1];
        let mut bytes = libc::socklen_t::try_from(size_of_val(&meminfo)).expect("36 bytes");
        // SAFETY: `meminfo` is writable for `bytes` bytes, and both outlive the call.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                meminfo.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if outcome == 0 {
            Ok(u64::from(meminfo[DROPS]))
        } else {
            Err(Unavailable::new(QUANTITY, std::io::Error::last_os_error()))
        }
    }

    pub(super) fn receive_drops_on_port(process: u32, port: u16) -> Result<u64, Unavailable> {
        let [ipv4, ipv6] = ["udp", "udp6"].map(|table| format!("/proc/{process}/net/{table}"));
        let ipv4 = read(&ipv4, port)?;
        // A kernel without IPv6 has no table for it, and then no sockets either.
        let ipv6 = match std::path::Path::new(&ipv6).exists() {
            true => read(&ipv6, port)?,
            false => 0,
        };
        Ok(ipv4 + ipv6)
    }

    fn read(path: &str, port: u16) -> Result<u64, Unavailable> {
        let table = std::fs::read_to_string(path)
            .map_err(|error| Unavailable::new(QUANTITY, format!("{path}: {error}")))?;
        sum_of_drops(&table, port).map_err(|line| {
            let reason =
                format!("{path}: expected a line with local address and drops, found {line:?}");
            Unavailable::new(QUANTITY, reason)
        })
    }

    /// Sums the last column, `drops`, of the lines whose second one, `ADDRESS:PORT` in hexadecimal,
    /// ends in `port`. Answers with the line that is not like this.
    pub(super) fn sum_of_drops(table: &str, port: u16) -> Result<u64, &str> {
        table.lines().skip(1).try_fold(0, |sum, line| {
            let (local_port, drops) = port_and_drops(line).ok_or(line)?;
            Ok(if local_port == port { sum + drops } else { sum })
        })
    }

    fn port_and_drops(line: &str) -> Option<(u16, u64)> {
        let (_, local_port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
        let drops = line.split_whitespace().nth(12)?;
        Some((
            u16::from_str_radix(local_port, 16).ok()?,
            drops.parse().ok()?,
        ))
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::os::fd::BorrowedFd;

    use super::{QUANTITY, Unavailable};

    pub(super) fn receive_drops(_: BorrowedFd<'_>) -> Result<u64, Unavailable> {
        Err(Unavailable::new(QUANTITY, "only Linux counts them"))
    }

    pub(super) fn receive_drops_on_port(_: u32, _: u16) -> Result<u64, Unavailable> {
        Err(Unavailable::new(QUANTITY, "only Linux counts them"))
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::platform::sum_of_drops;
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            
  397: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0000000000000000 17        
  398: 0200007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4243 2 0000000000000000 5         
  399: 0100007F:13C5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4244 2 0000000000000000 900       
";

    #[test]
    fn sums_the_sockets_of_the_port_only() {
        assert_eq!(sum_of_drops(TABLE, 5060), Ok(22));
        assert_eq!(sum_of_drops(TABLE, 5062), Ok(0));
    }

    #[test]
    fn another_format_is_refused() {
        assert_eq!(
            sum_of_drops("header\n1: 0100007F:13C4 17", 5060),
            Err("1: 0100007F:13C4 17")
        );
    }

    #[test]
    fn what_is_no_socket_has_no_drops() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = receive_drops(&file).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot measure dropped datagrams: "),
            "{error}"
        );
    }
}
