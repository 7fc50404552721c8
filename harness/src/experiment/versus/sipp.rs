//! SIPp as it comes: found, told what to do, and asked what came of it.
//!
//! It runs with its defaults: 10 ms of timer resolution unless it is to be punctual, a screen a second that goes to a
//! file, at most three seconds' worth of calls at a time. But its sockets for datagrams, of caller and callee, hold
//! as much as the generator's: with its own 64 KiB it loses answers and repeats requests. Nothing is traced; its statistics are
//! one row, written when it ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hopbench::load::GATHERED_RECEIVE_BUFFER_BYTES;
use hopbench::transport::Stack;

use super::{Calls, Made};
use crate::experiment::on_path;
use crate::testbed::{Failure, Foreign, Outcome, Side, Testbed, free_port};

/// How long its callee may take to listen.
const START: Duration = Duration::from_secs(10);

/// SIPp, and a folder for what it reads and writes.
pub(crate) struct Sipp {
    program: PathBuf,
    /// As it says itself.
    pub(super) version: String,
    folder: tempfile::TempDir,
}

/// Its callee at work.
pub(super) struct Uas {
    pub(super) process: Foreign,
    pub(super) address: SocketAddr,
}

impl Sipp {
    /// Whether it can: Debian's is built without TLS, and with it would open about five connections a second.
    pub(super) fn speaks(stack: &Stack) -> bool {
        ["udp", "tcp"].contains(&stack.name)
    }

    /// The `sipp` on the path.
    ///
    /// # Errors
    /// When there is none, or it is not what it seems.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let program = on_path("sipp").ok_or_else(|| {
            anyhow!("SIPp is not installed: `apt-get install sip-tester` on Debian provides it")
        })?;
        let say = |argument: &[&str]| -> anyhow::Result<String> {
            let output = Command::new(&program).args(argument).output();
            let output = output.with_context(|| format!("cannot run {}", program.display()))?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let version = say(&["-v"])?;
        let words = version.split_whitespace();
        let version = words
            .skip_while(|word| *word != "SIPp")
            .nth(1)
            .ok_or_else(|| anyhow!("{} -v does not say its version", program.display()))?;
        let version = version.trim_matches(['.', 'v']).to_owned();
        let scenario = uas_scenario(&say(&["-sd", "uas"])?)?;
        let folder = tempfile::tempdir().context("no folder for SIPp's files")?;
        let file = folder.path().join(UAS_FILE);
        std::fs::write(&file, scenario)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            program,
            version,
            folder,
        })
    }

    /// Starts its callee on a port of its own.
    pub(super) fn answer(&self, testbed: &Testbed, stack: &Stack) -> Outcome<Uas> {
        let address = free_port()?;
        let mut command = self.command(stack);
        command
            .args(["-sf", UAS_FILE, "-i"])
            .arg(address.ip().to_string())
            .arg("-p")
            .arg(address.port().to_string());
        let log = self.folder.path().join("uas.log");
        let mut process = testbed.foreign(Side::Server, command, &log)?;
        process.await_bound(address, stack.is_stream(), START)?;
        Ok(Uas { process, address })
    }

    /// Calls `target` with the built-in scenario `uac` and further options. The server's processor time is left out.
    pub(super) fn call(
        &self,
        testbed: &Testbed,
        stack: &Stack,
        target: SocketAddr,
        options: &[&str],
        calls: Calls,
    ) -> Outcome<Made> {
        let statistics = self.folder.path().join("statistics.csv");
        // What an earlier one wrote.
        let _ = std::fs::remove_file(&statistics);
        let count = (calls.per_second * calls.seconds).ceil();
        let mut command = self.command(stack);
        command
            .args(options)
            .args(["-sn", "uac", "-i", "127.0.0.1", "-r"])
            .arg(format!("{:.0}", calls.per_second))
            .args(["-m", &format!("{count:.0}")])
            .args(["-trace_stat", "-fd", "3600", "-stf"])
            .arg(&statistics)
            .arg(target.to_string());
        let log = self.folder.path().join("uac.log");
        let caller = testbed.foreign(Side::Caller, command, &log)?;
        let limit = Duration::from_secs_f64(calls.seconds + calls.patience_seconds);
        let Some(ended) = caller.finish(limit)? else {
            return Ok(Made {
                failed: count as u64,
                ..Made::default()
            });
        };
        let made = read_statistics(&statistics).map_err(|reason| {
            Failure::Failed(format!("SIPp ended with {}: {reason}", ended.status))
        })?;
        Ok(Made {
            caller_cpu_ns: ended.cpu_ns,
            ..made
        })
    }

    fn command(&self, stack: &Stack) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args([
            "-nostdin",
            // All calls over one socket.
            "-t",
            if stack.is_stream() { "t1" } else { "u1" },
        ]);
        if !stack.is_stream() {
            command.args(["-buff_size", &GATHERED_RECEIVE_BUFFER_BYTES.to_string()]);
        }
        command
    }
}

