//! Where a run is measured and what was built: the part of a record that makes two runs comparable,
//! or shows that they are not.
//!
//! Reads files of `/proc` and `/sys`, and what `build.rs` left in the binary. What a system does
//! not tell is null.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::sync::LazyLock;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use hopbench::record::{Build, Environment};

/// What this binary was built from.
pub(crate) fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("HOPBENCH_GIT_COMMIT").map(str::to_owned),
        git_dirty: option_env!("HOPBENCH_GIT_DIRTY").map(|dirty| dirty == "true"),
        rustc: option_env!("HOPBENCH_RUSTC")
            .unwrap_or("unknown")
            .to_owned(),
        libraries: libraries(option_env!("HOPBENCH_LIBRARIES").unwrap_or_default()),
    }
}

/// Version and commit, for `-V` and for the first line of `--version`.
pub(crate) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let Build {
            version,
            git_commit,
            git_dirty,
            ..
        } = build();
        let commit = match &git_commit {
            Some(commit) => commit.chars().take(COMMIT_DIGITS).collect(),
            None => "built outside a checkout, commit unknown".to_owned(),
        };
        let changed = if git_dirty == Some(true) {
            ", changed"
        } else {
            ""
        };
        format!("{version} ({commit}{changed})")
    });
    &VERSION
}

/// The same, and what else the figures depend on.
pub(crate) fn long_version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let Build {
            rustc, libraries, ..
        } = build();
        let libraries = libraries
            .iter()
            .map(|(name, version)| format!("{name} {version}"));
        let libraries = libraries.collect::<Vec<_>>().join(", ");
        format!("{}\n{rustc}\n{libraries}", version())
    });
    &VERSION
}

/// Digits of a commit that tell it from others.
pub(crate) const COMMIT_DIGITS: usize = 9;

/// The machine as it is now; call it before the load starts, for the sake of the load average.
pub(crate) fn environment() -> Environment {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    Environment {
        os: std::env::consts::OS.to_owned(),
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu_model: field(&cpuinfo, "model name").map(str::to_owned),
        cpu_count: cpu_count(),
        memory_bytes: read("/proc/meminfo").and_then(|meminfo| memory_bytes(&meminfo)),
        hypervisor: hypervisor(
            &cpuinfo,
            read("/sys/hypervisor/type").or_else(|| read("/sys/class/dmi/id/sys_vendor")),
        ),
        tcp_congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
        file_descriptor_limit: file_descriptor_limit(),
        load_average_at_start: read("/proc/loadavg").and_then(|loadavg| load_average(&loadavg)),
    }
}

/// `name=version;…` as `build.rs` writes it; of a library that is built in twice, both versions.
fn libraries(list: &str) -> BTreeMap<String, String> {
    let mut libraries = BTreeMap::<String, String>::new();
    for (name, version) in list.split(';').filter_map(|entry| entry.split_once('=')) {
        libraries
            .entry(name.to_owned())
            .and_modify(|versions| {
                versions.push_str(", ");
                versions.push_str(version);
            })
            .or_insert_with(|| version.to_owned());
    }
    libraries
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The first value of `key` in the `key : value` lines of `/proc/cpuinfo` and `/proc/meminfo`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim())
    })
}

fn cpu_count() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let kibibytes = field(meminfo, "MemTotal")?.strip_suffix(" kB")?;
    kibibytes.parse::<u64>().ok()?.checked_mul(1_024)
}

/// `none` on bare metal; the machine's vendor on a virtual one, `unidentified` when it hides. Only
/// x86 processors tell whether they are virtual, so elsewhere the answer is null.
fn hypervisor(cpuinfo: &str, vendor: Option<String>) -> Option<String> {
    let is_virtual = field(cpuinfo, "flags")?
        .split_whitespace()
        .any(|flag| flag == "hypervisor");
    Some(if is_virtual {
        vendor.unwrap_or_else(|| "unidentified".to_owned())
    } else {
        "none".to_owned()
    })
}

/// Null also when there is no limit.
fn file_descriptor_limit() -> Option<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (hard != RLIM_INFINITY).then_some(hard)
}

fn load_average(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.80GHz\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU @ 2.80GHz"));
        assert_eq!(
            memory_bytes("MemFree: 1 kB\nMemTotal:    8132396 kB\n"),
            Some(8_327_573_504)
        );
        assert_eq!(load_average("0.39 0.28 0.23 3/91 16921"), Some(0.39));
    }

    #[test]
    fn what_is_not_told_is_null() {
        assert_eq!(field("", "model name"), None);
        assert_eq!(memory_bytes("MemTotal: much\n"), None);
        assert_eq!(load_average(""), None);
    }

    #[test]
    fn a_hypervisor_is_named_hidden_absent_or_unknown() {
        let table = [
            ("flags : fpu hypervisor", Some("QEMU"), Some("QEMU")),
            ("flags : fpu hypervisor", None, Some("unidentified")),
            ("flags : fpu", Some("Dell Inc."), Some("none")),
            ("Features : fp asimd", Some("QEMU"), None),
        ];
        for (cpuinfo, vendor, expected) in table {
            let found = hypervisor(cpuinfo, vendor.map(str::to_owned));
            assert_eq!(found.as_deref(), expected, "{cpuinfo}, {vendor:?}");
        }
    }

    #[test]
    fn the_build_names_the_locked_libraries() {
        let build = build();
        let lock = include_str!("../../Cargo.lock");
        for library in [
            "boringtun",
            "hdrhistogram",
            "ring",
            "rustls",
            "tokio",
            "tokio-rustls",
        ] {
            let version = &build.libraries[library];
            let entry = format!("name = \"{library}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "{library} {version}");
        }
        assert!(build.rustc.starts_with("rustc "), "{}", build.rustc);
    }

    #[test]
    fn a_commit_is_a_whole_hash_and_comes_with_its_cleanliness() {
        let build = build();
        assert_eq!(build.git_commit.is_some(), build.git_dirty.is_some());
        if let Some(commit) = build.git_commit {
            assert!(commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn both_versions_of_a_library_are_told() {
        let libraries = libraries("rand=0.9.5;ring=0.17.14;rand=0.10.4");
        assert_eq!(libraries["rand"], "0.9.5, 0.10.4");
        assert_eq!(libraries["ring"], "0.17.14");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_processors_memory_and_a_kernel() {
        let environment = environment();
        assert!(environment.cpu_count >= 1);
        assert!(environment.memory_bytes.unwrap() > 1 << 20);
        assert!(!environment.kernel.unwrap().ends_with('\n'));
        assert!(environment.load_average_at_start.unwrap() >= 0.0);
    }
}
