//! Wakes one worker at exact instants, and as seldom as it may.
//!
//! Tokio's timers tick in milliseconds, which is longer than a plaintext registration takes: a start
//! that late would be most of the latency that is reported. On Linux a timerfd wakes the worker
//! within tens of microseconds; elsewhere Tokio's timer has to do, and the lag histogram shows it.
//!
//! A wake-up costs more than the messages that it is for: at thousands of calls a second, most of a
//! worker's time. So the thread simply sleeps until a start that is [`IMMINENT`], without setting a timer
//! and without asking for sockets. And where [`GeneratorConfig::gather`] says so, it sleeps for so long
//! whenever it has started or heard something: what arrives or is to start meanwhile is served by one
//! wake-up, and leaves in one write. When more comes than is plenty, a wake-up costs little beside it,
//! and the thread sleeps less long, so that buffers of sockets do not overflow.
//!
//! [`GeneratorConfig::gather`]: super::GeneratorConfig::gather

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A start so near that the thread sleeps until then: to set a timer and to ask for sockets takes about as long.
const IMMINENT: Duration = Duration::from_micros(50);

/// Starts and messages of one wake-up that are enough: what is received meanwhile fits the buffers of a connection
/// as it is opened, or of a datagram socket.
const PLENTY_OF_STREAM: u32 = 256;
const PLENTY_OF_DATAGRAMS: u32 = 128;

thread_local! {
    static NAP: RefCell<Option<Nap>> = const { RefCell::new(None) };
}

/// What a worker's thread does before it asks for its sockets.
struct Nap {
    until: Instant,
    /// Who sees then what is due.
    waker: Waker,
}

/// Sleeps as its pacer has asked for. To be called by the runtime of a worker before it parks.
pub(super) fn before_park() {
    let Some(nap) = NAP.take() else { return };
    let remaining = nap.until.saturating_duration_since(Instant::now());
    if !remaining.is_zero() {
        std::thread::sleep(remaining);
    }
    nap.waker.wake();
}

/// One alarm, set again and again.
pub(super) struct Pacer {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<Alarm>,
    #[cfg(target_os = "linux")]
    armed_for: Option<Instant>,
    #[cfg(not(target_os = "linux"))]
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
    gather: Duration,
    /// Starts and messages of one wake-up beyond which it gathers less long.
    plenty: u32,
}

impl Pacer {
    /// Resolves at `deadline`, or as soon as others had their turn if it has passed; or when something was
    /// gathered. Cancel safe. Whoever starts something or handles a message counts it in `busy`.
    pub(super) async fn wait_until(
        &mut self,
        deadline: Instant,
        busy: &Cell<u32>,
    ) -> io::Result<()> {
        let nap = match busy.take() {
            0 => Duration::ZERO,
            count => self.gather * self.plenty / count.max(self.plenty),
        };
        let gathers = !nap.is_zero();
        let now = Instant::now();
        if deadline <= now && !gathers {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let (end, imminent) = match gathers {
            true => (now + nap, nap),
            false => (deadline, self.gather.max(IMMINENT)),
        };
        let _nap = ForgetNap;
        poll_fn(|cx| {
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Poll::Ready(self.settle(cx));
            }
            if remaining > imminent {
                return self.poll_alarm(cx, deadline);
            }
            let waker = cx.waker().clone();
            NAP.set(Some(Nap { until: end, waker }));
            Poll::Pending
        })
        .await
    }
}

fn plenty(is_stream: bool) -> u32 {
    match is_stream {
        true => PLENTY_OF_STREAM,
        false => PLENTY_OF_DATAGRAMS,
    }
}

/// Whoever stops waiting does not sleep.
struct ForgetNap;

impl Drop for ForgetNap {
    fn drop(&mut self) {
        NAP.set(None);
    }
}

/// A timerfd under the trait that Tokio asks for.
#[cfg(target_os = "linux")]
struct Alarm(nix::sys::timerfd::TimerFd);

#[cfg(target_os = "linux")]
impl std::os::fd::AsRawFd for Alarm {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(&self.0).as_raw_fd()
    }
}

