//! Programs of others as child processes: placed as the testbed's own are, and their processor time read.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::{Failure, Outcome, Testbed, confine};
use crate::interrupt;

/// How often a wait looks.
const SLICE: Duration = Duration::from_millis(2);

/// Which side of a hop a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Beside the generator's processors.
    Caller,
    /// Beside the node's.
    Server,
}

/// A program at work. Dropping it ends it.
pub(crate) struct Foreign {
    name: String,
    pid: Pid,
    has_ended: bool,
}

/// How a program ended, and what it used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// User and system time from its start to its end, by the kernel's resource usage (`wait4`).
    pub(crate) cpu_ns: u64,
}

impl Testbed {
    /// Starts `command` on the processors of `side`. What it says goes to the file `log`.
    pub(crate) fn foreign(&self, side: Side, mut command: Command, log: &Path) -> Outcome<Foreign> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| Failure::of(format!("cannot start {name}: {error}"));
        let file = File::create(log).map_err(failed)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file);
        let placement = self.placement();
        confine(
            &mut command,
            match side {
                Side::Caller => &placement.load,
                Side::Server => &placement.node,
            },
        );
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).expect("process ids are positive");
        Ok(Foreign {
            name,
            pid: Pid::from_raw(pid),
            has_ended: false,
        })
    }
}

impl Foreign {
    /// User and system time so far.
    pub(crate) fn cpu_ns(&self) -> Outcome<u64> {
        let failed = |error: nix::Error| {
            Failure::of(format!(
                "cannot read the processor time of {}: {error}",
                self.name
            ))
        };
        let clock = clock_getcpuclockid(self.pid).map_err(failed)?;
        let time = Duration::from(clock.now().map_err(failed)?);
        Ok(u64::try_from(time.as_nanos()).expect("no process has run for centuries"))
    }

    /// Asks it to end, as Ctrl-C does, and waits; `None` when it has not within `limit`, and is ended.
    pub(crate) fn interrupt(self, limit: Duration) -> Outcome<Option<Ended>> {
        // One that has ended meanwhile is waited for all the same.
        let _ = kill(self.pid, Signal::SIGINT);
        self.finish(limit)
    }

    /// Waits until it ends by itself; `None` when it has not within `limit`, and is ended.
    pub(crate) fn finish(mut self, limit: Duration) -> Outcome<Option<Ended>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(ended) = self.reap(libc::WNOHANG)? {
                return Ok(Some(ended));
            }
            if interrupt::is_interrupted() {
                return Err(Failure::Interrupted);
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(SLICE);
        }
    }

    /// Waits until it has the local `address`, by the kernel's list of sockets, which it does not notice.
    pub(crate) fn await_bound(
        &mut self,
        address: SocketAddr,
        is_stream: bool,
        limit: Duration,
    ) -> Outcome<()> {
        let deadline = Instant::now() + limit;
        while !is_bound(address, is_stream)? {
            if let Some(ended) = self.reap(libc::WNOHANG)? {
                return Err(Failure::of(format!(
                    "{} ended before it listened at {address}: {}",
                    self.name, ended.status
                )));
            }
            if Instant::now() >= deadline {
                return Err(Failure::of(format!(
                    "{} does not listen at {address} after {limit:?}",
                    self.name
                )));
            }
            std::thread::sleep(SLICE);
        }
        Ok(())
    }

    fn reap(&mut self, options: i32) -> Outcome<Option<Ended>> {
        let mut status = 0;
        // SAFETY: a resource usage is plain numbers, of which zero is one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live, writable values for the length of the call; the process is a
        // child of this one that nobody else waits for.
        let found =
            unsafe { libc::wait4(self.pid.as_raw(), &raw mut status, options, &raw mut usage) };
        if found < 0 {
            return Err(Failure::of(format!(
                "cannot wait for {}: {}",
                self.name,
                std::io::Error::last_os_error()
            )));
        }
        if found == 0 {
            return Ok(None);
        }
        self.has_ended = true;
        Ok(Some(Ended {
            status: ExitStatus::from_raw(status),
            cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
        }))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if !self.has_ended {
            // It may have ended meanwhile; waiting for it is what is left then, too.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.reap(0);
        }
    }
}

fn nanoseconds(time: libc::timeval) -> u64 {
    let microseconds = time.tv_sec * 1_000_000 + time.tv_usec;
    u64::try_from(microseconds).expect("used time is not negative") * 1_000
}

/// A port of the loopback that nobody uses over UDP or TCP, for programs that cannot let the kernel choose.
pub(crate) fn free_port() -> Outcome<SocketAddr> {
    let failed = |error: std::io::Error| Failure::of(format!("no port is free: {error}"));
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::of(
        "no port is free over UDP and TCP at once after 100 attempts",
    ))
}

fn is_bound(address: SocketAddr, is_stream: bool) -> Outcome<bool> {
    let list = if is_stream {
        "/proc/net/tcp"
    } else {
        "/proc/net/udp"
    };
    let sockets = std::fs::read_to_string(list)
        .map_err(|error| Failure::of(format!("cannot read {list}: {error}")))?;
    let IpAddr::V4(ip) = address.ip() else {
        return Err(Failure::of(format!(
            "expected an IPv4 address, found {address}"
        )));
    };
    // As the bytes of the address lie in memory.
    let ip = u32::from_ne_bytes(ip.octets());
    Ok(sockets.contains(&format!(": {ip:08X}:{:04X} ", address.port())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testbed::Placement;

    fn shell(script: &str) -> Foreign {
        let folder = tempfile::tempdir().unwrap();
        let testbed = Testbed::new(Placement::default()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = folder.path().join("log");
        testbed.foreign(Side::Caller, command, &log).unwrap()
    }

    #[test]
    fn what_a_program_used_is_at_least_what_it_did() {
        let busy = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
        let ended = shell(busy).finish(Duration::from_secs(60)).unwrap();
        let ended = ended.unwrap();
        assert!(ended.status.success());
        let idle = shell("sleep 0.05").finish(Duration::from_secs(60)).unwrap();
        let idle = idle.unwrap();
        // Fifty thousand rounds of a shell against none: an order of magnitude, whatever the machine.
        assert!(
            ended.cpu_ns > 2 * idle.cpu_ns && ended.cpu_ns > 5_000_000,
            "{ended:?} {idle:?}"
        );
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let endless = shell("sleep 600");
        let pid = endless.pid;
        assert!(endless.cpu_ns().is_ok());
        assert!(endless.finish(Duration::from_millis(20)).unwrap().is_none());
        assert!(kill(pid, None).is_err(), "it is gone, and was waited for");
    }

    #[test]
    fn a_program_that_ends_instead_of_listening_is_told_of() {
        let address = free_port().unwrap();
        let outcome = shell("exit 3").await_bound(address, true, Duration::from_secs(60));
        let Err(Failure::Failed(reason)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("exit status: 3"), "{reason}");
        let listener = TcpListener::bind(address).unwrap();
        assert!(is_bound(listener.local_addr().unwrap(), true).unwrap());
        assert!(!is_bound(address, false).unwrap());
    }
}
