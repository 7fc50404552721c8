//! The run's data model: what experiments fill and the only thing that reports know.
//!
//! Serialised as `run.json`, schema [`SCHEMA`]. Keys are binding, since other programs read them.
//! Missing is `null`, never zero; every key is always present, but for what an addition to the schema
//! says of itself, so that earlier runs can be read. Reading is strict: a key that is missing, unknown
//! or there twice is an error, so that no damaged file and no later addition is misread. The JSON Schema
//! is generated from the types below and committed as `results/run.schema.json`.
//!
//! Beside the types: [`CellId`] and the constructors of cells, [`metric`] with the table of metric
//! keys, the conversions of histograms, and [`Run::read`] and [`Run::write`]. How figures are
//! obtained is not known here, nor how they are shown.

mod cell;
mod check;
mod file;
mod histogram;
mod layout;
pub mod metric;
mod series;
mod strict;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cell::CellId;
pub use file::{FileError, Place};

/// Name and version of the format that [`Run`] serialises to.
pub const SCHEMA: &str = "hopbench.run/1";

/// All cells of one invocation, with the environment they were measured in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Always `hopbench.run/1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Unique name of the run: UTC start time and a few random letters.
    pub run_id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; null while running or if interrupted.
    #[serde(deserialize_with = "strict::present")]
    pub finished_at: Option<String>,
    /// `quick`, `standard`, `full`, or the name that a scenario gives itself.
    pub profile: String,
    /// Seed of every random choice: arrivals, order of the blocks.
    pub seed: u64,
    /// SHA-256 of the scenario text, in hexadecimal.
    pub scenario_sha256: String,
    /// Name of the measurement that this run is one side of: blocks of equal numbers of the other side,
    /// which has the same name here, were measured right before or after. Absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interleaving: Option<String>,
    /// What was built.
    pub build: Build,
    /// Where it ran.
    pub environment: Environment,
    /// In the order in which they finished.
    pub cells: Vec<Cell>,
    /// Cells against their controls.
    pub ratios: Vec<Ratio>,
}

/// What was built, from what, by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Version of hopbench.
    pub version: String,
    /// Commit that it was built from; null outside a git checkout.
    #[serde(deserialize_with = "strict::present")]
    pub git_commit: Option<String>,
    /// Whether the sources that it was built from differed from that commit; null when unknown.
    #[serde(deserialize_with = "strict::present")]
    pub git_dirty: Option<bool>,
    /// `rustc --version`.
    pub rustc: String,
    /// Versions of the libraries that the figures depend on, by crate name.
    #[serde(deserialize_with = "strict::unique")]
    pub libraries: BTreeMap<String, String>,
}

/// Where a run was measured. Figures are comparable only between like environments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// For example `linux`.
    pub os: String,
    /// Kernel release; null when unknown. The same holds for every optional field here.
    #[serde(deserialize_with = "strict::present")]
    pub kernel: Option<String>,
    /// As the processor names itself.
    #[serde(deserialize_with = "strict::present")]
    pub cpu_model: Option<String>,
    /// Processors that this process may run on.
    pub cpu_count: u32,
    /// Physical memory.
    #[serde(deserialize_with = "strict::present")]
    pub memory_bytes: Option<u64>,
    /// Hypervisor vendor, `none` on bare metal.
    #[serde(deserialize_with = "strict::present")]
    pub hypervisor: Option<String>,
    /// Congestion control of new TCP connections.
    #[serde(deserialize_with = "strict::present")]
    pub tcp_congestion_control: Option<String>,
    /// Hard limit on open files of one process.
    #[serde(deserialize_with = "strict::present")]
    pub file_descriptor_limit: Option<u64>,
    /// One-minute load average when the run started: above the processor count, expect noise.
    #[serde(deserialize_with = "strict::present")]
    pub load_average_at_start: Option<f64>,
}

