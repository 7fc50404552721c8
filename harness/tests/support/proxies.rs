//! Proxies in a row, each in a thread of the test with a runtime of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;

use hopbench::node::{InterfaceConfig, Node, NodeConfig, NodeCounters, RouteConfig};
use hopbench::sip::{Accounts, Service};
use hopbench::transport::Settings;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A proxy at work.
pub struct Proxy {
    /// Of the side that requests come by, and of the other.
    pub addresses: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<NodeCounters>,
}

/// Starts a proxy between each two of the `stacks`, which name the hops from the caller to `callee`; the
/// first proxy comes first. It is the registrar of the generator's users; what is not for them goes on.
pub fn start_proxies(stacks: &[&str], callee: SocketAddr) -> Vec<Proxy> {
    let settings = Settings::generate(1).unwrap();
    let mut next = callee;
    let mut proxies: Vec<Proxy> = Vec::new();
    for (place, hops) in stacks.windows(2).enumerate().rev() {
        let accounts = match place {
            0 => Accounts::new("hopbench.test", "hopbench", 1_000),
            _ => Accounts::new("core.test", "", 0),
        };
        let side = |stack: &&str| InterfaceConfig {
            stack: (*stack).into(),
            listen: Some(ANY_PORT.into()),
        };
        let config = NodeConfig {
            interfaces: hops.iter().map(side).collect(),
            service: Service::Proxy,
            routes: vec![RouteConfig {
                domain: None,
                interface: 1,
                target: next,
                user: 0,
            }],
            ..NodeConfig::answering(hops[0], ANY_PORT.into(), settings.clone(), accounts)
        };
        let proxy = Proxy::start(config);
        next = proxy.addresses[0];
        proxies.insert(0, proxy);
    }
    proxies
}

/// Starts a registrar and proxy for the users of `accounts`, whose calls to each other it forwards.
pub fn start_edge(stack: &str, accounts: Accounts) -> Proxy {
    let settings = Settings::generate(1).unwrap();
    Proxy::start(NodeConfig {
        service: Service::Proxy,
        ..NodeConfig::answering(stack, ANY_PORT.into(), settings, accounts)
    })
}

impl Proxy {
    fn start(config: NodeConfig) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (listening, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                let node = Node::listen(&config).await.unwrap();
                let addresses = node.addresses().into_iter().flatten().collect();
                listening.send(addresses).unwrap();
                tokio::select! {
                    () = node.run() => {}
                    // The test has ended, with a result or without.
                    _ = stopped => {}
                }
                node.counters()
            })
        });
        Self {
            addresses: address.recv().expect("the proxy listens"),
            stop,
            thread,
        }
    }

    /// Ends it; what it has seen.
    pub fn stop(self) -> NodeCounters {
        // A thread that has panicked tells why when it is joined.
        let _ = self.stop.send(());
        self.thread.join().unwrap()
    }
}
