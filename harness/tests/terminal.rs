//! What a user meets on the command line: what a run says and where, help, completions, manual, version.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hopbench::record::Run;
use support::{hopbench, run, stderr, stdout};

/// A run that is committed.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/rekey");
const ESCAPE: char = '\u{1b}';

const SCENARIO: &str = r#"
name = "brief"
summary = "for the tests"
stacks = ["tcp"]

[setup]
rate_per_second = 40.0
warm_up_seconds = 0.05
duration_seconds = 0.2
blocks = 2
"#;

/// A run of half a second, and the folder that it was to write.
fn brief_run(folder: &Path, args: &[&str]) -> (Output, Run) {
    let scenario = folder.join("brief.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.join("out");
    let mut command = hopbench();
    command.arg("run").arg(&scenario).arg("--out").arg(&out);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = Run::read(&out.join("run.json")).unwrap();
    (output, run)
}

#[test]
fn without_a_terminal_a_run_says_a_plain_line_for_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = brief_run(folder.path(), &[]);
    let said = stderr(&output);
    let steps: Vec<&str> = said.lines().collect();
    assert_eq!(steps.len(), 2, "{said}");
    for (step, block) in steps.iter().zip(["block 1 of 2", "block 2 of 2"]) {
        assert!(
            step.starts_with("[0:0") && step.ends_with(" left"),
            "{step}"
        );
        assert!(
            step.contains(&format!("setup, {block}: register")),
            "{step}"
        );
    }
    let table = stdout(&output);
    assert!(
        table.contains("Set-up") && table.contains("report: "),
        "{table}"
    );
    assert!(
        !said.contains(ESCAPE) && !table.contains(ESCAPE),
        "{said}{table}"
    );
}

#[test]
fn json_is_the_run_and_nothing_else_and_quiet_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (output, run) = brief_run(folder.path(), &["--quiet", "--json"]);
    assert_eq!(serde_json::from_str::<Run>(&stdout(&output)).unwrap(), run);
    assert_eq!(stderr(&output), "");
    let folder = tempfile::tempdir().unwrap();
    let (output, _) = brief_run(folder.path(), &["--quiet"]);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        (String::new(), String::new())
    );
}

