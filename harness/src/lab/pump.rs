//! The pump: a thread that carries IP packets between two TUN devices, through an emulated link in each
//! direction and past a tap.
//!
//! It owns the clock that [`Link`] has none of. Its timers are exact to some tens of microseconds; packets
//! that it delivers later than it should have, and those that a device dropped because it did not read
//! in time, are counted: figures of such a cell would be the emulator's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hopbench::net::link::{Link, LinkCounters};
use hopbench::net::tun::InterfaceBooks;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::unistd;

use super::tap::{Direction, Tap};

/// Packets of one direction that are read before anything else is done.
const BATCH_PACKETS: usize = 64;
/// No IP packet is longer.
const PACKET_BYTES_MAX: usize = 65_535;
/// So long before a packet is due the thread stays awake, since the kernel wakes it later than it asks, by about
/// as much on a virtual machine.
const EARLY: Duration = Duration::from_micros(60);
/// Beyond this a packet counts as late: a quarter of what a measured round trip may be off.
const LATE: Duration = Duration::from_micros(250);
/// With more late packets than this, medians are no longer those of the delays that were asked for. Fewer are told
/// by their number, as a late start is: a machine that is busy has some.
const LATE_SHARE_MAX: f64 = 0.5;

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End {
    /// A TUN device, or a socket that keeps packets apart; reading and writing never wait.
    pub(crate) device: OwnedFd,
    /// What the kernel dropped there, if it tells.
    pub(crate) books: Option<InterfaceBooks>,
}

/// A pump at work. Dropping it ends the thread, and with it what is under way.
#[derive(Debug)]
pub(crate) struct Pump {
    books: Arc<Mutex<Books>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Books {
    tap: Tap,
    /// By direction.
    links: [LinkCounters; 2],
    /// Packets that the device at the far end did not take.
    refused: u64,
    delivered_late: u64,
    interfaces: [Option<InterfaceBooks>; 2],
    /// What both links are to send at from now on, once the thread has seen it.
    rate: Option<NewRate>,
    failure: Option<io::Error>,
}

/// Bits a second; `None` for as many as come.
type NewRate = Option<u64>;

/// What became of packets between two devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PumpCounters {
    /// What the links did, on purpose.
    pub(crate) links: LinkCounters,
    /// Packets that the kernel dropped before they were read; `None` where it does not tell.
    pub(crate) overrun: Option<u64>,
    /// Packets that the device at the far end did not take.
    pub(crate) refused: u64,
    /// Packets that were delivered more than 250 µs later than they should have been.
    pub(crate) late: u64,
}

impl PumpCounters {
    /// What came after `earlier`, a reading of the same pump.
    #[cfg(test)]
    pub(crate) fn since(self, earlier: Self) -> Self {
        let links = LinkCounters {
            offered: self.links.offered - earlier.links.offered,
            delivered: self.links.delivered - earlier.links.delivered,
            lost: self.links.lost - earlier.links.lost,
            queue_full: self.links.queue_full - earlier.links.queue_full,
            too_long: self.links.too_long - earlier.links.too_long,
            duplicated: self.links.duplicated - earlier.links.duplicated,
            held_back: self.links.held_back - earlier.links.held_back,
        };
        Self {
            links,
            overrun: self
                .overrun
                .zip(earlier.overrun)
                .map(|(now, then)| now - then),
            refused: self.refused - earlier.refused,
            late: self.late - earlier.late,
        }
    }

    /// Why figures would be the emulator's, if they would.
    pub(crate) fn overwhelmed(&self) -> Option<String> {
        let dropped = self.overrun.unwrap_or(0) + self.refused;
        if dropped > 0 {
            return Some(format!(
                "the link emulator could not keep up: {dropped} packets were dropped beside those it was \
                 asked to lose; lower the rate"
            ));
        }
        let delivered = self.links.delivered;
        (self.late as f64 > delivered as f64 * LATE_SHARE_MAX).then(|| {
            format!(
                "the link emulator delivered {} of {delivered} packets more than {} µs late: it did not get \
                 its processor",
                self.late,
                LATE.as_micros()
            )
        })
    }
}

