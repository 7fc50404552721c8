//! A network namespace without a name: it is held by a descriptor alone, so that the kernel removes it, with
//! every interface in it, when this process and those inside have ended, however they ended.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use hopbench::net::tun::{Tun, TunConfig};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::LabError;
use super::route::Interfaces;

/// The calling thread's, as the kernel shows it.
const OWN: &str = "/proc/thread-self/ns/net";

/// What is set in every namespace, and why. All of it is the namespace's own.
const SYSCTLS: [(&str, &str); 6] = [
    // Nothing that hopbench has not sent is to be on the wire: IPv6 looks for neighbours and routers.
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // What comes out of a tunnel may come from addresses that have a route elsewhere, or are this host's too.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/default/accept_local", "1"),
];

/// A network of its own, with a loopback that is up.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    descriptor: Arc<OwnedFd>,
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// Where this process may not make one; [`super::privilege`] says what can be done about that.
    pub(crate) fn create() -> Result<Self, LabError> {
        let made = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(OWN)
        });
        let descriptor: OwnedFd = made
            .map_err(LabError::step("make a network namespace"))?
            .into();
        let namespace = Self {
            descriptor: Arc::new(descriptor),
        };
        namespace.run(|| {
            for (key, value) in SYSCTLS {
                set(key, value)?;
            }
            Ok(())
        })?;
        namespace.interfaces(async |interfaces| interfaces.bring_up("lo").await)?;
        Ok(namespace)
    }

    /// Does `work` inside, on a thread of its own, which ends with it. Descriptors that it makes stay in the
    /// namespace; children that it starts would die with the thread: use [`Self::command`] for those.
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        on_own_thread(|| {
            self.enter()
                .map_err(LabError::step("enter a network namespace"))?;
            work()
        })
    }

    /// Moves the calling thread inside, for good.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&*self.descriptor, CloneFlags::CLONE_NEWNET)?)
    }

    /// Has the child of `command` start inside.
    pub(crate) fn confine(&self, command: &mut Command) {
        let descriptor = Arc::clone(&self.descriptor);
        // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes
        // no lock.
        unsafe {
            command.pre_exec(move || Ok(setns(&*descriptor, CloneFlags::CLONE_NEWNET)?));
        }
    }

    /// A command whose child starts inside, and dies with the thread that starts it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.confine(&mut command);
        let parent = nix::unistd::getpid();
        // SAFETY: as above.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                if nix::unistd::getppid() != parent {
                    return Err(nix::Error::ESRCH.into());
                }
                Ok(())
            });
        }
        command
    }

    /// A TUN device inside, which is up.
    ///
    /// # Errors
    /// Where `/dev/net/tun` is missing or not this user's.
    pub(crate) fn tun(&self, config: &TunConfig) -> Result<Tun, LabError> {
        self.run(|| Ok(Tun::open(config)?))
    }

    /// Has `change` configure the interfaces inside.
    ///
    /// # Errors
    /// Those of `change`, and when the kernel does not listen.
    pub(crate) fn interfaces<T: Send>(
        &self,
        change: impl AsyncFnOnce(&Interfaces) -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        self.run(|| Interfaces::of_this_thread(change))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Sets a key of the calling thread's namespace. A kernel without that protocol has nothing to set.
fn set(key: &str, value: &str) -> Result<(), LabError> {
    match std::fs::write(format!("/proc/sys/net/{key}"), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => Ok(()),
        outcome => outcome.map_err(LabError::step(format!("set net/{key} to {value}"))),
    }
}

/// A thread that changes its namespace is no good for anything else.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let outcome = thread::Builder::new()
            .name("lab".into())
            .spawn_scoped(scope, work)
            .expect("a thread can be started")
            .join();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::super::tests::lab_is_possible;
    use super::*;

    fn names_of_interfaces() -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let lines = table.lines().skip(2);
        let mut names: Vec<String> = lines
            .map(|line| line.split(':').next().unwrap().trim().to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_namespace_has_a_loopback_of_its_own_and_nothing_else() {
        if !lab_is_possible() {
            return;
        }
        let [one, other] = [(); 2].map(|()| Namespace::create().unwrap());
        // The kernel may add devices for old tunnels to each namespace, which are down.
        assert!(
            one.run(|| Ok(names_of_interfaces()))
                .unwrap()
                .contains(&"lo".to_owned())
        );
        let listener = one
            .run(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()))
            .unwrap();
        let address = listener.local_addr().unwrap();
        one.run(|| Ok(TcpStream::connect(address).unwrap()))
            .unwrap();
        let stranger = other.run(|| Ok(TcpStream::connect(address))).unwrap();
        assert!(stranger.is_err(), "networks are apart");
    }

    #[test]
    fn children_start_inside() {
        if !lab_is_possible() {
            return;
        }
        let namespace = Namespace::create().unwrap();
        let output = namespace
            .command("readlink")
            .arg("/proc/self/ns/net")
            .output()
            .unwrap();
        let inside = namespace
            .run(|| Ok(std::fs::read_link(OWN).unwrap()))
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(told.trim(), inside.to_str().unwrap());
        assert_ne!(inside, std::fs::read_link(OWN).unwrap());
    }

    #[test]
    fn a_device_is_made_inside_and_goes_with_its_descriptor() {
        if !lab_is_possible() {
            return;
        }
        let namespace = Namespace::create().unwrap();
        let config = TunConfig {
            name: "hop%d".into(),
            address: Ipv4Addr::new(198, 18, 0, 1),
            prefix_bits: 30,
            peer: None,
            mtu_bytes: 1_400,
            queue_packets: 10,
        };
        let tun = namespace.tun(&config).unwrap();
        assert_eq!(tun.name(), "hop0");
        let inside = namespace.run(|| Ok(names_of_interfaces())).unwrap();
        assert!(inside.contains(&"hop0".to_owned()), "{inside:?}");
        // Nothing that nobody has sent is there to be read.
        assert_eq!(
            tun.receive(&mut [0; 2_000]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(tun);
        let inside = namespace.run(|| Ok(names_of_interfaces())).unwrap();
        assert!(!inside.contains(&"hop0".to_owned()), "{inside:?}");
    }
}
