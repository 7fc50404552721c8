//! Resident memory of a process, as the kernel books it (`smaps_rollup`, proc(5)).
//!
//! Counts whole pages that are mapped and present, shared ones included: it moves in steps of
//! 4 KiB, or of 2 MiB where the kernel backs the heap by huge pages. For bytes that the program
//! asked for see [`super::heap`]; for what sockets hold inside the kernel, [`super::kernel`].

use super::Unavailable;

/// Resident memory of the calling process, in bytes.
///
/// # Errors
/// Where the kernel offers no `smaps_rollup`: outside Linux, or before Linux 4.14.
pub fn resident_bytes() -> Result<u64, Unavailable> {
    read(Subject::Myself)
}

/// Resident memory of process `pid`, in bytes.
///
/// # Errors
/// As [`resident_bytes`], and when the process has ended or belongs to somebody else.
pub fn resident_bytes_of(pid: u32) -> Result<u64, Unavailable> {
    read(Subject::Process(pid))
}

/// The most memory of the calling process that was ever resident, in bytes (`VmHWM`, proc(5)). The
/// kernel keeps this book by threads and settles it now and then: it may be a few pages behind.
///
/// # Errors
/// Outside Linux.
pub fn peak_resident_bytes() -> Result<u64, Unavailable> {
    read_peak()
}

const QUANTITY: &str = "resident memory";

#[derive(Clone, Copy)]
enum Subject {
    Myself,
    Process(u32),
}

#[cfg(target_os = "linux")]
fn read(subject: Subject) -> Result<u64, Unavailable> {
    use procfs::process::Process;

    let unavailable = |reason: procfs::ProcError| Unavailable::new(QUANTITY, reason);
    let process = match subject {
        Subject::Myself => Process::myself(),
        Subject::Process(pid) => {
            let pid = i32::try_from(pid).map_err(|error| Unavailable::new(QUANTITY, error))?;
            Process::new(pid)
        }
    }
    .map_err(unavailable)?;
    let rollup = process.smaps_rollup().map_err(unavailable)?;
    rollup
        .memory_map_rollup
        .0
        .iter()
        .find_map(|map| map.extension.map.get("Rss").copied())
        .ok_or_else(|| Unavailable::new(QUANTITY, "smaps_rollup holds no line `Rss`"))
}

#[cfg(target_os = "linux")]
fn read_peak() -> Result<u64, Unavailable> {
    let unavailable = |reason: procfs::ProcError| Unavailable::new(QUANTITY, reason);
    let process = procfs::process::Process::myself().map_err(unavailable)?;
    let status = process.status().map_err(unavailable)?;
    let peak_kib = status
        .vmhwm
        .ok_or_else(|| Unavailable::new(QUANTITY, "/proc/PID/status holds no line `VmHWM`"))?;
    Ok(peak_kib * 1_024)
}

#[cfg(not(target_os = "linux"))]
fn read_peak() -> Result<u64, Unavailable> {
    Err(Unavailable::new(
        QUANTITY,
        "only Linux has /proc/PID/status",
    ))
}

#[cfg(not(target_os = "linux"))]
fn read(subject: Subject) -> Result<u64, Unavailable> {
    let (Subject::Myself | Subject::Process(_)) = subject;
    Err(Unavailable::new(
        QUANTITY,
        "only Linux has /proc/PID/smaps_rollup",
    ))
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_this_process_agree_on_the_scale() {
        let own = resident_bytes().unwrap();
        let by_pid = resident_bytes_of(std::process::id()).unwrap();
        assert!(own > 100 * 1024, "a Rust process of {own} bytes");
        assert!(
            by_pid > own / 2 && by_pid < own * 2,
            "{own} against {by_pid}"
        );
    }

    #[test]
    fn the_peak_outlasts_what_made_it() {
        const LARGE_BYTES: u64 = 32 << 20;
        let before = resident_bytes().unwrap();
        let large = vec![1_u8; usize::try_from(LARGE_BYTES).unwrap()];
        drop(std::hint::black_box(large));
        let peak = peak_resident_bytes().unwrap();
        assert!(peak >= before / 2 + LARGE_BYTES, "{peak} after {before}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_with_its_reason() {
        let error = resident_bytes_of(u32::MAX).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot measure resident memory: "),
            "{error}"
        );
    }
}
