//! `hopbench node`: the server under test, for the testbed or by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::measure::{handicap, heap};
use hopbench::node::{Node, NodeConfig, WORKERS_MAX};
use hopbench::transport::{self, KeyType, Settings};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::proxy::ProxyArgs;
use super::tls::TlsArgs;
use super::tunnel::TunnelArgs;
use super::users::Users;
use super::{EXIT_ERROR, EXIT_OK, by_name, credentials, names, usage};
use crate::limits;
use crate::protocol::{NodeOrder, NodeReply, WireReading};
use crate::testbed::{Failure, Placement, Testbed};
use crate::variant::Handicap;

/// Longest that calls can ring: a day.
const RING_SECONDS_MAX: f64 = 86_400.0;

/// Options of the node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench node                                       registrar and answering UA, TCP, port 5060\n  \
    hopbench node --stack tls --listen 127.0.0.1:5061 --credentials keys\n  \
    hopbench node --service proxy --stack tcp --workers 6 --accounts 100000\n\n\
    Then load it: hopbench load --target 127.0.0.1:5060. Ctrl-C ends it and prints its counters.\n\n\
    Exit codes: 0 ended by a signal; 1 it could not serve; 2 wrong usage.")]
pub(crate) struct Args {
    /// Stack to listen on; `hopbench list stacks` shows them
    #[arg(long, default_value = "tcp", value_parser = names::stacks(), hide_possible_values = true)]
    stack: String,
    /// Address to listen on; over a tunnel, its outer address. Port 0 lets the kernel choose
    #[arg(long, default_value = "127.0.0.1:5060")]
    listen: SocketAddr,
    /// Folder of certificates and keys; made with fresh ones if it does not exist. Give the same
    /// folder to `hopbench load`
    #[arg(long, value_name = "FOLDER")]
    credentials: Option<PathBuf>,
    /// Kind of the keys in that folder: ECDSA P-256, RSA-2048
    #[arg(long, value_name = "KIND", value_parser = by_name::<KeyType>)]
    key_type: Option<KeyType>,
    /// Processes of the node, which share its address and its users: each may hold as many
    /// connections as `ulimit -Hn` says
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=WORKERS_MAX.into()))]
    workers: u16,
    /// Seconds from INVITE to its 200
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    ring: f64,
    /// Refuse calls beyond that many a second with 503, as a server does that protects itself: something
    /// of known capacity to try a load on. Of several --workers, each has this limit
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    calls_limit: Option<u32>,
    /// Burn this share of the node's own processor time on top, to see whether a measurement finds it
    #[arg(long, hide = true, default_value_t = 0.0, value_name = "RATIO")]
    handicap: f64,
    /// Be a child of the testbed: configuration and orders on standard input
    #[arg(long, hide = true)]
    control: bool,
    #[command(flatten)]
    proxy: ProxyArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    tunnel: TunnelArgs,
    #[command(flatten)]
    users: Users,
}

/// Serves until it is told to stop.
pub(crate) fn node(args: &Args) -> anyhow::Result<u8> {
    limits::raise_descriptor_limit();
    if args.control {
        return control();
    }
    let stack = transport::find(&args.stack).map_err(usage)?;
    if !(0.0..=RING_SECONDS_MAX).contains(&args.ring) {
        return Err(usage(anyhow::anyhow!(
            "--ring must be between 0 and {RING_SECONDS_MAX}, not {}",
            args.ring
        )));
    }
    let handicap = Handicap {
        server_handicap_ratio: Some(args.handicap),
        ..Handicap::default()
    };
    let checked = handicap.check().map_err(anyhow::Error::msg);
    checked.map_err(|error| usage(error.context("--handicap")))?;
    let accounts = args.users.accounts().map_err(usage)?;
    args.tls.check()?;
    let mut settings = match &args.credentials {
        Some(folder) => credentials::open_or_create(folder, accounts.count(), args.key_type)?,
        None => {
            let route = args.proxy.protected_stack();
            if let Some(stack) = Some(stack).filter(|stack| stack.protected).or(route) {
                return Err(usage(anyhow::anyhow!(
                    "the stack {} needs certificates or keys: add --credentials FOLDER, which is \
                     made with fresh ones if it does not exist",
                    stack.name
                )));
            }
            Settings::default()
        }
    };
    args.tls.apply(&mut settings);
    args.tunnel.apply(&mut settings)?;
    let mut config = NodeConfig {
        ring_seconds: args.ring,
        calls_per_second_limit: args.calls_limit,
        handicap_ratio: args.handicap,
        ..NodeConfig::answering(stack.name, args.listen, settings, accounts)
    };
    args.proxy.apply(&mut config).map_err(usage)?;
    if args.workers > 1 {
        args.proxy.check_workers().map_err(usage)?;
        return serve_with_workers(&config, args.workers);
    }
    let runtime = runtime(&config)?;
    LocalSet::new().block_on(&runtime, async {
        let node = Node::listen(&config).await?;
        eprintln!(
            "hopbench node: {} on {}; Ctrl-C ends it",
            stack.name,
            node.local()
        );
        tokio::select! {
            () = node.run() => {}
            signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C")?,
        }
        super::print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&node.counters())?
        ));
        Ok(EXIT_OK)
    })
}

