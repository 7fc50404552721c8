//! What an operation is about, and which is next.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::plan::{LoadPlan, Mix, Workload};

/// Streams of a seed's generator below this one belong to the arrivals.
const FIRST_STREAM: u64 = 1 << 32;

/// What an operation is about. Each is counted for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum OperationKind {
    /// A user comes over a new hop and registers; expected is 200.
    Register,
    /// A user refreshes its binding on the hop that it keeps; expected is 200.
    Reregister,
    /// A call; expected is 200 to INVITE and to BYE.
    Call,
    /// A call that is cancelled while it rings; expected is 487.
    CancelledCall,
    /// A call to nobody; expected is 404.
    UnknownCallee,
    /// A user comes back after its hop was dropped, however often it has to try.
    Comeback,
}

impl OperationKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Register,
        Self::Reregister,
        Self::Call,
        Self::CancelledCall,
        Self::UnknownCallee,
        Self::Comeback,
    ];

    /// The name in [`LoadReport::operations_by_kind`](crate::load::LoadReport::operations_by_kind).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Reregister => "reregister",
            Self::Call => "call",
            Self::CancelledCall => "cancelled-call",
            Self::UnknownCallee => "unknown-callee",
            Self::Comeback => "comeback",
        }
    }
}

/// A seeded stream of kinds.
pub(in crate::load) enum Kinds {
    /// Always the same.
    One(OperationKind),
    /// By chance.
    Mixed(Box<Mixture>),
}

pub(in crate::load) struct Mixture {
    /// Kinds, and the end of each one's share of 0 to 1.
    shares: [(OperationKind, f64); 5],
    random: ChaCha8Rng,
}

impl Kinds {
    /// What the worker of that number is to do.
    pub(in crate::load) fn new(plan: &LoadPlan, worker: u32) -> Self {
        match plan.workload {
            Workload::Register => Self::One(OperationKind::Register),
            Workload::Reregister => Self::One(OperationKind::Reregister),
            Workload::Invite => Self::One(OperationKind::Call),
            Workload::Avalanche => Self::One(OperationKind::Comeback),
            Workload::Mixed => {
                let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
                random.set_stream(FIRST_STREAM + u64::from(worker));
                let shares = shares(&plan.mix);
                Self::Mixed(Box::new(Mixture { shares, random }))
            }
        }
    }

    pub(in crate::load) fn next(&mut self) -> OperationKind {
        match self {
            Self::One(kind) => *kind,
            Self::Mixed(mixture) => {
                let point = mixture.random.random::<f64>();
                let mut shares = mixture.shares.iter();
                let hit = shares.find(|(_, end)| point < *end);
                hit.expect("the last share ends beyond 1").0
            }
        }
    }
}

fn shares(mix: &Mix) -> [(OperationKind, f64); 5] {
    let weights = [
        (OperationKind::Register, mix.register),
        (OperationKind::Reregister, mix.reregister),
        (OperationKind::Call, mix.call),
        (OperationKind::CancelledCall, mix.cancelled_call),
        (OperationKind::UnknownCallee, mix.unknown_callee),
    ];
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let last = weights.iter().rposition(|(_, weight)| *weight > 0.0);
    let mut sum = 0.0;
    let mut place = 0;
    weights.map(|(kind, weight)| {
        sum += weight;
        // Rounding must leave no gap at the end, and give nothing to a kind without weight.
        let is_last = last == Some(place);
        place += 1;
        (kind, if is_last { f64::INFINITY } else { sum / total })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{ArrivalLaw, BackOff, Course, Lifecycle};

    fn plan(mix: Mix) -> LoadPlan {
        LoadPlan {
            workload: Workload::Mixed,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: ArrivalLaw::Poisson,
            rate_per_second: 1.0,
            course: Course::Steady,
            warm_up_seconds: 0.0,
            duration_seconds: 1.0,
            drain_seconds: 1.0,
            users: 1,
            talk_seconds: 0.0,
            ring_seconds: 1.0,
            mix,
            back_off: BackOff::default(),
            seed: 3,
        }
    }

    #[test]
    fn kinds_come_by_their_weights_and_the_same_for_a_seed() {
        let plan = plan(Mix::default());
        let draw = |worker| {
            let mut kinds = Kinds::new(&plan, worker);
            let drawn: Vec<OperationKind> = (0..32_000).map(|_| kinds.next()).collect();
            drawn
        };
        let drawn = draw(0);
        assert_eq!(drawn, draw(0));
        assert_ne!(drawn, draw(1));
        for (kind, expected) in [
            (OperationKind::Register, 2_000),
            (OperationKind::Reregister, 10_000),
            (OperationKind::Call, 16_000),
            (OperationKind::CancelledCall, 3_000),
            (OperationKind::UnknownCallee, 1_000),
            (OperationKind::Comeback, 0),
        ] {
            let count = drawn.iter().filter(|drawn| **drawn == kind).count();
            assert!(count.abs_diff(expected) < 300, "{kind:?}: {count}");
        }
    }

    #[test]
    fn what_has_no_weight_never_comes() {
        let calls = Mix {
            register: 0.0,
            reregister: 0.0,
            cancelled_call: 0.0,
            unknown_callee: 0.0,
            ..Mix::default()
        };
        let mut kinds = Kinds::new(&plan(calls), 0);
        assert!((0..1_000).all(|_| kinds.next() == OperationKind::Call));
    }
}
