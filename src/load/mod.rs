//! The load generator: REGISTER and INVITE workloads, open loop, over any stack.
//!
//! [`Generator`] owns the worker threads; each worker is one current-thread runtime with its own
//! users, timers and histograms, and shares nothing on the hot path. Layer: above `sip`, `transport`
//! and `measure`. Not here: who runs it, in which process and against what; that is the harness'.

mod arrivals;
mod edges;
mod generator;
mod keep_alive;
mod operations;
mod outcome;
mod pacer;
mod plan;
mod population;
mod single;
mod worker;

pub use arrivals::{ArrivalLaw, Arrivals, Course};
pub use generator::{Generator, GeneratorError, Progress};
pub use operations::OperationKind;
pub use outcome::{CalleeCounts, KindCounts, LoadReport, Moment, Standing};
pub use plan::{
    BackOff, Called, Callees, GeneratorConfig, Lifecycle, LoadPlan, Mix, PlanError, Stage, Workload,
};
pub use single::SingleUser;
pub use worker::GATHERED_RECEIVE_BUFFER_BYTES;
