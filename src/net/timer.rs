//! One deadline that moves, on Tokio's timer wheel.
//!
//! Deadlines of tunnels are put off by every packet. The wheel is told only when one comes closer;
//! otherwise the timer fires early, sees that there is nothing to do and goes on.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer that is driven by one task. Allocates nothing until there is a deadline.
#[derive(Debug, Default)]
pub(super) struct Timer {
    armed: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Timer {
    /// Whether `deadline` has come; if not, the task is woken then at the latest.
    pub(super) fn poll_due(&self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            *self.armed.borrow_mut() = None;
            return false;
        };
        if deadline <= Instant::now() {
            return true;
        }
        let mut armed = self.armed.borrow_mut();
        let sleep =
            armed.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if sleep.deadline() > deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        while let Poll::Ready(()) = sleep.as_mut().poll(cx) {
            if deadline <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(deadline.into());
        }
        false
    }

    /// Whether the timer would fire in time for `deadline`; if not, its task must be woken.
    pub(super) fn is_armed_for(&self, deadline: Option<Instant>) -> bool {
        deadline.is_none_or(|deadline| {
            let armed = self.armed.borrow();
            armed
                .as_ref()
                .is_some_and(|sleep| sleep.deadline() <= deadline.into())
        })
    }
}
