//! Places nodes and generators as child processes of this binary, so that processor time, heap and
//! resident memory belong to one side each. Children die with their parent.

mod captures;
mod foreign;
mod generators;
mod nodes;
mod tunnel;
mod workers;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::interrupt;
use crate::lab::{LabError, Namespace, Privilege};
use crate::topology::Site;
use crate::variant::Handicap;

pub(crate) use captures::Captures;
pub(crate) use foreign::{Foreign, Side, free_port};
pub(crate) use generators::{Generators, can_have_sources};
pub(crate) use nodes::{Crew, Nodes, TUNNELS_PROTECT, Wire};
pub(crate) use tunnel::TunnelSetups;
pub(crate) use workers::NodeProcesses;

/// A reply to an order that takes no time of its own.
const PROMPT: Duration = Duration::from_secs(20);
/// How often a wait looks for an interrupt.
const SLICE: Duration = Duration::from_millis(50);
/// Lines of a child's standard error that are kept for the reason of a failure.
const STDERR_LINES: usize = 8;

/// Why something could not be measured.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user asked to stop.
    Interrupted,
    /// For the cell's reason.
    Failed(String),
    /// This machine or build cannot do it; for the cell's reason.
    Unsupported(String),
}

/// Result of what children do.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Self::Failed(format!("the lab: {error}"))
    }
}

impl Failure {
    fn of(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}

/// Where processes run.
pub(crate) struct Testbed {
    executable: PathBuf,
    placement: Placement,
    handicap: Handicap,
    /// By what right labs are built, or why none can be; `None` where nobody has asked for one.
    lab: Option<Result<Privilege, String>>,
    captures: Option<Captures>,
}

/// Which processors each side may use; empty leaves it to the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The server under test.
    pub(crate) node: Vec<usize>,
    /// The generator.
    pub(crate) load: Vec<usize>,
}

impl Placement {
    /// With two processors or more, the node gets one and the generator the others: neither can
    /// slow the other down other than by the traffic. With one they have to share.
    pub(crate) fn of_this_machine() -> Self {
        match available_cpus().as_slice() {
            [] | [_] => Self::default(),
            [node, load @ ..] => Self {
                node: vec![*node],
                load: load.to_vec(),
            },
        }
    }
}

fn available_cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
    (0..nix::sched::CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect()
}

impl Testbed {
    /// Runs children of this very binary.
    ///
    /// # Errors
    /// When the binary cannot be found any more.
    pub(crate) fn new(placement: Placement) -> anyhow::Result<Self> {
        Ok(Self {
            executable: std::env::current_exe()?,
            placement,
            handicap: Handicap::default(),
            lab: None,
            captures: None,
        })
    }

    /// The same that may build labs, or knows why it may not.
    pub(crate) fn with_lab(self, lab: Option<Result<Privilege, String>>) -> Self {
        Self { lab, ..self }
    }

    /// The same that captures what passes the links of labs.
    pub(crate) fn capturing(self, captures: Option<Captures>) -> Self {
        Self { captures, ..self }
    }

    /// Whether this is why no lab can be built, which the user has been told once and for all.
    pub(crate) fn is_refusal_of_labs(&self, reason: &str) -> bool {
        matches!(&self.lab, Some(Err(refusal)) if refusal == reason)
    }

    /// By what right labs are built.
    pub(crate) fn lab(&self) -> Outcome<Privilege> {
        match &self.lab {
            Some(Ok(privilege)) => Ok(*privilege),
            Some(Err(reason)) => Err(Failure::Unsupported(reason.clone())),
            None => Err(Failure::Unsupported("this command builds no lab".into())),
        }
    }

    /// The same whose processes burn processor time on purpose, unless a site says otherwise.
    pub(crate) fn handicapped(self, handicap: Handicap) -> Self {
        Self { handicap, ..self }
    }

    /// What either side of `site` burns on purpose.
    pub(crate) fn handicap(&self, site: &Site) -> Handicap {
        site.variant.handicap.over(self.handicap)
    }

    /// What each node of `site` burns on purpose, of its own processor time.
    fn server_handicap(&self, site: &Site) -> f64 {
        self.handicap(site).server_handicap_ratio.unwrap_or(0.0)
    }

    /// What each worker of its generator burns on purpose, likewise.
    pub(crate) fn generator_handicap(&self, site: &Site) -> f64 {
        self.handicap(site).generator_handicap_ratio.unwrap_or(0.0)
    }