/// The thread of a node's SIP, with the handicap that it is to have.
fn runtime(config: &NodeConfig) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if let Some(burn) = handicap::before_sleep(config.handicap_ratio) {
        builder.on_thread_park(burn);
    }
    builder.enable_all().build()
}

/// How often it is looked whether all workers are there.
const WATCH: Duration = Duration::from_millis(50);

/// Serves by children of this process, wherever the scheduler wants them, until it is told to stop.
fn serve_with_workers(config: &NodeConfig, workers: u16) -> anyhow::Result<u8> {
    let failed = |failure| match failure {
        Failure::Failed(reason) | Failure::Unsupported(reason) => anyhow!(reason),
        Failure::Interrupted => anyhow!("interrupted"),
    };
    let testbed = Testbed::new(Placement::default())?;
    let mut node = testbed.node(config, workers, None).map_err(failed)?;
    eprintln!(
        "hopbench node: {} on {}; {workers} workers; Ctrl-C ends it",
        config.interfaces[0].stack,
        node.address(0)
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let all_there = async {
            loop {
                tokio::time::sleep(WATCH).await;
                if let Err(failure) = node.check() {
                    return failure;
                }
            }
        };
        tokio::select! {
            failure = all_there => Err(failed(failure)),
            signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C"),
        }
    })?;
    let (_, counters) = node.snapshot().map_err(failed)?;
    super::print(&format!("{}\n", serde_json::to_string_pretty(&counters)?));
    Ok(EXIT_OK)
}

/// The testbed's node: one thread for SIP, one that reads orders.
fn control() -> anyhow::Result<u8> {
    let mut stdin = std::io::stdin().lock();
    let Some(config) = super::order::<NodeConfig>(&mut stdin)? else {
        return Ok(EXIT_OK);
    };
    drop(stdin);
    let (orders, mut inbox) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        while let Ok(Some(order)) = super::order::<NodeOrder>(&mut stdin) {
            if orders.send(order).is_err() {
                return;
            }
        }
    });
    let runtime = runtime(&config)?;
    LocalSet::new().block_on(&runtime, async {
        let node = match Node::listen(&config).await {
            Ok(node) => node,
            Err(error) => {
                let reason = error.to_string();
                super::reply(&NodeReply::Failed { reason });
                return Ok(EXIT_ERROR);
            }
        };
        super::reply(&NodeReply::Listening {
            addresses: node.addresses(),
            internal: node.internal_address(),
        });
        let answer = async {
            while let Some(order) = inbox.recv().await {
                let snapshot = |process| NodeReply::Snapshot {
                    process: Box::new(process),
                    counters: Box::new(node.counters()),
                };
                super::reply(&match order {
                    NodeOrder::Introduce(siblings) => {
                        node.introduce(&siblings);
                        NodeReply::Introduced
                    }
                    NodeOrder::Snapshot => snapshot(ProcessSnapshot::take()),
                    NodeOrder::Trace => {
                        heap::trace();
                        snapshot(ProcessSnapshot::take_without_rss())
                    }
                    NodeOrder::Usage => snapshot(ProcessSnapshot::take_without_rss()),
                    NodeOrder::Wire => NodeReply::Wire(WireReading {
                        interfaces: node.wire(),
                        sip_bytes: node.counters().sip_bytes,
                    }),
                });
            }
        };
        tokio::select! {
            () = node.run() => {}
            () = answer => {}
        }
        Ok(EXIT_OK)
    })
}
