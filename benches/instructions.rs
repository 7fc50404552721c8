//! The tasks of `hopbench instructions` under gungraun: what each takes now, beside what it took the last time or in a
//! named baseline, and the profile of each for kcachegrind under `target/gungraun`. A target of the harness package,
//! so that Cargo builds the binary, whose functions are counted, first.
//!
//! Where valgrind or gungraun's runner is missing they are skipped, with a word: nothing is installed for them.

use std::process::{Command, ExitCode, Stdio};

use gungraun::{Bench, BinaryBenchmark, BinaryBenchmarkConfig, BinaryBenchmarkGroup, Callgrind};

const HOPBENCH: &str = env!("CARGO_BIN_EXE_hopbench");

fn main() -> ExitCode {
    // Without `--bench` somebody wants to know whether benches run at all (`cargo test --benches`), or gungraun's
    // runner has a question.
    let mut arguments = std::env::args().skip(1).peekable();
    let is_asked = arguments
        .peek()
        .is_some_and(|first| first == "--gungraun-run");
    if !is_asked && !arguments.any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let runner = option_env!("GUNGRAUN_RUNNER").unwrap_or("gungraun-runner");
    let needed = [
        ("valgrind", "apt-get install valgrind"),
        (
            runner,
            "cargo install --locked gungraun-runner --version 0.20.0",
        ),
    ];
    for (program, remedy) in needed {
        if let Err(error) = starts(program) {
            eprintln!("instructions: skipped, {program} cannot be run: {error} ({remedy})");
            return ExitCode::SUCCESS;
        }
    }
    counted::run();
    ExitCode::SUCCESS
}

fn starts(program: &str) -> std::io::Result<()> {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.stderr(Stdio::null()).status().map(drop)
}

/// A task as `hopbench instructions --tasks` tells it.
#[derive(serde::Deserialize)]
struct Task {
    /// WORKLOAD/STACK/SIDE.
    name: String,
    callgrind_arguments: Vec<String>,
}

fn tasks() -> Vec<Task> {
    let output = Command::new(HOPBENCH)
        .args(["instructions", "--tasks"])
        .output()
        .expect("hopbench was built");
    serde_json::from_slice(&output.stdout).expect("hopbench tells its tasks as JSON")
}

/// One benchmark a workload, one of its benches a stack and side. gungraun shows what all iterations of a task take.
fn add_tasks(group: &mut BinaryBenchmarkGroup) {
    let mut workloads: Vec<(String, BinaryBenchmark)> = Vec::new();
    for task in tasks() {
        let (workload, rest) = task.name.split_once('/').expect("WORKLOAD/STACK/SIDE");
        if !workloads.iter().any(|(known, _)| known == workload) {
            workloads.push((workload.to_owned(), BinaryBenchmark::new(workload)));
        }
        let benchmark = workloads.iter_mut().find(|(known, _)| known == workload);
        let (_, benchmark) = benchmark.expect("it was added");
        benchmark.bench(bench(rest, &task));
    }
    group.binary_benchmarks(workloads.into_iter().map(|(_, benchmark)| benchmark));
}

fn bench(name: &str, task: &Task) -> Bench {
    let arguments = task.callgrind_arguments.iter().map(String::as_str);
    let callgrind = Callgrind::with_args(std::iter::once("--cache-sim=no").chain(arguments));
    let mut config = BinaryBenchmarkConfig::default();
    config.tool(callgrind);
    let command = gungraun::Command::new(HOPBENCH)
        .args(["instructions", "--task", &task.name])
        .build();
    // As gungraun wants names.
    let id = name.replace(|character: char| !character.is_ascii_alphanumeric(), "_");
    let mut bench = Bench::new(id);
    bench.config(config).command(command);
    bench
}

/// gungraun's `main`, which ends the process if it fails.
mod counted {
    use super::add_tasks;

    pub(super) fn run() {
        main();
    }

    gungraun::binary_benchmark_group!(
        name = tasks;
        benchmarks = |group: &mut BinaryBenchmarkGroup| add_tasks(group)
    );
    gungraun::main!(binary_benchmark_groups = tasks);
}