    /// Which processors each side uses.
    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Starts a child in a network namespace, or else in this process's own.
    fn start<Reply: DeserializeOwned + Send + 'static>(
        &self,
        role: &'static str,
        cpus: &[usize],
        place: Option<&Namespace>,
        config: &impl Serialize,
    ) -> Outcome<Process<Reply>> {
        let mut command = Command::new(&self.executable);
        command
            .args([role, "--control"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(keys) = self.captures.as_ref().and_then(Captures::keys) {
            command.env(captures::KEYS_VARIABLE, keys);
        }
        confine(&mut command, cpus);
        if let Some(namespace) = place {
            namespace.confine(&mut command);
        }
        let child = command
            .spawn()
            .map_err(|error| Failure::of(format!("cannot start the {role} process: {error}")))?;
        let mut process = Process::attach(role, child);
        process.order(config)?;
        Ok(process)
    }
}

/// Has the child of `command` use these processors alone, if there are some, and die with this process.
fn confine(command: &mut Command, cpus: &[usize]) {
    // Out of the terminal's foreground group: Ctrl-C goes to the parent alone, which ends its children in
    // order.
    command.process_group(0);
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        // A processor beyond the set's size was never in the affinity mask it came from.
        let _ = set.set(*cpu);
    }
    let is_pinned = !cpus.is_empty();
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing
    // and takes no lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                return Err(nix::Error::ESRCH.into());
            }
            if is_pinned {
                nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
            }
            Ok(())
        });
    }
}

/// A child and the pipes to it. Dropping it ends the child.
struct Process<Reply> {
    role: &'static str,
    child: Mutex<Child>,
    stdin: Option<ChildStdin>,
    replies: Receiver<Result<Reply, String>>,
    stderr: Arc<Mutex<VecDeque<String>>>,
}

impl<Reply: DeserializeOwned + Send + 'static> Process<Reply> {
    fn attach(role: &'static str, mut child: Child) -> Self {
        let stdout = child.stdout.take().expect("standard output was piped");
        let errors = child.stderr.take().expect("standard error was piped");
        let stdin = child.stdin.take();
        let (sender, replies) = channel();
        std::thread::spawn(move || read_replies(BufReader::new(stdout), &sender));
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let tail = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == STDERR_LINES {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
        });
        Self {
            role,
            child: Mutex::new(child),
            stdin,
            replies,
            stderr,
        }
    }

    /// As the kernel numbers it.
    fn id(&self) -> u32 {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id()
    }

    fn order(&mut self, order: &impl Serialize) -> Outcome<()> {
        let mut line = serde_json::to_vec(order).expect("orders serialise");
        line.push(b'\n');
        let written = match &mut self.stdin {
            Some(stdin) => stdin.write_all(&line).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|_| self.ended())
    }

    /// Whether the child is still there.
    fn check(&self) -> Outcome<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => {
                drop(child);
                Err(self.ended())
            }
        }
    }

    fn reply(&self, limit: Duration) -> Outcome<Reply> {
        self.reply_while(limit, || Ok(()))
    }

    /// Waits for a reply as long as `watch` finds nothing wrong elsewhere.
    fn reply_while(&self, limit: Duration, watch: impl Fn() -> Outcome<()>) -> Outcome<Reply> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(reply) = self.reply_within(SLICE)? {
                return Ok(reply);
            }
            if Instant::now() >= deadline {
                return Err(self.silent(limit));
            }
            watch()?;
        }
    }

    /// A reply, if there is one by then.
    fn reply_within(&self, patience: Duration) -> Outcome<Option<Reply>> {
        if interrupt::is_interrupted() {
            return Err(Failure::Interrupted);
        }
        match self.replies.recv_timeout(patience) {
            Ok(Ok(reply)) => Ok(Some(reply)),
            Ok(Err(garbled)) => Err(Failure::of(garbled)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    fn silent(&self, limit: Duration) -> Failure {
        Failure::of(format!(
            "the {} process did not answer within {limit:?}",
            self.role
        ))
    }

    fn unexpected(&self, reply: &impl std::fmt::Debug) -> Failure {
        Failure::of(format!(
            "the {} process answered out of turn: {reply:?}",
            self.role
        ))
    }

    /// The child is gone: how, and its last words.
    fn ended(&self) -> Failure {
        if interrupt::is_interrupted() {
            return Failure::Interrupted;
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + Duration::from_secs(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(SLICE / 10),
                Ok(None) => break "it closed its output but goes on".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = tail.iter().map(String::as_str).collect();
        let words = if words.is_empty() {
            String::new()
        } else {
            format!("; it said: {}", words.join(" / "))
        };
        Failure::of(format!(
            "the {} process died in the middle ({status}){words}",
            self.role
        ))
    }
}

fn read_replies<Reply: DeserializeOwned>(
    lines: impl BufRead,
    replies: &Sender<Result<Reply, String>>,
) {
    for line in lines.lines().map_while(Result::ok) {
        let reply = serde_json::from_str(&line)
            .map_err(|error| format!("a child process wrote what is no reply ({error}): {line}"));
        if replies.send(reply).is_err() {
            return;
        }
    }
}

impl<Reply> Drop for Process<Reply> {
    fn drop(&mut self) {
        self.stdin = None;
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
