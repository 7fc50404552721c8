//! A daemon as a child process: inside a namespace, with a `/run` of its own, so that daemons of several
//! namespaces do not meet there; what it says goes to a file, and it is ended with its owner.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::DaemonError;

/// How long a daemon may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How often a wait looks.
const SLICE: Duration = Duration::from_millis(5);
/// Lines of what it has said that an error tells.
const TOLD_LINES: usize = 12;

/// A daemon at work. Dropping it ends it.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which enters its namespace by itself, on these processors if there are some. What it
    /// says goes to the file `log`.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        cpus: &[usize],
        log: PathBuf,
    ) -> Result<Self, DaemonError> {
        let failed = |error| DaemonError::Io(format!("start {name}"), error);
        let file = File::create(&log).map_err(failed)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            // Out of the terminal's foreground group: Ctrl-C goes to the parent alone.
            .process_group(0);
        let mut set = CpuSet::new();
        for cpu in cpus {
            // A processor beyond the set's size was never in the affinity mask it came from.
            let _ = set.set(*cpu);
        }
        let is_pinned = !cpus.is_empty();
        // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes
        // no lock.
        unsafe {
            command.pre_exec(move || {
                if is_pinned {
                    sched_setaffinity(Pid::from_raw(0), &set)?;
                }
                own_run()
            });
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name, child, log })
    }

    /// Waits until `ready` yields something.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, DaemonError> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            self.check()?;
            if Instant::now() >= deadline {
                return Err(self.failed(format!("it is without {what} after {READY_LIMIT:?}")));
            }
            thread::sleep(SLICE);
        }
    }

    /// Whether it is still there.
    pub(super) fn check(&mut self) -> Result<(), DaemonError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(format!("it ended ({status})"))),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    /// An error with the last of what it has said.
    pub(super) fn failed(&self, reason: String) -> DaemonError {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let told = &lines[lines.len().saturating_sub(TOLD_LINES)..];
        DaemonError::Failed {
            name: self.name,
            reason,
            said: told.join(" / "),
        }
    }

    /// User and system time so far.
    pub(super) fn cpu_time(&self) -> Result<Duration, DaemonError> {
        let clock = clock_getcpuclockid(self.pid());
        let time = clock.and_then(nix::time::ClockId::now);
        time.map(Duration::from)
            .map_err(|error| self.failed(format!("its processor time cannot be read: {error}")))
    }

    /// As the kernel numbers it.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first: it takes leave of its peer.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(SLICE);
        }
    }
}

/// Gives the calling process a `/run` that is empty and nobody else's. What is mounted goes with it.
fn own_run() -> io::Result<()> {
    const NONE: Option<&std::ffi::CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, c"/", NONE, private, NONE)?;
    mount(
        Some(c"none"),
        c"/run",
        Some(c"tmpfs"),
        MsFlags::empty(),
        NONE,
    )?;
    Ok(())
}
