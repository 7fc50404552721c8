//! Whether a plan can be carried out: the one place that scenarios, command line and generator ask.

use super::{Lifecycle, LoadPlan, Mix, Workload};

/// Why a plan makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The workload cannot have that lifecycle.
    #[error(
        "expected the lifecycle {} of the workload `{}`, found `{}`",
        names(.workload.lifecycles()), .workload.name(), .lifecycle.name()
    )]
    Lifecycle {
        /// The workload.
        workload: Workload,
        /// The lifecycle that was asked for.
        lifecycle: Lifecycle,
    },
    /// A number is not within its bounds.
    #[error("expected `{field}` within {low} to {high}, found {found}")]
    OutOfBounds {
        /// Which number.
        field: &'static str,
        /// What it is.
        found: f64,
        /// The least that is allowed.
        low: f64,
        /// The most that is allowed.
        high: f64,
    },
    /// Nobody takes part.
    #[error("expected at least one user, found none: raise `users`")]
    NoUsers,
    /// All weights are 0.
    #[error("expected a weight above 0 in the mix, found none")]
    EmptyMix,
    /// Calls that are answered at once cannot be cancelled.
    #[error(
        "expected `ring_seconds` above 0 for calls that are cancelled while they ring, found 0: raise \
         it, or set `mix.cancelled_call` to 0"
    )]
    NoRing,
    /// On average more users are in a call than there are.
    #[error(
        "expected users for {needed:.1} operations at a time, found {users}: raise `users`, or lower \
         the rate or the talk"
    )]
    TooFewUsers {
        /// Operations that are under way at a time, by rate and duration.
        needed: f64,
        /// Users of the plan.
        users: u32,
    },
}

fn names(lifecycles: &[Lifecycle]) -> String {
    let names: Vec<String> = lifecycles
        .iter()
        .map(|lifecycle| format!("`{}`", lifecycle.name()))
        .collect();
    names.join(" or ")
}

/// A day: no load lasts longer, and every clock can add it to the present.
const SECONDS_MAX: f64 = 86_400.0;
const RATE_MAX: f64 = 1e6;
const WEIGHT_MAX: f64 = 1e6;

impl LoadPlan {
    /// Whether a generator can carry it out.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let (workload, lifecycle) = (self.workload, self.lifecycle);
        if !workload.lifecycles().contains(&lifecycle) {
            return Err(PlanError::Lifecycle {
                workload,
                lifecycle,
            });
        }
        let seconds = [
            ("warm_up_seconds", self.warm_up_seconds),
            ("duration_seconds", self.duration_seconds),
            ("drain_seconds", self.drain_seconds),
            ("talk_seconds", self.talk_seconds),
            ("ring_seconds", self.ring_seconds),
            ("back_off.base_seconds", self.back_off.base_seconds),
            ("back_off.max_seconds", self.back_off.max_seconds),
        ];
        for (field, found) in seconds {
            within(field, found, 0.0, SECONDS_MAX)?;
        }
        for rate in self.course.rates(self.rate_per_second) {
            within("rate_per_second", rate, f64::MIN_POSITIVE, RATE_MAX)?;
        }
        if self.users == 0 {
            return Err(PlanError::NoUsers);
        }
        match workload {
            Workload::Mixed => self.check_mix(),
            Workload::Register | Workload::Reregister | Workload::Invite | Workload::Avalanche => {
                Ok(())
            }
        }
    }

    fn check_mix(&self) -> Result<(), PlanError> {
        for (field, weight) in self.mix.weights() {
            within(field, weight, 0.0, WEIGHT_MAX)?;
        }
        let total = self.mix.total();
        if total <= 0.0 {
            return Err(PlanError::EmptyMix);
        }
        if self.mix.cancelled_call > 0.0 && self.ring_seconds <= 0.0 {
            return Err(PlanError::NoRing);
        }
        // In a call a user does nothing else; everything else is over soon.
        let seconds = self.talk_seconds + self.ring_seconds;
        let peak = self.course.peak(self.rate_per_second);
        let needed = peak * self.mix.call / total * seconds;
        if needed > f64::from(self.users) {
            let users = self.users;
            return Err(PlanError::TooFewUsers { needed, users });
        }
        Ok(())
    }
}