impl Pump {
    /// Carries packets between `ends`, from the first to the second by the first link, until it is dropped.
    /// The thread uses `cpus`, if there are some.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(
        ends: [End; 2],
        links: [Link; 2],
        tap: Tap,
        cpus: &[usize],
    ) -> io::Result<Self> {
        let [near, far] = ends;
        let books = Arc::new(Mutex::new(Books {
            tap,
            links: links.each_ref().map(Link::counters),
            refused: 0,
            delivered_late: 0,
            interfaces: [near.books, far.books],
            rate: None,
            failure: None,
        }));
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let carrier = Carrier {
            devices: [near.device, far.device],
            links,
            books: Arc::clone(&books),
            stop: Arc::clone(&stop),
            buffer: vec![0; PACKET_BYTES_MAX],
        };
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new()
            .name("link".into())
            .spawn(move || carrier.run(&cpus))?;
        Ok(Self {
            books,
            stop,
            thread: Some(thread),
        })
    }

    /// What became of all packets so far.
    ///
    /// # Errors
    /// When the thread has ended, because a device failed.
    pub(crate) fn counters(&self) -> io::Result<PumpCounters> {
        let mut books = lock(&self.books);
        if let Some(error) = books.failure.take() {
            return Err(error);
        }
        let mut overrun = None;
        for interface in books.interfaces.iter_mut().flatten() {
            overrun = Some(overrun.unwrap_or(0) + interface.dropped()?);
        }
        Ok(PumpCounters {
            links: books.links[0].plus(books.links[1]),
            overrun,
            refused: books.refused,
            late: books.delivered_late,
        })
    }

    /// Has both directions send what comes from now on at another rate; `None` for as fast as it comes.
    pub(crate) fn set_rate(&self, bits_per_second: Option<u64>) {
        lock(&self.books).rate = Some(bits_per_second);
    }

    /// Asks the tap, or tells it something.
    pub(crate) fn with_tap<T>(&self, ask: impl FnOnce(&mut Tap) -> T) -> T {
        ask(&mut lock(&self.books).tap)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // It fails when the counter is full, and then the thread is awake.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Carrier {
    devices: [OwnedFd; 2],
    links: [Link; 2],
    books: Arc<Mutex<Books>>,
    stop: Arc<EventFd>,
    buffer: Vec<u8>,
}

/// Has the calling thread use these processors alone, if there are some.
fn keep_to(cpus: &[usize]) -> nix::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    nix::sched::sched_setaffinity(unistd::Pid::from_raw(0), &set)
}

/// What a sleep ended with.
enum Woken {
    /// The time has come, or there are packets.
    ToWork,
    ToStop,
}

impl Carrier {
    fn run(mut self, cpus: &[usize]) {
        // The kernel may wake a thread this much later than asked, to save power: as little as possible.
        // Where it refuses, or the processors are not this process's, lateness tells.
        let _ = nix::sys::prctl::set_timerslack(1);
        let _ = keep_to(cpus);
        if let Err(error) = self.carry() {
            lock(&self.books).failure = Some(error);
        }
    }

    fn carry(&mut self) -> io::Result<()> {
        loop {
            let has_more = self.take()?;
            self.deliver()?;
            if let Woken::ToStop = self.sleep(has_more)? {
                return Ok(());
            }
        }
    }

    /// Takes what has come, up to a batch of each direction; whether there may be more.
    fn take(&mut self) -> io::Result<bool> {
        let mut has_more = false;
        let mut books = lock(&self.books);
        if let Some(rate) = books.rate.take() {
            for link in &mut self.links {
                link.set_rate(rate).map_err(io::Error::other)?;
            }
        }
        for (index, direction) in Direction::BOTH.into_iter().enumerate() {
            let mut is_drained = false;
            for _ in 0..BATCH_PACKETS {
                match unistd::read(&self.devices[index], &mut self.buffer) {
                    Ok(bytes) => {
                        let now = Instant::now();
                        let packet = &self.buffer[..bytes];
                        books.tap.see(now, direction, packet);
                        self.links[index].offer(now, packet);
                    }
                    Err(Errno::EAGAIN) => {
                        is_drained = true;
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            has_more |= !is_drained;
            books.links[index] = self.links[index].counters();
        }
        Ok(has_more)
    }

    /// Delivers what is due.
    fn deliver(&mut self) -> io::Result<()> {
        let mut late = 0;
        let mut refused = 0;
        for (index, link) in self.links.iter_mut().enumerate() {
            let device = &self.devices[1 - index];
            while let Some(due) = link.deadline() {
                let now = Instant::now();
                let Some(packet) = link.poll(now) else {
                    break;
                };
                late += u64::from(now.saturating_duration_since(due) > LATE);
                match unistd::write(device, packet) {
                    Ok(_) => {}
                    Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => refused += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut books = lock(&self.books);
        books.delivered_late += late;
        books.refused += refused;
        books.links = self.links.each_ref().map(Link::counters);
        Ok(())
    }

    /// Sleeps until shortly before a packet is due, or one comes; not at all if there are some already.
    fn sleep(&self, has_more: bool) -> io::Result<Woken> {
        let deadline = self.links.iter().filter_map(Link::deadline).min();
        let patience = match deadline {
            _ if has_more => Some(Duration::ZERO),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                Some(left.saturating_sub(EARLY))
            }
            None => None,
        };
        let [near, far] = &self.devices;
        let mut watched = [near.as_fd(), far.as_fd(), self.stop.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut watched, patience.map(TimeSpec::from), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(match watched[2].any() {
            Some(true) => Woken::ToStop,
            Some(false) | None => Woken::ToWork,
        })
    }
}

#[cfg(test)]
mod tests;
