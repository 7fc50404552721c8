//! What the testbed and its child processes say to each other: one JSON object a line, orders on the
//! child's standard input, replies on its standard output.
//!
//! The first line to a child is its configuration ([`hopbench::node::NodeConfig`] or
//! [`hopbench::load::GeneratorConfig`]); keys thus never stand on a command line. End of input ends
//! the child.

use std::net::SocketAddr;

use hopbench::load::{LoadPlan, LoadReport, Stage, Standing};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::NodeCounters;
use hopbench::transport::WireCounters;
use serde::{Deserialize, Serialize};

/// To a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeOrder {
    /// To a worker: where all workers of the node reach each other, by place. Answered by
    /// [`NodeReply::Introduced`].
    Introduce(Vec<SocketAddr>),
    /// Answered by [`NodeReply::Snapshot`].
    Snapshot,
    /// Answered likewise, without resident memory: to read that, the kernel walks the node's page
    /// tables on the thread that serves its load.
    Usage,
    /// From now on, remember what each block of memory is for; answered by [`NodeReply::Snapshot`].
    Trace,
    /// Answered by [`NodeReply::Wire`]. The node asks the kernel for each of its connections: not in
    /// the middle of a load.
    Wire,
}

/// What a node has put on the wire and taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireReading {
    /// By interface; `None` where the kernel does not tell.
    pub(crate) interfaces: Vec<Option<WireCounters>>,
    /// Of SIP messages, both directions, all interfaces.
    pub(crate) sip_bytes: u64,
}

/// From a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeReply {
    /// It accepts flows; said once, unasked.
    Listening {
        /// What each interface was bound to; `None` where it does not listen.
        addresses: Vec<Option<SocketAddr>>,
        /// Where its siblings reach it, if it is one of several workers.
        internal: Option<SocketAddr>,
    },
    /// It knows its siblings.
    Introduced,
    /// What it costs and what it has seen.
    Snapshot {
        /// The process.
        process: Box<ProcessSnapshot>,
        /// The node.
        counters: Box<NodeCounters>,
    },
    /// What crossed its interfaces.
    Wire(WireReading),
    /// It cannot go on; the process ends.
    Failed {
        /// For the user.
        reason: String,
    },
}

/// To a generator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadOrder {
    /// Answered by [`LoadReply::Populated`].
    Populate {
        /// How many users, all processes of the generator together.
        users: u32,
        /// How far.
        stage: Stage,
    },
    /// Brings users where a load wants them; answered by [`LoadReply::Populated`].
    Prepare(LoadPlan),
    /// Answered by the progress of the load, then [`LoadReply::Finished`].
    Run {
        /// The load, for which its users are prepared.
        plan: LoadPlan,
        /// Its time zero, the same for all processes of the generator, by
        /// [`monotonic_ns`](hopbench::measure::cpu::monotonic_ns).
        epoch_monotonic_ns: u64,
    },
    /// Answered by [`LoadReply::Snapshot`].
    Snapshot,
    /// Answered by [`LoadReply::Standing`].
    Standing,
    /// From now on, remember what each block of memory is for; answered by [`LoadReply::Snapshot`].
    Trace,
}

/// From a generator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadReply {
    /// It has its workers; said once, unasked.
    Ready,
    /// The users have reached the stage.
    Populated,
    /// The warm-up is over.
    MeasurementBegins,
    /// The measurement is over, the drain is not.
    MeasurementEnds,
    /// The drain is over.
    Finished(Box<LoadReport>),
    /// What the process costs.
    Snapshot(Box<ProcessSnapshot>),
    /// How the users stand.
    Standing(Box<Standing>),
    /// The order could not be carried out. The generator takes further orders.
    Failed {
        /// For the user.
        reason: String,
    },
}
