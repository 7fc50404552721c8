//! The profiler: which function was on the processor, some thousand times a second, by the kernel's own clock.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::experiment::on_path;
use crate::testbed::{Failure, Foreign, Outcome, Side, Testbed};

/// Samples of each second of processor time: a prime, so that nothing periodic keeps step with it.
pub(super) const PER_SECOND: u32 = 1_999;
/// How long perf may take to write what it has.
const END: Duration = Duration::from_secs(20);

/// perf, and a folder for what it writes.
pub(crate) struct Perf {
    program: PathBuf,
    pub(super) version: String,
    folder: tempfile::TempDir,
}

/// Sampling under way.
pub(super) struct Recording(Foreign);

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pid: u32,
    /// The function, as it is written in its language.
    pub(super) symbol: String,
    /// The file that it is in, or `[kernel.kallsyms]`.
    pub(super) object: String,
}

impl Perf {
    /// The `perf` on the path.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let program = on_path("perf").ok_or_else(|| {
            anyhow!("perf is not installed: `apt-get install linux-perf` on Debian provides it")
        })?;
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(Self {
            program,
            version: said.trim().trim_start_matches("perf version ").to_owned(),
            folder: tempfile::tempdir().context("no folder for perf's files")?,
        })
    }

    /// Samples these processes until [`Self::finish`].
    pub(super) fn record(&self, testbed: &Testbed, pids: &[u32]) -> Outcome<Recording> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut command = Command::new(&self.program);
        // A timer of the kernel: virtual machines have no counters of cycles.
        command
            .args(["record", "--event=cpu-clock", "--no-buildid"])
            .args(["-F", &PER_SECOND.to_string(), "-p", &pids.join(",")])
            .arg("-o")
            .arg(self.data());
        let log = self.folder.path().join("perf.log");
        Ok(Recording(testbed.foreign(Side::Caller, command, &log)?))
    }

    /// Ends sampling; everything that was found.
    pub(super) fn finish(&self, recording: Recording) -> Outcome<Vec<Found>> {
        let Some(ended) = recording.0.interrupt(END)? else {
            return Err(Failure::Failed(format!("perf did not end within {END:?}")));
        };
        let log = std::fs::read_to_string(self.folder.path().join("perf.log"));
        let log = log.unwrap_or_default();
        let output = Command::new(&self.program)
            .args(["script", "--fields=pid,ip,sym,dso", "--demangle", "-i"])
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::Failed(format!("cannot run perf: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::Failed(format!(
                "perf ended with {}, and said: {}",
                ended.status,
                format!("{log} {said}")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                parse(line).ok_or_else(|| {
                    Failure::Failed(format!("expected a sample of perf, found: {line}"))
                })
            })
            .collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("perf.data")
    }
}

/// `  4711  7f0f73612abe hopbench::sip::parse (/path/to/hopbench)`: the name may hold anything.
fn parse(line: &str) -> Option<Found> {
    let (pid, rest) = line.trim().split_once(char::is_whitespace)?;
    let (_address, rest) = rest.trim_start().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (")?;
    Some(Found {
        pid: pid.parse().ok()?,
        symbol: symbol.to_owned(),
        object: object.strip_suffix(')')?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perf_prints() {
        let found = |pid, symbol: &str, object: &str| {
            Some(Found {
                pid,
                symbol: symbol.to_owned(),
                object: object.to_owned(),
            })
        };
        assert_eq!(
            parse("31073      7f0f73612abe dl_main (/usr/lib/ld-linux-x86-64.so.2)"),
            found(31_073, "dl_main", "/usr/lib/ld-linux-x86-64.so.2")
        );
        assert_eq!(
            parse(" 7  ffffffff81 <a::B as c::D<(u8, u16)>>::f ([kernel.kallsyms])"),
            found(7, "<a::B as c::D<(u8, u16)>>::f", "[kernel.kallsyms]")
        );
        assert_eq!(parse("nonsense"), None);
    }
}
