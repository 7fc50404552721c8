//! Kernel memory that sockets hold: the bytes in the slab caches of which sockets are made.
//!
//! System-wide, both ends of a loopback connection included: what is attributed to an experiment is
//! the difference of two readings on an otherwise quiet machine. The caches are read from
//! `/proc/slabinfo` (slabinfo(5)), which only root may read.
//!
//! Counted are the objects in use as the allocator tells them, which is to whole slabs where a
//! processor keeps a slab to itself: read it over hundreds of sockets, not over one. Not counted are
//! a socket's dentry and security label, which files use so much more that their noise would
//! drown it, nor data in queues, which idle sockets do not have.

use std::collections::BTreeMap;

use super::Unavailable;

const QUANTITY: &str = "kernel memory of sockets";
const PATH: &str = "/proc/slabinfo";

/// The caches that grow with sockets. Where the kernel merged one into another of equal size, it is
/// absent from the list and from the sum.
const SOCKET_CACHES: [&str; 19] = [
    "TCP",
    "TCPv6",
    "UDP",
    "UDPv6",
    "eventpoll_epi",
    "eventpoll_pwq",
    "filp",
    "ip_dst_cache",
    "request_sock_TCP",
    "request_sock_TCPv6",
    "rt6_dst_cache",
    "skbuff_fclone_cache",
    "skbuff_head_cache",
    "skbuff_small_head",
    "sock_inode_cache",
    "tcp_bind2_bucket",
    "tcp_bind_bucket",
    "tw_sock_TCP",
    "tw_sock_TCPv6",
];

/// Bytes in use in each slab cache that sockets are made of, by the name of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSlabs {
    bytes: BTreeMap<&'static str, u64>,
}

impl SocketSlabs {
    /// Reads the caches as they are now.
    ///
    /// # Errors
    /// Outside Linux, without the right to read `/proc/slabinfo`, or when it has another format.
    pub fn read() -> Result<Self, Unavailable> {
        let table = std::fs::read_to_string(PATH)
            .map_err(|error| Unavailable::new(QUANTITY, format!("{PATH}: {error}")))?;
        Self::parse(&table)
    }

    /// Bytes in all of the caches.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.bytes.values().sum()
    }

    /// By how many bytes the caches have grown since `earlier`; negative when they shrank.
    #[must_use]
    pub fn growth_bytes(&self, earlier: &Self) -> i64 {
        self.total_bytes()
            .wrapping_sub(earlier.total_bytes())
            .cast_signed()
    }

    /// By how many bytes each cache has grown since `earlier`, without those that did not change.
    #[must_use]
    pub fn growth_by_cache(&self, earlier: &Self) -> BTreeMap<&'static str, i64> {
        SOCKET_CACHES
            .into_iter()
            .map(|cache| {
                let growth = self.in_cache(cache).wrapping_sub(earlier.in_cache(cache));
                (cache, growth.cast_signed())
            })
            .filter(|(_, growth)| *growth != 0)
            .collect()
    }

    fn in_cache(&self, cache: &str) -> u64 {
        self.bytes.get(cache).copied().unwrap_or_default()
    }

    fn parse(table: &str) -> Result<Self, Unavailable> {
        let version = table.lines().next().unwrap_or_default();
        if !version.starts_with("slabinfo - version: 2.") {
            let reason = format!("{PATH}: expected slabinfo version 2, found {version:?}");
            return Err(Unavailable::new(QUANTITY, reason));
        }
        let mut bytes = BTreeMap::new();
        for line in table.lines().skip(2) {
            let mut columns = line.split_whitespace();
            let name = columns.next().unwrap_or_default();
            let Ok(known) = SOCKET_CACHES.binary_search(&name) else {
                continue;
            };
            let mut number = || columns.next()?.parse::<u64>().ok();
            let (Some(active), Some(_total), Some(object_bytes)) = (number(), number(), number())
            else {
                let reason = format!("{PATH}: expected objects and their size, found {line:?}");
                return Err(Unavailable::new(QUANTITY, reason));
            };
            bytes.insert(SOCKET_CACHES[known], active * object_bytes);
        }
        Ok(Self { bytes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table(tcp: u64, filp: u64) -> String {
        format!(
            "slabinfo - version: 2.1\n\
             # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
             ext4_inode_cache 64036 64036 1128 14 4 : tunables 0 0 0 : slabdata 1 1 0\n\
             TCP              {tcp} 26 2368 13 8 : tunables 0 0 0 : slabdata 2 2 0\n\
             filp             {filp} 630 192 21 1 : tunables 0 0 0 : slabdata 30 30 0\n"
        )
    }

    #[test]
    fn sums_what_sockets_use_and_nothing_else() {
        let before = SocketSlabs::parse(&table(2, 100)).unwrap();
        assert_eq!(before.total_bytes(), 2 * 2368 + 100 * 192);
        let after = SocketSlabs::parse(&table(12, 99)).unwrap();
        assert_eq!(after.growth_bytes(&before), 10 * 2368 - 192);
        assert_eq!(before.growth_bytes(&after), 192 - 10 * 2368);
        let by_cache = [("TCP", 23_680), ("filp", -192)];
        assert_eq!(after.growth_by_cache(&before), BTreeMap::from(by_cache));
    }

    #[test]
    fn another_format_is_refused_with_what_was_found() {
        for (table, found) in [
            ("slabinfo - version: 3.0\n", "version: 3.0"),
            ("", "\"\""),
            ("slabinfo - version: 2.1\n#\nTCP many\n", "TCP many"),
        ] {
            let error = SocketSlabs::parse(table).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn the_names_are_sorted_as_the_search_needs() {
        assert!(SOCKET_CACHES.is_sorted());
    }
}