/// One experiment × workload × stack × topology × lifecycle × path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// `experiment/workload/stack/topology/lifecycle/path`, with `?key=value` for the parameters
    /// that distinguish it.
    pub id: String,
    /// The question: `setup`, `memory`, `throughput`.
    pub experiment: String,
    /// `register`, `invite`.
    pub workload: String,
    /// `carrier[@tunnel]`.
    pub stack: String,
    /// `direct`.
    pub topology: String,
    /// `per-registration` or `per-call`.
    pub lifecycle: String,
    /// `loopback`.
    pub path: String,
    /// Everything else that a reproduction needs: rates, durations, cipher suite, key type, …
    #[serde(deserialize_with = "strict::unique")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Whether the figures mean what they say.
    pub verdict: Verdict,
    /// Why the verdict is not `ok`; null only for `ok`.
    #[serde(deserialize_with = "strict::present")]
    pub reason: Option<String>,
    /// Blocks that were measured.
    pub repetitions: u32,
    /// By metric key.
    #[serde(deserialize_with = "strict::unique")]
    pub metrics: BTreeMap<String, Metric>,
    /// The loads of a search, in the order in which they ran; absent elsewhere, and in runs of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// One load of a search: a rate, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The rate that was asked for; what arrived is `attempted_count`.
    pub offered_per_second: f64,
    /// Operations that ended as they should within the measurement, a second.
    #[serde(deserialize_with = "strict::present")]
    pub achieved_per_second: Option<f64>,
    /// Operations whose intended start lies in the measurement.
    pub attempted_count: u64,
    /// Those of them that failed, late ones included.
    pub failed_count: u64,
    /// Those of them that ended as they should, but after more than the establishment threshold time
    /// (RFC 7501 §3.3.2); null where there is none.
    #[serde(deserialize_with = "strict::present")]
    pub late_count: Option<u64>,
    /// What users wait for, from the intended start: session request delay, or registration. Of what
    /// succeeded; null if nothing did.
    #[serde(deserialize_with = "strict::present")]
    pub latency_p50_ns: Option<u64>,
    /// Its 90th percentile.
    #[serde(deserialize_with = "strict::present")]
    pub latency_p90_ns: Option<u64>,
    /// Its 99th percentile.
    #[serde(deserialize_with = "strict::present")]
    pub latency_p99_ns: Option<u64>,
    /// The longest.
    #[serde(deserialize_with = "strict::present")]
    pub latency_max_ns: Option<u64>,
    /// From the intended to the actual start, which is the generator's doing.
    #[serde(deserialize_with = "strict::present")]
    pub lag_p50_ns: Option<u64>,
    /// Its 99th percentile.
    #[serde(deserialize_with = "strict::present")]
    pub lag_p99_ns: Option<u64>,
    /// The longest.
    #[serde(deserialize_with = "strict::present")]
    pub lag_max_ns: Option<u64>,
    /// Share of its processor that the busiest worker of the generator used.
    #[serde(deserialize_with = "strict::present")]
    pub generator_busy_ratio: Option<f64>,
    /// Processors that the nodes kept busy, all together.
    #[serde(deserialize_with = "strict::present")]
    pub server_busy_ratio: Option<f64>,
    /// What the step says of the rate.
    pub outcome: StepOutcome,
    /// Why the rate was not held; null only if it was.
    #[serde(deserialize_with = "strict::present")]
    pub reason: Option<String>,
}

/// What a step says of the rate that it was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Nothing failed.
    Held,
    /// Something failed although the generator kept up.
    Failed,
    /// The generator was the limit: nothing is said of the server.
    GeneratorBound,
}

/// Whether a cell's figures mean what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The server under test was measured.
    Ok,
    /// The load generator was the bottleneck: shown, never in a ratio.
    GeneratorBound,
    /// It could not be measured, or too much of it failed.
    Failed,
    /// This machine or build cannot run it.
    Unsupported,
}

