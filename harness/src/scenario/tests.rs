//! What scenarios are refused, and what profiles ask.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_profiles_are_sound() {
    for (name, _) in PROFILES {
        let scenario = Scenario::profile(name).unwrap();
        assert_eq!(scenario.plan.name, name);
        assert_eq!(scenario.sha256.len(), 64);
        let has_all = scenario.plan.stacks.len() == hopbench::transport::stacks().len();
        let is_general = ["quick", "standard", "full", "tunnels"].contains(&name);
        assert!(has_all || !is_general, "{name}");
        let experiments = crate::experiment::experiments(&scenario.plan, &[]).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for trial in experiments.iter().flat_map(|experiment| &experiment.trials) {
            let id = trial.subject.id.to_string();
            assert!(ids.insert(id.clone()), "{name}: {id} is there twice");
        }
    }
}

#[test]
fn every_core_stack_meets_every_edge_where_there_is_a_core() {
    let mut plan = Scenario::profile("quick").unwrap().plan;
    plan.stacks = vec!["tcp".into(), "tls".into()];
    let names = |plan: &Plan, topology, variants: &[Variant]| -> Vec<String> {
        let selection = Selection {
            variants,
            ..Selection::default()
        };
        let sites = plan.sites(topology, &selection).unwrap();
        let name = |site: &Site| format!("{}+{}", site.stack.name, site.core.name);
        sites.iter().map(name).collect()
    };
    let trapezoid = Topology::Trapezoid;
    assert_eq!(names(&plan, trapezoid, &[]), ["tcp+tcp", "tls+tls"]);
    plan.core_stacks = vec!["mtls".into(), "udp@wireguard".into()];
    assert_eq!(names(&plan, Topology::Edge, &[]), ["tcp+tcp", "tls+tls"]);
    let expected = [
        "tcp+mtls",
        "tcp+udp@wireguard",
        "tls+mtls",
        "tls+udp@wireguard",
    ];
    assert_eq!(names(&plan, trapezoid, &[]), expected);
    let rsa = toml::from_str("key_type = \"RSA-2048\"").unwrap();
    let two = [Variant::default(), rsa];
    // A variant of TLS is one of each site with TLS.
    assert_eq!(
        names(&plan, Topology::Direct, &two),
        ["tcp+tcp", "tls+tls", "tls+tls"]
    );
    assert_eq!(names(&plan, trapezoid, &two).len(), 7);
}

#[test]
fn errors_name_the_place_and_what_is_allowed() {
    let good = PROFILES[0].1;
    let cases = [
        (
            "stacks = [\n    \"udp\",",
            "stacks = [\n    \"upd\",",
            vec!["stacks", "\"upd\"", "udp"],
        ),
        (
            "workload = \"invite\"",
            "workload = \"invit\"",
            vec!["line", "invit", "`register`", "`invite`"],
        ),
        ("[memory]", "[memroy]", vec!["line", "memroy", "`memory`"]),
        (
            "blocks = 6",
            "blocks = 0",
            vec!["setup.blocks", "at least one"],
        ),
        ("blocks = 6", "blocks = -1", vec!["line", "-1"]),
        (
            "connections = [14, 28,",
            "connections = [",
            vec!["memory.connections", "at least 5"],
        ),
        (
            "lifecycle = \"per-registration\"",
            "lifecycle = \"per-call\"",
            vec!["throughput[0]", "per-registration"],
        ),
        ("users = 100", "", vec!["line", "users"]),
        (
            "proxies = [0, 1, 2, 3, 4]",
            "proxies = [0, 1, 9]",
            vec!["chain.proxies", "at most 8"],
        ),
        (
            "proxies = [0, 1, 2, 3, 4]",
            "proxies = [0, 4]",
            vec!["chain.proxies", "at least 3"],
        ),
        (
            "rates_per_second = [200.0]",
            "rates_per_second = [\"200..\"]",
            vec!["line", "FROM..TO"],
        ),
        (
            "rates_per_second = [200.0]",
            "rates_per_second = [[200.0]]",
            vec!["line", "\"100..2000\" (a ramp)"],
        ),
        (
            "users = 100",
            "users = 100\ntopology = \"ring\"",
            vec!["line", "\"ring\"", "trapezoid"],
        ),
        (
            "users = 100",
            "users = 100\ntopology = \"chain-9\"",
            vec!["line", "chain-8"],
        ),
        (
            "users = 100",
            "users = 100\nvariants = [{ tls_version = \"1.1\" }]",
            vec!["line", "`1.2` or `1.3`"],
        ),
        (
            "[chain]\nstacks = [\"udp\",",
            "[chain]\nstacks = [\"upd\",",
            vec!["chain.stacks", "\"upd\"", "udp"],
        ),
        (
            "users = 100",
            "users = 100\nvariants = [{}, {}]",
            vec!["throughput[0].variants[1]", "twice"],
        ),
        (
            "stacks = [\n    \"udp\",",
            "core_stacks = [\"upd\"]\nstacks = [\n    \"udp\",",
            vec!["core_stacks", "upd"],
        ),
        (
            "turns = 3",
            "turns = 4",
            vec!["throughput[0].turns", "1 to 3", "duration_seconds"],
        ),
        ("turns = 3", "turns = 0", vec!["throughput[0].turns"]),
        (
            "rates_per_second = [200.0]",
            "rates_per_second = [\"100..300\"]",
            vec!["throughput[0].turns", "one turn"],
        ),
        ("name =", "name ==", vec!["line 5"]),
    ];
    for (from, to, expected) in cases {
        assert_refused(good, from, to, &expected);
    }
}

/// Checks what is said when `from` is `to` in the sound scenario `good`.
pub(super) fn assert_refused(good: &str, from: &str, to: &str, expected: &[&str]) {
    let text = good.replacen(from, to, 1);
    assert_ne!(text, good, "{from} is in the scenario");
    let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
    for part in expected {
        assert!(error.contains(part), "{to}: expected {part} in: {error}");
    }
}