#[cfg(target_os = "linux")]
impl Pacer {
    /// The pacer of the calling thread, which gathers for so long what comes over streams or as datagrams.
    pub(super) fn new(gather: Duration, is_stream: bool) -> io::Result<Self> {
        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
        sleep_exactly()?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: `Alarm` owns the descriptor, hands out no other one, and never replaces it.
        let timer = unsafe { tokio::io::unix::AsyncFd::register(Alarm(timer))? };
        Ok(Self {
            timer,
            armed_for: None,
            gather,
            plenty: plenty(is_stream),
        })
    }

    /// The timer may have expired: who sets it next must not be told of that, or would set it twice.
    fn settle(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.armed_for.take().is_some()
            && let Poll::Ready(ready) = self.timer.poll_read_ready_mut(cx)
        {
            ready?.clear_ready();
        }
        Ok(())
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<io::Result<()>> {
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Poll::Ready(self.settle(cx));
            }
            if self.armed_for != Some(deadline) {
                self.timer.get_ref().0.set(
                    Expiration::OneShot(remaining.into()),
                    TimerSetTimeFlags::empty(),
                )?;
                self.armed_for = Some(deadline);
            }
            let mut ready = std::task::ready!(self.timer.poll_read_ready_mut(cx))?;
            // The expiry count is not read: setting the timer again clears it, and an
            // edge-triggered registration does not fire twice for one expiry.
            ready.clear_ready();
            self.armed_for = None;
        }
    }
}

/// Lets the calling thread sleep no longer than it asks for.
#[cfg(target_os = "linux")]
fn sleep_exactly() -> io::Result<()> {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: this option takes a number and changes nothing but the slack of the calling thread's timers.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
impl Pacer {
    /// The pacer of the calling thread, which gathers for so long what comes over streams or as datagrams.
    pub(super) fn new(gather: Duration, is_stream: bool) -> io::Result<Self> {
        Ok(Self {
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            gather,
            plenty: plenty(is_stream),
        })
    }

    /// Tokio's timer is set anew for each deadline.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn settle(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<io::Result<()>> {
        let timer = &mut self.timer;
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        std::future::Future::poll(timer.as_mut(), cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn never_wakes_early_and_can_be_set_again_after_a_cancel() {
        for gather in [Duration::ZERO, Duration::from_micros(400)] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(before_park)
                .build()
                .unwrap();
            runtime.block_on(async {
                let busy = Cell::new(0);
                let mut pacer = Pacer::new(gather, true).unwrap();
                for microseconds in [0, 1, 300, 2_500, 700] {
                    let deadline = Instant::now() + Duration::from_micros(microseconds);
                    pacer.wait_until(deadline, &busy).await.unwrap();
                    assert!(Instant::now() >= deadline);
                }
                let far = Instant::now() + Duration::from_secs(3600);
                let wait = pacer.wait_until(far, &busy);
                let cancelled = tokio::time::timeout(Duration::from_millis(5), wait).await;
                assert!(cancelled.is_err());
                let near = Instant::now() + Duration::from_millis(2);
                pacer.wait_until(near, &busy).await.unwrap();
                assert!(Instant::now() >= near);
            });
        }
    }

    #[test]
    fn gathers_only_after_it_has_been_busy() {
        let gather = Duration::from_millis(5);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(before_park)
            .build()
            .unwrap();
        runtime.block_on(async {
            let busy = Cell::new(1);
            let mut pacer = Pacer::new(gather, true).unwrap();
            let started = Instant::now();
            for deadline in [started, started + Duration::from_secs(3600)] {
                busy.set(1);
                let begun = Instant::now();
                pacer.wait_until(deadline, &busy).await.unwrap();
                assert!(begun.elapsed() >= gather);
                assert_eq!(busy.get(), 0);
            }
            let far = started + Duration::from_secs(3600);
            // A crowd is not made to wait: of a nap of an hour, less than this test's patience is left.
            let mut patient = Pacer::new(Duration::from_secs(3600), true).unwrap();
            busy.set(1_000_000_000);
            patient.wait_until(far, &busy).await.unwrap();
            let wait = pacer.wait_until(far, &busy);
            let resting = tokio::time::timeout(2 * gather, wait).await;
            assert!(resting.is_err());
        });
    }
}
