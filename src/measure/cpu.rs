//! Processor time of this process and of this thread, user and system together.
//!
//! Read from the scheduler's clocks (POSIX `clock_gettime`), which count nanoseconds where
//! `getrusage` may count ticks. Time stolen by a hypervisor is not recognised as such by every
//! kernel: on a shared machine compare within one run.

use libc::{CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, clockid_t};

/// Processor time that all threads of this process have used since it started, ended threads
/// included, in ns.
#[must_use]
pub fn process_ns() -> u64 {
    clock_ns(CLOCK_PROCESS_CPUTIME_ID)
}

/// Processor time that the calling thread has used since it started, in ns.
#[must_use]
pub fn thread_ns() -> u64 {
    clock_ns(CLOCK_THREAD_CPUTIME_ID)
}

/// Time in which the calling thread could have run since it started, but another one had its processor, in ns;
/// `None` where the system does not tell (Linux with `CONFIG_SCHED_INFO` does).
#[must_use]
pub fn thread_waited_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Time since an arbitrary moment, in ns; on one machine it is the same moment for every process,
/// so that the readings of two processes can be laid side by side.
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock_ns(CLOCK_MONOTONIC)
}

fn clock_ns(clock: clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the length of the call.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(outcome, 0, "POSIX requires clock {clock} to be readable");
    let seconds = u64::try_from(time.tv_sec).expect("these clocks start at zero");
    let ns = u64::try_from(time.tv_nsec).expect("nanoseconds of a second are not negative");
    seconds * 1_000_000_000 + ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_used_at_least_what_this_thread_has() {
        let thread = thread_ns();
        let process = process_ns();
        assert!(thread > 0);
        assert!(process >= thread, "{process} < {thread}");
    }

    #[test]
    fn another_thread_starts_from_its_own_zero() {
        let used_before = thread_ns();
        let mut product = 1_u64;
        while thread_ns() - used_before < 5_000_000 {
            product = std::hint::black_box(product.wrapping_mul(31));
        }
        let fresh = std::thread::spawn(thread_ns)
            .join()
            .expect("reading a clock does not panic");
        assert!(fresh < thread_ns());
    }
}