impl Mix {
    /// The weights by the names of their fields.
    fn weights(&self) -> [(&'static str, f64); 5] {
        [
            ("mix.register", self.register),
            ("mix.reregister", self.reregister),
            ("mix.call", self.call),
            ("mix.cancelled_call", self.cancelled_call),
            ("mix.unknown_callee", self.unknown_callee),
        ]
    }

    fn total(&self) -> f64 {
        self.weights().into_iter().map(|(_, weight)| weight).sum()
    }
}

fn within(field: &'static str, found: f64, low: f64, high: f64) -> Result<(), PlanError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(PlanError::OutOfBounds {
        field,
        found,
        low,
        high,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::{ArrivalLaw, BackOff, Course};

    fn plan(workload: Workload, lifecycle: Lifecycle) -> LoadPlan {
        LoadPlan {
            workload,
            lifecycle,
            arrivals: ArrivalLaw::Poisson,
            rate_per_second: 10.0,
            course: Course::Steady,
            warm_up_seconds: 0.0,
            duration_seconds: 1.0,
            drain_seconds: 1.0,
            users: 10,
            talk_seconds: 0.0,
            ring_seconds: 1.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 1,
        }
    }

    #[test]
    fn each_workload_has_its_lifecycles() {
        use Lifecycle::{PerCall, PerRegistration, PerTransaction};
        // Workload, lifecycle, whether its users are registered beforehand; all others are refused.
        let valid = [
            (Workload::Register, PerTransaction, false),
            (Workload::Register, PerRegistration, false),
            (Workload::Reregister, PerRegistration, true),
            (Workload::Invite, PerTransaction, false),
            (Workload::Invite, PerCall, false),
            (Workload::Invite, PerRegistration, true),
            (Workload::Mixed, PerRegistration, true),
            (Workload::Avalanche, PerRegistration, true),
        ];
        for workload in Workload::ALL {
            for lifecycle in Lifecycle::ALL {
                let plan = plan(workload, lifecycle);
                let row = valid
                    .iter()
                    .find(|row| (row.0, row.1) == (workload, lifecycle));
                let expected = match row {
                    Some(_) => Ok(()),
                    None => Err(PlanError::Lifecycle {
                        workload,
                        lifecycle,
                    }),
                };
                assert_eq!(plan.check(), expected);
                if let Some((.., is_registered)) = row {
                    assert_eq!(plan.population().is_some(), *is_registered, "{plan:?}");
                }
            }
        }
        let error = plan(Workload::Register, PerCall).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected the lifecycle `per-transaction` or `per-registration` of the workload \
             `register`, found `per-call`"
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let mixed = || plan(Workload::Mixed, Lifecycle::PerRegistration);
        let silent = Mix {
            register: 0.0,
            reregister: 0.0,
            call: 0.0,
            cancelled_call: 0.0,
            unknown_callee: 0.0,
        };
        let negative = Mix {
            call: -1.0,
            ..Mix::default()
        };
        // Plan, what its error says.
        let cases = [
            (
                LoadPlan {
                    users: 0,
                    ..mixed()
                },
                "at least one user",
            ),
            (
                LoadPlan {
                    talk_seconds: f64::NAN,
                    ..mixed()
                },
                "`talk_seconds`",
            ),
            (
                LoadPlan {
                    rate_per_second: 0.0,
                    ..mixed()
                },
                "`rate_per_second`",
            ),
            (
                LoadPlan {
                    course: Course::Ramp { to_per_second: 0.0 },
                    ..mixed()
                },
                "`rate_per_second`",
            ),
            (
                LoadPlan {
                    ring_seconds: 0.0,
                    ..mixed()
                },
                "`ring_seconds` above 0",
            ),
            (
                LoadPlan {
                    mix: silent,
                    ..mixed()
                },
                "above 0 in the mix",
            ),
            (
                LoadPlan {
                    mix: negative,
                    ..mixed()
                },
                "`mix.call`",
            ),
            (
                LoadPlan {
                    talk_seconds: 10.0,
                    ..mixed()
                },
                "users for 55.0 operations",
            ),
        ];
        for (plan, expected) in cases {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn plans_of_before_are_still_read() {
        let mut json = serde_json::to_value(plan(Workload::Invite, Lifecycle::PerCall)).unwrap();
        let fields = json.as_object_mut().unwrap();
        for added in ["ring_seconds", "mix", "back_off", "course"] {
            fields.remove(added);
        }
        let read: LoadPlan = serde_json::from_value(json).unwrap();
        let expected = LoadPlan {
            ring_seconds: 0.0,
            ..plan(Workload::Invite, Lifecycle::PerCall)
        };
        assert_eq!(read, expected);
    }
}
