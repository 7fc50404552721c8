//! The binary `hopbench`: runs experiments, shows what they found, and is its own node and generator.

mod beneath;
mod cli;
mod compare;
mod environment;
mod experiment;
mod export;
mod figures;
mod gate;
mod history;
mod interleave;
mod interrupt;
mod lab;
mod limits;
mod method;
mod path;
mod plan;
mod progress;
mod protocol;
mod rate;
mod report;
mod scenario;
mod statistics;
mod testbed;
mod topology;
mod variant;

use std::process::ExitCode;

use hopbench::measure::heap::CountingAllocator;

/// Counts the live heap of each side; what it costs is measured by `cargo bench --bench meters`.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    cli::main()
}
