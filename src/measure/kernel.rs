//! Kernel memory that sockets hold: the bytes in the slab caches of which sockets are made.
//!
//! System-wide, both ends of a loopback connection included: what is attributed to an experiment is
//! the difference of two readings on an otherwise quiet machine, or better the slope over several.
//! The caches are read from `/proc/slabinfo` (slabinfo(5)), which only root may read.
//!
//! What is counted, and what moves it:
//!
//! * **Objects in use, as the allocator tells them.** What a processor keeps to itself counts as in use
//!   up to whole slabs, and what was freed through RCU for some milliseconds longer: read it over
//!   hundreds of sockets, and not right after others were closed. The slabs that hold the objects take
//!   up to 10 % more.
//! * **What a socket shares with files** – open file, dentry, security labels – is one each, and is
//!   counted by the sockets' inodes: the noise of files would drown it.
//! * **Merged caches.** The kernel keeps objects of equal size in one cache, which stands in the table
//!   by one of their names; `/sys/kernel/slab` tells which. Whatever else lives there is noise.
//! * **Not what a connection leaves behind**: no entries in TIME-WAIT. The two port entries that go with
//!   each are counted as long as they last, 60 s: a machine that has just closed thousands of
//!   connections sees them go.
//! * **Not `kmalloc`**, since nobody can tell whose that is: 64 bytes of a UDP socket from Linux 6.18 on.
//! * **Not data in queues**, which sockets at rest do not have: there sock_diag(7) reports zeros.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Unavailable;

const QUANTITY: &str = "kernel memory of sockets";
const PATH: &str = "/proc/slabinfo";
/// Holds a link for each merged cache, to the one that it was merged into.
const MERGED: &str = "/sys/kernel/slab";

/// The caches that grow with sockets.
const SOCKET_CACHES: [&str; 17] = [
    "TCP",
    "TCPv6",
    "UDP",
    "UDPv6",
    "ep_head",
    "eventpoll_epi",
    "eventpoll_pwq",
    "ip_dst_cache",
    "request_sock_TCP",
    "request_sock_TCPv6",
    "rt6_dst_cache",
    "skbuff_fclone_cache",
    "skbuff_head_cache",
    "skbuff_small_head",
    INODES,
    "tcp_bind2_bucket",
    "tcp_bind_bucket",
];

/// The cache of the sockets' inodes.
const INODES: &str = "sock_inode_cache";

/// The caches of which each socket holds one object, and files many more.
const SHARED_WITH_FILES: [&str; 4] = ["dentry", "filp", "lsm_file_cache", "lsm_inode_cache"];

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
        // A kernel that merges nothing has no links.
        let merged_into = |cache: &str| std::fs::read_link(Path::new(MERGED).join(cache)).ok();
        Self::parse(&table, merged_into)
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
            .chain(SHARED_WITH_FILES)
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

    /// `merged_into` tells where a merged cache is kept.
    fn parse(
        table: &str,
        merged_into: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Self, Unavailable> {
        let version = table.lines().next().unwrap_or_default();
        if !version.starts_with("slabinfo - version: 2.") {
            let reason = format!("{PATH}: expected slabinfo version 2, found {version:?}");
            return Err(Unavailable::new(QUANTITY, reason));
        }
        let merged: BTreeMap<PathBuf, &str> = SOCKET_CACHES
            .into_iter()
            .filter_map(|cache| Some((merged_into(cache)?, cache)))
            .collect();
        let mut bytes = BTreeMap::new();
        let (mut sockets, mut shared_object_bytes) = (0, Vec::new());
        for line in table.lines().skip(2) {
            let name = line.split_whitespace().next().unwrap_or_default();
            let named = |caches: &[&'static str]| caches.iter().copied().find(|own| *own == name);
            if let Some(shared) = named(&SHARED_WITH_FILES) {
                shared_object_bytes.push((shared, Objects::parse(line)?.size_bytes));
                continue;
            }
            let own = named(&SOCKET_CACHES).or_else(|| merged.get(&merged_into(name)?).copied());
            if let Some(cache) = own {
                let objects = Objects::parse(line)?;
                bytes.insert(cache, objects.in_use * objects.size_bytes);
                if cache == INODES {
                    sockets = objects.in_use;
                }
            }
        }
        let shared = shared_object_bytes.into_iter();
        bytes.extend(shared.map(|(cache, object_bytes)| (cache, sockets * object_bytes)));
        Ok(Self { bytes })
    }
}

/// What a line of the table says of its cache.
struct Objects {
    in_use: u64,
    size_bytes: u64,
}

impl Objects {
    fn parse(line: &str) -> Result<Self, Unavailable> {
        let mut columns = line.split_whitespace().skip(1);
        let mut number = || columns.next()?.parse::<u64>().ok();
        match (number(), number(), number()) {
            (Some(in_use), Some(_with_free_ones), Some(size_bytes)) => {
                Ok(Self { in_use, size_bytes })
            }
            _ => {
                let reason = format!("{PATH}: expected objects and their size, found {line:?}");
                Err(Unavailable::new(QUANTITY, reason))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Sockets' port entries are kept in a cache that has another name, as those of other objects are.
    fn merged_into(cache: &str) -> Option<PathBuf> {
        match cache {
            "tcp_bind_bucket" | "pte_list_desc" => Some(":A-0000128".into()),
            "ext4_inode_cache" => Some(":a-0001128".into()),
            _ => None,
        }
    }

    fn table(sockets: u64, files: u64) -> String {
        format!(
            "slabinfo - version: 2.1\n\
             # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
             ext4_inode_cache 64036 64036 1128 14 4 : tunables 0 0 0 : slabdata 1 1 0\n\
             TCP              {sockets} 26 2368 13 8 : tunables 0 0 0 : slabdata 2 2 0\n\
             filp             {files} 630 192 21 1 : tunables 0 0 0 : slabdata 30 30 0\n\
             pte_list_desc    {sockets} 64 128 32 1 : tunables 0 0 0 : slabdata 2 2 0\n\
             sock_inode_cache {sockets} 39 832 39 8 : tunables 0 0 0 : slabdata 1 1 0\n"
        )
    }

    fn parse(table: &str) -> Result<SocketSlabs, Unavailable> {
        SocketSlabs::parse(table, merged_into)
    }

    #[test]
    fn sums_what_sockets_use_and_nothing_else() {
        const EACH_BYTES: u64 = 2368 + 192 + 128 + 832;
        let before = parse(&table(2, 100)).unwrap();
        assert_eq!(before.total_bytes(), 2 * EACH_BYTES);
        let after = parse(&table(12, 9_000)).unwrap();
        assert_eq!(after.growth_bytes(&before), 10 * EACH_BYTES as i64);
        assert_eq!(before.growth_bytes(&after), -10 * EACH_BYTES as i64);
        let by_cache = [
            ("TCP", 23_680),
            ("filp", 1_920),
            (INODES, 8_320),
            ("tcp_bind_bucket", 1_280),
        ];
        assert_eq!(after.growth_by_cache(&before), BTreeMap::from(by_cache));
    }

    #[test]
    fn another_format_is_refused_with_what_was_found() {
        for (table, found) in [
            ("slabinfo - version: 3.0\n", "version: 3.0"),
            ("", "\"\""),
            ("slabinfo - version: 2.1\n#\nTCP many\n", "TCP many"),
            ("slabinfo - version: 2.1\n#\nfilp 1 2\n", "filp 1 2"),
        ] {
            let error = parse(table).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
