//! The tasks of `hopbench instructions` under gungraun: what each takes now, beside what it took the last time or in a
//! named baseline, and the profile of each for kcachegrind under `target/gungraun`. A target of the harness package,
//! so that Cargo builds the binary, whose functions are counted, first.
//!
//! Where valgrind or gungraun's runner is missing they are skipped, with a word: nothing is installed for them. A filter
//! is a pattern of the whole name: `cargo bench --bench instructions -- '*handshake*tls*'`.

use std::process::{Command, ExitCode, Stdio};

use gungraun::{Bench, BinaryBenchmark, BinaryBenchmarkConfig, BinaryBenchmarkGroup, Callgrind};

const HOPBENCH: &str = env!("CARGO_BIN_EXE_hopbench");

/// Its runner must be of exactly the version that harness/Cargo.toml names.
const RUNNER_VERSION: &str = "0.20.0";

fn main() -> ExitCode {
    let (mut is_bench, mut of_others) = (false, None);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => is_bench = true,
            // gungraun's are `--name=value`; `--quick` or `--sample-size 10` is for Criterion.
            flag if flag.starts_with('-') && !flag.contains('=') => of_others = Some(argument),
            _ => {}
        }
    }
    // Without it somebody wants to know whether benches run at all (`cargo test --benches`).
    if !is_bench {
        return ExitCode::SUCCESS;
    }
    let hindrance = match of_others {
        Some(flag) => Err(format!("{flag} is for other benches")),
        None => is_ready(),
    };
    match hindrance {
        Ok(()) => counted::run(),
        Err(reason) => eprintln!("instructions: skipped, {reason}"),
    }
    ExitCode::SUCCESS
}

/// Whether everything is there that counting takes.
fn is_ready() -> Result<(), String> {
    version_of("valgrind")
        .map_err(|error| format!("valgrind cannot be run: {error} (apt-get install valgrind)"))?;
    let runner = option_env!("GUNGRAUN_RUNNER").unwrap_or("gungraun-runner");
    let remedy = format!("cargo install --locked gungraun-runner --version {RUNNER_VERSION}");
    let version = version_of(runner)
        .map_err(|error| format!("{runner} cannot be run: {error} ({remedy})"))?;
    match version.split_whitespace().last() {
        Some(RUNNER_VERSION) => Ok(()),
        _ => Err(format!(
            "{runner} must be of version {RUNNER_VERSION}, and says {version:?} ({remedy})"
        )),
    }
}

fn version_of(program: &str) -> std::io::Result<String> {
    let mut command = Command::new(program);
    let output = command.arg("--version").stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
    assert!(output.status.success(), "hopbench does not tell its tasks");
    serde_json::from_slice(&output.stdout).expect("hopbench tells its tasks as JSON")
}

/// One benchmark a workload, one of its benches a stack and side. gungraun shows what all iterations of a task take.
fn add_tasks(group: &mut BinaryBenchmarkGroup) {
    let mut workloads: Vec<(String, BinaryBenchmark)> = Vec::new();
    for task in tasks() {
        let (workload, rest) = task.name.split_once('/').expect("WORKLOAD/STACK/SIDE");
        let workload = id_of(workload);
        if !workloads.iter().any(|(known, _)| *known == workload) {
            workloads.push((workload.clone(), BinaryBenchmark::new(&workload)));
        }
        let benchmark = workloads.iter_mut().find(|(known, _)| *known == workload);
        let (_, benchmark) = benchmark.expect("it was added");
        benchmark.bench(bench(id_of(rest), &task));
    }
    group.binary_benchmarks(workloads.into_iter().map(|(_, benchmark)| benchmark));
}

/// gungraun wants identifiers of Rust.
fn id_of(name: &str) -> String {
    name.replace(|character: char| !character.is_ascii_alphanumeric(), "_")
}

fn bench(id: String, task: &Task) -> Bench {
    let arguments = task.callgrind_arguments.iter().map(String::as_str);
    let callgrind = Callgrind::with_args(std::iter::once("--cache-sim=no").chain(arguments));
    let mut config = BinaryBenchmarkConfig::default();
    config.tool(callgrind);
    let command = gungraun::Command::new(HOPBENCH)
        .args(["instructions", "--task", &task.name])
        .build();
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
