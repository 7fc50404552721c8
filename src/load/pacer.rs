//! Wakes one worker at exact instants.
//!
//! Tokio's timers tick in milliseconds, which is longer than a plaintext registration takes: a start
//! that late would be most of the latency that is reported. On Linux a timerfd wakes the worker
//! within tens of microseconds; elsewhere Tokio's timer has to do, and the lag histogram shows it.

use std::io;
use std::time::Instant;

/// One alarm, set again and again.
pub(super) struct Pacer {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<Alarm>,
    armed_for: Option<Instant>,
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
    pub(super) fn new() -> io::Result<Self> {
        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // SAFETY: `Alarm` owns the descriptor, hands out no other one, and never replaces it.
        let timer = unsafe { tokio::io::unix::AsyncFd::register(Alarm(timer))? };
        Ok(Self {
            timer,
            armed_for: None,
        })
    }

    /// Resolves at `deadline`, or at once when it has passed. Cancel safe.
    pub(super) async fn wait_until(&mut self, deadline: Instant) -> io::Result<()> {
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};
        loop {
            let Some(remaining) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(());
            };
            if remaining.is_zero() {
                return Ok(());
            }
            if self.armed_for != Some(deadline) {
                self.timer.get_ref().0.set(
                    Expiration::OneShot(remaining.into()),
                    TimerSetTimeFlags::empty(),
                )?;
                self.armed_for = Some(deadline);
            }
            let mut ready = self.timer.readable_mut().await?;
            // The expiry count is not read: setting the timer again clears it, and an
            // edge-triggered registration does not fire twice for one expiry.
            ready.clear_ready();
            self.armed_for = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Pacer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { armed_for: None })
    }

    /// Resolves at `deadline`, or at once when it has passed. Cancel safe.
    pub(super) async fn wait_until(&mut self, deadline: Instant) -> io::Result<()> {
        self.armed_for = Some(deadline);
        tokio::time::sleep_until(deadline.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn never_wakes_early_and_can_be_set_again_after_a_cancel() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut pacer = Pacer::new().unwrap();
            for microseconds in [0, 1, 300, 2_500, 700] {
                let deadline = Instant::now() + Duration::from_micros(microseconds);
                pacer.wait_until(deadline).await.unwrap();
                assert!(Instant::now() >= deadline);
            }
            let far = Instant::now() + Duration::from_secs(3600);
            let cancelled =
                tokio::time::timeout(Duration::from_millis(5), pacer.wait_until(far)).await;
            assert!(cancelled.is_err());
            let near = Instant::now() + Duration::from_millis(2);
            pacer.wait_until(near).await.unwrap();
            assert!(Instant::now() >= near);
        });
    }
}