/// One figure with its uncertainty and, for distributions, its histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The figure; of a latency the median from the intended start. Null when it is missing.
    #[serde(deserialize_with = "strict::present")]
    pub value: Option<f64>,
    /// Lower end of the 95 % interval over blocks.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_low: Option<f64>,
    /// Upper end of the 95 % interval over blocks.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_high: Option<f64>,
    /// `ns`, `bytes`, `per_second`, `ratio`, `count`.
    pub unit: Unit,
    /// Which direction is better.
    pub direction: Direction,
    /// The distribution, for metrics that have one.
    #[serde(deserialize_with = "strict::present")]
    pub histogram: Option<Histogram>,
    /// What the line was fitted to, for metrics that are its slope; absent elsewhere, and in runs of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// The figure of each block, by its number: what the interval is over. Null where a block has none
    /// or was left out; absent where no block has one, and in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Option<f64>>,
    /// What each window of time counted, for rates; absent elsewhere, and in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
}

/// A rate over time: what was counted in each window of each block, without loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Length of a window, in milliseconds.
    pub window_ms: u64,
    /// By block, the count of each window in order of time, in decimal with spaces between them: a
    /// number takes two or three bytes, where an array of JSON would take a line.
    pub counts: Vec<String>,
}

/// The readings behind a slope, and how well a line fits them. Blocks share the slope, and each has
/// a fixed cost of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// What the slope is per, ascending: numbers of connections.
    pub at: Vec<f64>,
    /// By block, the readings in the order of `at`, in the metric's unit. All of them are in the
    /// figures, outliers too.
    pub readings: Vec<Vec<f64>>,
    /// Lower end of the slope's 95 % interval by the regression (Student's t), where the metric's
    /// own interval is over blocks; null where a line has no freedom.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_low: Option<f64>,
    /// Upper end, likewise.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_high: Option<f64>,
    /// Readings that lie off the line through most of their block (Theil–Sen) by more than 3.5 robust
    /// standard deviations of all and by more than 1 % of what the line rises over `at`: block, then
    /// place in `at`.
    pub outliers: Vec<(u32, u32)>,
}

/// Unit of a metric; the last word of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Unit {
    Ns,
    Bytes,
    PerSecond,
    Ratio,
    Count,
}

/// Which direction of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Direction {
    Lower,
    Higher,
}

/// A distribution, lossless in `hdr_v2_base64`, with the usual figures read from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Samples.
    pub count: u64,
    /// Smallest sample, in the metric's unit, as are all others here.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation.
    pub stddev: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest sample.
    pub max: u64,
    /// HdrHistogram V2 with DEFLATE, in base 64.
    pub hdr_v2_base64: String,
}

/// One metric of a cell divided by the same metric of its control in the same run, block by block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Metric key.
    pub metric: String,
    /// The cell above the line.
    pub cell_id: String,
    /// The cell below the line.
    pub control_cell_id: String,
    /// Pseudo-median of the blocks' ratios: the median of the geometric means of all pairs of blocks. In
    /// runs of earlier versions the median.
    pub ratio: f64,
    /// Lower end of the 95 % interval over blocks (signed ranks of logarithms; in runs of earlier versions
    /// bootstrap); null with fewer than two blocks.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_low: Option<f64>,
    /// Upper end, likewise.
    #[serde(deserialize_with = "strict::present")]
    pub ci95_high: Option<f64>,
    /// Blocks in which both were measured.
    pub blocks: u32,
    /// How narrow the interval was to be, where that decided the number of blocks; absent elsewhere, and in
    /// runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

/// What was asked of a ratio's interval, and whether it came to that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Precision {
    /// Half of the interval's width ÷ the ratio, at most.
    pub half_width_ratio_max: f64,
    /// Why blocks ended although the interval is wider than that; null where it is not.
    #[serde(deserialize_with = "strict::present")]
    pub wide_because: Option<WideBecause>,
}

/// Why blocks ended before an interval was narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WideBecause {
    /// There were as many as the scenario allows.
    MostBlocks,
    /// The run's time was spent.
    BudgetSpent,
    /// The run was interrupted, or goes on.
    Unfinished,
}