#[test]
fn a_dry_run_says_what_would_be_measured_and_measures_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hopbench();
    command.current_dir(&folder).args([
        "run",
        "--stacks",
        "tcp,tls",
        "--experiments",
        "setup,chain",
        "--dry-run",
        "--budget",
        "2s",
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    for part in [
        "setup/register/tls/direct/per-registration/loopback\n",
        "chain/invite/tcp/chain-3/per-registration/loopback\n",
        "\nsetup           2 cells  about ",
        "\nall            12 cells  about ",
        "\nwith this budget 2 s at the most\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = hopbench();
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let output = command.args(["report", REFERENCE]).output().unwrap();
        stdout(&output).contains(ESCAPE)
    };
    assert!(!coloured(&[]), "this is a pipe");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn every_committed_run_fits_into_a_hundred_columns() {
    let reference = Path::new(REFERENCE).parent().unwrap();
    let mut tables = 0;
    for folder in std::fs::read_dir(reference).unwrap() {
        let folder = folder.unwrap().path();
        let output = run(&["report", folder.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for line in stdout(&output).lines() {
            let columns = line.chars().count();
            assert!(
                columns <= 100,
                "{}: {columns} columns: {line}",
                folder.display()
            );
        }
        tables += 1;
    }
    assert!(tables >= 7, "{tables} runs");
}

#[test]
fn the_version_tells_the_commit_or_that_it_is_unknown() {
    let brief = stdout(&run(&["-V"]));
    let long = stdout(&run(&["--version"]));
    let (name, commit) = brief.trim_end().split_once(" (").unwrap();
    assert_eq!(name, concat!("hopbench ", env!("CARGO_PKG_VERSION")));
    let commit = commit.strip_suffix(')').unwrap();
    let digits = commit.split(',').next().unwrap();
    let is_commit = digits.len() == 9 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    assert!(
        is_commit || commit.starts_with("built outside a checkout"),
        "{brief}"
    );
    assert!(long.starts_with(brief.trim_end()), "{long}");
    assert!(
        long.contains("rustc ") && long.contains("rustls "),
        "{long}"
    );
}

#[test]
fn nothing_and_typos_get_help() {
    // Arguments; what is said, exit code 2.
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &[],
            &["Usage: hopbench <COMMAND>", "hopbench run", "Exit codes"],
        ),
        (&["reprot"], &["reprot", "'report'"]),
        (&["run", "--profil", "quick"], &["--profil", "'--profile'"]),
        (&["run", "--profile", "qick"], &["qick", "'quick'"]),
        (
            &["run", "quick"],
            &["no file quick", "hopbench run --profile quick"],
        ),
        (&["man", "rnu"], &["rnu", "run", "compare"]),
    ];
    for (args, expected) in cases {
        let output = run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        for part in expected {
            assert!(said.contains(part), "{args:?}: expected {part} in: {said}");
        }
    }
}

#[test]
fn help_teaches() {
    for (command, parts) in [
        (
            "run",
            &[
                "What to measure:",
                "Output:",
                "Examples:",
                "Exit codes:",
                "tcp@wireguard",
                "--json",
            ][..],
        ),
        ("report", &["Examples:", "--format", "Exit codes:"]),
        ("compare", &["Exit codes:", "--fail-on"]),
        ("plan", &["Examples:", "Exit codes:", "--validate"]),
        ("load", &["Users:", "TLS:", "Exit codes:"]),
        ("node", &["Examples:", "Users:", "TLS:"]),
    ] {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let said = stdout(&output);
        for part in parts {
            assert!(said.contains(part), "{command} --help lacks {part}: {said}");
        }
    }
}

/// What bash offers for the last of `words`.
fn offered(words: &[&str]) -> BTreeSet<String> {
    let asked = r#"
        source <("$1" completions bash)
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _hopbench hopbench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args([
            "--norc",
            "-c",
            asked,
            "bash",
            env!("CARGO_BIN_EXE_hopbench"),
            "hopbench",
        ])
        .args(words)
        .output()
        .expect("bash, which scripts/ are written for");
    assert_eq!(stderr(&output), "");
    stdout(&output).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_names() {
    // The words; some that are offered, and one that is not.
    let cases: [(&[&str], &[&str], &str); 5] = [
        (
            &[""],
            &["run", "report", "compare", "completions", "man"],
            "--profile",
        ),
        (&["re"], &["report"], "run"),
        (&["run", "--pro"], &["--profile"], "--seed"),
        (&["run", "--profile", "s"], &["standard", "scale"], "quick"),
        (
            &["node", "--stack", "tcp"],
            &["tcp", "tcp@clear", "tcp@wireguard"],
            "udp",
        ),
    ];
    for (words, expected, other) in cases {
        let offered = offered(words);
        for name in expected {
            assert!(offered.contains(*name), "{words:?}: {name} in {offered:?}");
        }
        assert!(!offered.contains(other), "{words:?}: {offered:?}");
    }
}

#[test]
fn every_shell_gets_a_script_and_every_command_a_page() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains("wireguard"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = run(&["man", "--write", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let expected = [
        "hopbench.1",
        "hopbench-run.1",
        "hopbench-credentials-wireguard-user.1",
    ];
    for page in expected {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let one = stdout(&run(&["man", "run"]));
    assert_eq!(
        one,
        std::fs::read_to_string(pages.join("hopbench-run.1")).unwrap()
    );
}

#[test]
fn a_page_is_what_man_can_show() {
    let page = stdout(&run(&["man", "run"]));
    let groff = Command::new("groff")
        .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut groff) = groff else {
        eprintln!("skipped: groff is not installed (Debian: groff-base)");
        return;
    };
    groff
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = groff.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "", "groff warns");
    // Bold is overstruck.
    let shown: String = stdout(&output)
        .split('\u{8}')
        .map(|piece| {
            let mut piece = piece.to_owned();
            piece.pop();
            piece
        })
        .collect();
    for part in [
        "hopbench-run(1)",
        "--profile",
        "WHAT TO MEASURE",
        "Examples:",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
