//! What goes wrong is said: what was expected, what was found, what to do; and the exit code tells.

#![allow(clippy::unwrap_used)]

mod support;

use support::{run, start_node, stderr, stdout};

/// A run that is committed.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/quick");

#[test]
fn wrong_usage_is_explained_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let broken = path("broken.toml");
    std::fs::write(
        &broken,
        support::tiny_scenario(&["tcp"]).replace("users = 60", "usres = 60"),
    )
    .unwrap();
    let foreign = path("foreign.json");
    std::fs::write(&foreign, "{\"schema\": \"somebody.else/9\"}").unwrap();
    let missing = path("missing.toml");
    let nowhere = path("nowhere");
    let empty = path("empty");
    std::fs::write(&empty, "\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["run", "--stacks", "udp@wiregard"],
            &["udp@wiregard", "udp@wireguard", "mtls"],
        ),
        (
            &["run", "--profile", "huge"],
            &["huge", "quick, standard, full"],
        ),
        (
            &["run", "--experiments", "latency"],
            &["latency", "setup, memory, throughput"],
        ),
        (
            &["run", "--core-stack", "mtsl"],
            &["--core-stack", "mtsl", "'mtls'"],
        ),
        (
            &["node", "--route", "b.example=tcp@127.0.0.1:5061"],
            &["--route", "--service proxy"],
        ),
        (
            &["node", "--service", "proxy", "--route", "b.example"],
            &["--route", "DOMAIN=STACK@HOST:PORT"],
        ),
        (
            &[
                "node",
                "--service",
                "proxy",
                "--route",
                "*=mtls@127.0.0.1:5061",
            ],
            &["mtls", "--credentials"],
        ),
        (&["run", &missing], &["missing.toml", "No such file"]),
        (
            &["run", &broken],
            &["broken.toml", "line", "usres", "users"],
        ),
        (
            &["report", &foreign],
            &["foreign.json", "hopbench.run/1", "somebody.else/9"],
        ),
        (&["report", &nowhere], &["nowhere"]),
        (&["plan", "--users=1e6", "--run", &nowhere], &["nowhere"]),
        (
            &["plan", "--users=many", "--run", REFERENCE],
            &["--users", "many", "100k"],
        ),
        (&["plan", "--run", REFERENCE], &["--users"]),
        (
            &["plan", "--users=1e6", "--run", REFERENCE, "--stack=tlss"],
            &["--stack", "tlss", "'tls'"],
        ),
        (
            &["plan", "--users=1e6", "--run", REFERENCE, "--expires=0"],
            &["--expires", "found 0"],
        ),
        (
            &["plan", "--users=1e6", "--run", REFERENCE, "--utilisation=2"],
            &["--utilisation", "at most 1, found 2"],
        ),
        (
            &["plan", "--validate=users=12345", "--run", REFERENCE],
            &["--validate", "hopbench run"],
        ),
        (&["load", "--target", "127.0.0.1"], &["HOST:PORT"]),
        (
            &["load", "--target", "127.0.0.1:1", "--stack", "tls"],
            &["--credentials", "--ca"],
        ),
        (
            &["load", "--target", "127.0.0.1:1", "--rate", "0"],
            &["--rate", "0.001 to 1,000,000"],
        ),
        (
            &["load", "--target", "127.0.0.1:1", "--rate", "1e-300"],
            &["--rate", "0.001 to 1,000,000"],
        ),
        (
            &["load", "--target", "127.0.0.1:1", "--duration", "1e300"],
            &["--duration", "0.1 to 86400"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--workers=2", "--users=1"],
            &["--users", "--workers"],
        ),
        (
            &["load", "--target", "127.0.0.1:1", "--workload", "inivte"],
            &["inivte", "`register`", "`invite`"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--lifecycle=per-call"],
            &["per-registration"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--workload=mixed"],
            &["--ring"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--workload=avalanche"],
            &["30 s", "--back-off"],
        ),
        (
            &["node", "--route", "b.example=tcp@127.0.0.1:1"],
            &["--service proxy"],
        ),
        (
            &["load", "--target", "127.0.0.1:1", "--users", "5000"],
            &["--users", "--accounts"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--user-pattern=alice"],
            &["--user-pattern", "`alice`", "{:04}"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--user-pattern=u{:4}"],
            &["--user-pattern", "{:0N}", "`{:4}`"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--user-pattern=al ice{}"],
            &["--user-pattern", "al ice0"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--callee=tel:1"],
            &["--callee", "sip:echo@example.org", "tel:1"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--domain=a:5060"],
            &["--domain", "without port"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--password-file", &missing],
            &["--password-file", "missing.toml", "No such file"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--password-file", &empty],
            &["--password-file", "empty", "first line"],
        ),
        (
            &["load", "--target=127.0.0.1:1", "--password-pattern=hush{"],
            &["--password-pattern: expected", "{:04}"],
        ),
        (
            &["load", "--password=a", "--password-file", &empty],
            &["--password", "--password-file", "cannot be used with"],
        ),
        (
            &[
                "credentials",
                "wireguard-user",
                "--credentials=keys",
                "--out=a",
            ],
            &["--endpoint <IP:PORT>"],
        ),
        (
            &["credentials", "wireguard-user", "--user=16777213"],
            &["--user", "not in 0..16777213"],
        ),
        (
            &["node", "--stack", "mtls"],
            &["mtls", "--credentials FOLDER"],
        ),
        (&["node", "--stack", "sctp"], &["sctp", "tcp"]),
        (
            &["node", "--stack", "tls", "--tls-version", "1.1"],
            &["1.1", "`1.2` or `1.3`"],
        ),
        (
            &["node", "--stack=tls", "--key-exchange-group=X25519MLKEM768"],
            &["X25519MLKEM768", "ring", "aws-lc-rs has it"],
        ),
        (
            &["node", "--batching", "maybe"],
            &["maybe", "`off`, `on`, `segments`"],
        ),
        (
            &["node", "--tunnel-mtu-bytes", "100"],
            &["mtu_bytes", "100", "576 to 65000"],
        ),
        (
            &["run", "--tunnel-keep-alive-seconds", "0"],
            &["keep_alive_seconds", "1 to 65535"],
        ),
        (&["node", "--stack", "tcp", "--ring=-1"], &["--ring", "-1"]),
        (&["node", "--stack", "tcp", "--ring", "1e300"], &["--ring"]),
    ];
    for (args, expected) in cases {
        let output = run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        for part in *expected {
            assert!(said.contains(part), "{args:?}: expected {part} in: {said}");
        }
        assert!(!said.contains("hush"), "a secret is shown: {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (_node, address) = start_node(&["--stack", "tcp"]);
    let output = run(&["node", "--stack", "tcp", "--listen", &address.to_string()]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&address.to_string()) && said.contains("in use"),
        "{said}"
    );
}

/// A short load against `target`; returns exit code and everything that it said.
fn load(target: &str, args: &[&str]) -> (Option<i32>, String) {
    let fixed = [
        "load",
        "--target",
        target,
        "--rate",
        "30",
        "--warm-up",
        "0",
        "--duration",
        "0.3",
        "--drain",
        "2",
    ];
    let output = run(&[&fixed, args].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_server_that_is_not_there_fails_every_operation() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, said) = load(&nobody.to_string(), &["--stack", "tcp"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("cannot connect") && said.contains("refused"),
        "{said}"
    );
    assert!(said.contains("0 of "), "{said}");
    let (code, said) = load(
        &nobody.to_string(),
        &["--stack", "tcp", "--workload", "invite"],
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn wrong_credentials_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ours, theirs) = (path("ours"), path("theirs"));
    let (_other, _) = start_node(&["--stack", "tls", "--credentials", &theirs]);
    let (_tls, tls) = start_node(&["--stack", "tls", "--credentials", &ours]);
    let (_mtls, mtls) = start_node(&["--stack", "mtls", "--credentials", &ours]);
    let (_tunnel, tunnel) = start_node(&["--stack", "udp@wireguard", "--credentials", &ours]);
    let password = path("password");
    std::fs::write(&password, "not derived\n").unwrap();
    let foreign_ca = format!("{theirs}/ca.pem");
    let our_ca = format!("{ours}/ca.pem");
    let (foreign_chain, foreign_key) = (
        format!("{theirs}/client.pem"),
        format!("{theirs}/client.key"),
    );
    // Stack, server, options, exit code, what is said.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], i32, &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            "tls",
            &tls.to_string(),
            &["--credentials", &ours],
            0,
            &["succeeded"],
        ),
        (
            "tls",
            &tls.to_string(),
            &["--ca", &our_ca],
            0,
            &["succeeded"],
        ),
        (
            "tls",
            &tls.to_string(),
            &["--ca", &foreign_ca],
            3,
            &["TLS handshake", "certificate"],
        ),
        (
            "tls",
            &tls.to_string(),
            &["--ca", &our_ca, "--server-name", "example.org"],
            3,
            &["TLS handshake", "example.org"],
        ),
        (
            "tls",
            &tls.to_string(),
            &["--ca", &our_ca, "--secret", "wrong"],
            3,
            &["credentials"],
        ),
        (
            "tls",
            &tls.to_string(),
            &["--ca", &our_ca, "--password-file", &password],
            3,
            &["the password is wrong"],
        ),
        (
            "mtls",
            &mtls.to_string(),
            &["--credentials", &ours],
            0,
            &["succeeded"],
        ),
        (
            "mtls",
            &mtls.to_string(),
            &[
                "--credentials",
                &ours,
                "--client-cert",
                &foreign_chain,
                "--client-key",
                &foreign_key,
            ],
            3,
            &["does not trust the authority that signed our certificate"],
        ),
        (
            "udp@wireguard",
            &tunnel.to_string(),
            &["--credentials", &ours],
            0,
            &["succeeded"],
        ),
        (
            "udp@wireguard",
            &tunnel.to_string(),
            &["--credentials", &theirs],
            3,
            &["drain"],
        ),
    ];
    for (stack, target, args, code, expected) in cases {
        let (found, said) = load(target, &[&["--stack", stack], *args].concat());
        assert_eq!(found, Some(*code), "{stack} {args:?}: {said}");
        for part in *expected {
            assert!(
                said.contains(part),
                "{stack} {args:?}: expected {part} in: {said}"
            );
        }
    }
}
