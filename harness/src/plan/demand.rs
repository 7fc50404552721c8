//! What is to be served, and how much of the machine may be used for it.

use std::time::Duration;

use hopbench::sip::registration::BACKOFF_BASE_ALL_FAILED;
use serde::Serialize;

/// A demand that makes sense: see [`Demand::check`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Demand {
    /// Registered users, each with one hop.
    pub(crate) users: u32,
    /// How long a registration is good for.
    pub(crate) expires_seconds: f64,
    /// After which share of that a user refreshes it.
    pub(crate) refresh_fraction: f64,
    /// Calls that a user makes in an hour; each is received by somebody, who is not counted again.
    pub(crate) calls_per_user_hour: f64,
    /// How often an idle user keeps its hop alive; `None` is as often as it was measured.
    pub(crate) keep_alive_seconds: Option<f64>,
    /// How busy a processor may be.
    pub(crate) utilisation: f64,
    /// How many descriptors a process may hold.
    pub(crate) descriptors: u32,
    /// How long users wait at most before they come back, when all hops have dropped (RFC 5626 §4.5).
    pub(crate) back_off_seconds: f64,
}

/// Descriptors that a process of the node needs beside users' connections: listeners, their event
/// queues and timers, standard streams.
pub(super) const DESCRIPTORS_BESIDE: u32 = 64;

/// The base of RFC 5626's waiting time where no other is named.
pub(crate) const BACK_OFF: Duration = BACKOFF_BASE_ALL_FAILED;

/// A figure that makes no sense: its name, what was expected, what was found.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("{name}: expected {expected}, found {found}")]
pub(crate) struct Senseless {
    pub(crate) name: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) found: f64,
}

impl Demand {
    /// # Errors
    /// When a figure of it makes no sense.
    pub(crate) fn check(&self) -> Result<(), Senseless> {
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        let is_share = |value: f64| value > 0.0 && value <= 1.0;
        let positive = "more than 0";
        let share = "more than 0, at most 1";
        let checks = [
            ("--users", positive, f64::from(self.users), self.users > 0),
            (
                "--expires",
                "1 to 4294967295 seconds",
                self.expires_seconds,
                (1.0..=f64::from(u32::MAX)).contains(&self.expires_seconds),
            ),
            (
                "--refresh-fraction",
                share,
                self.refresh_fraction,
                is_share(self.refresh_fraction),
            ),
            (
                "--calls-per-user-hour",
                "0 or more",
                self.calls_per_user_hour,
                self.calls_per_user_hour == 0.0 || is_positive(self.calls_per_user_hour),
            ),
            (
                "--keep-alive",
                "more than 0 seconds",
                self.keep_alive_seconds.unwrap_or(1.0),
                self.keep_alive_seconds.is_none_or(is_positive),
            ),
            (
                "--utilisation",
                share,
                self.utilisation,
                is_share(self.utilisation),
            ),
            (
                "--descriptors",
                "more than the 64 that a process needs beside connections",
                f64::from(self.descriptors),
                self.descriptors > DESCRIPTORS_BESIDE,
            ),
            (
                "--back-off",
                "more than 0 seconds",
                self.back_off_seconds,
                is_positive(self.back_off_seconds),
            ),
        ];
        for (name, expected, found, makes_sense) in checks {
            if !makes_sense {
                return Err(Senseless {
                    name,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    pub(super) fn users(&self) -> f64 {
        f64::from(self.users)
    }

    /// Refreshes of all users.
    pub(super) fn refreshes_per_second(&self) -> f64 {
        self.users() / (self.expires_seconds * self.refresh_fraction)
    }

    /// Calls of all users.
    pub(super) fn calls_per_second(&self) -> f64 {
        self.users() * self.calls_per_user_hour / 3600.0
    }

    /// In which everybody comes back after an avalanche: the second half of the longest wait.
    pub(super) fn return_window_seconds(&self) -> f64 {
        self.back_off_seconds / 2.0
    }
}

#[cfg(test)]
pub(super) fn demand(users: u32) -> Demand {
    Demand {
        users,
        expires_seconds: 3600.0,
        refresh_fraction: 0.5,
        calls_per_user_hour: 2.0,
        keep_alive_seconds: None,
        utilisation: 0.7,
        descriptors: 20_000,
        back_off_seconds: 30.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_users() {
        let demand = demand(1_800_000);
        assert_eq!(demand.refreshes_per_second(), 1_000.0);
        assert_eq!(demand.calls_per_second(), 1_000.0);
        assert_eq!(demand.return_window_seconds(), 15.0);
        assert_eq!(demand.check(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        type Spoil = fn(&mut Demand);
        let spoils: [(&str, Spoil); 9] = [
            ("--users", |demand| demand.users = 0),
            ("--expires", |demand| demand.expires_seconds = 0.0),
            ("--refresh-fraction", |demand| demand.refresh_fraction = 1.1),
            ("--calls-per-user-hour", |demand| {
                demand.calls_per_user_hour = -1.0;
            }),
            ("--calls-per-user-hour", |demand| {
                demand.calls_per_user_hour = f64::NAN;
            }),
            ("--keep-alive", |demand| {
                demand.keep_alive_seconds = Some(0.0);
            }),
            ("--utilisation", |demand| demand.utilisation = f64::NAN),
            ("--descriptors", |demand| demand.descriptors = 64),
            ("--back-off", |demand| {
                demand.back_off_seconds = f64::INFINITY;
            }),
        ];
        for (name, spoil) in spoils {
            let mut demand = demand(10);
            spoil(&mut demand);
            assert_eq!(demand.check().map_err(|error| error.name), Err(name));
        }
    }
}