const UAS_FILE: &str = "uas.xml";

/// SIPp's built-in callee, which also takes the one REGISTER that the generator's user starts with, unchallenged.
/// Calls run through the built-in steps.
fn uas_scenario(built_in: &str) -> anyhow::Result<String> {
    let mut scenario = built_in.to_owned();
    let changes = [
        (
            "<recv request=\"INVITE\" crlf=\"true\">",
            "<recv request=\"REGISTER\" optional=\"true\" next=\"registration\"></recv>\n  \
             <recv request=\"INVITE\" crlf=\"true\">",
        ),
        (
            "<recv request=\"BYE\">\n  </recv>\n\n  <send>",
            "<recv request=\"BYE\">\n  </recv>\n\n  <send next=\"end\">",
        ),
        (
            "  <timewait milliseconds=\"4000\"/>",
            "  <label id=\"registration\"/>\n  <send><![CDATA[\n\n      SIP/2.0 200 OK\n      \
             [last_Via:]\n      [last_From:]\n      [last_To:];tag=[pid]SIPpTag01[call_number]\n      \
             [last_Call-ID:]\n      [last_CSeq:]\n      [last_Contact:];expires=3600\n      \
             Content-Length: 0\n\n    ]]></send>\n  <label id=\"end\"/>\n  \
             <timewait milliseconds=\"4000\"/>",
        ),
    ];
    for (old, new) in changes {
        let count = scenario.matches(old).count();
        anyhow::ensure!(
            count == 1,
            "expected {old:?} once in what `sipp -sd uas` prints, found it {count} times: this SIPp is \
             another one than 3.6"
        );
        scenario = scenario.replace(old, new);
    }
    Ok(scenario)
}

/// What the last row of SIPp's statistics says.
fn read_statistics(file: &Path) -> Result<Made, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("it left no statistics in {}: {error}", file.display()))?;
    parse_statistics(&text)
}

fn parse_statistics(text: &str) -> Result<Made, String> {
    let names = text.lines().next().unwrap_or_default().split(';');
    let values = text.lines().last().unwrap_or_default().split(';');
    let row: BTreeMap<&str, &str> = names.zip(values).collect();
    let value = |name: &str| {
        let value = row.get(name);
        value.ok_or_else(|| format!("its statistics have no column {name}"))
    };
    let count = |name: &str| -> Result<u64, String> {
        let found = value(name)?;
        let count = found.parse();
        count.map_err(|_| format!("expected a number in the column {name}, found {found:?}"))
    };
    // A date, a time of day, and seconds since 1970 with a fraction.
    let seconds = |name: &str| -> Result<f64, String> {
        let found = value(name)?;
        let seconds = found.split('\t').next_back().and_then(|s| s.parse().ok());
        seconds.ok_or_else(|| format!("expected a time in the column {name}, found {found:?}"))
    };
    let elapsed = seconds("CurrentTime")? - seconds("StartTime")?;
    let completed = count("SuccessfulCall(C)")?;
    Ok(Made {
        completed,
        failed: count("FailedCall(C)")?,
        retransmissions: count("Retransmissions(C)")?,
        achieved_per_second: completed as f64 / elapsed,
        ..Made::default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_row_that_sipp_leaves() {
        let text = "StartTime;CurrentTime;SuccessfulCall(C);FailedCall(C);Retransmissions(C);\n\
                    2026-01-01\t10:00:00.5\t100.5;2026-01-01\t10:00:00.5\t100.5;0;0;0;\n\
                    2026-01-01\t10:00:00.5\t100.5;2026-01-01\t10:00:02.5\t102.5;40;2;1;\n";
        let made = parse_statistics(text).unwrap();
        assert_eq!((made.completed, made.failed), (40, 2));
        assert_eq!(made.retransmissions, 1);
        assert!((made.achieved_per_second - 20.0).abs() < 1e-9);
        let error = parse_statistics("StartTime;\n1\t2\tx;\n").unwrap_err();
        assert!(error.contains("CurrentTime"), "{error}");
    }

    #[test]
    fn says_that_another_sipp_is_another_one() {
        let error = uas_scenario("<scenario/>").unwrap_err().to_string();
        assert!(error.contains("another one than 3.6"), "{error}");
    }
}
