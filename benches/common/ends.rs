//! A node and a generator in one process, each on a thread of its own, and what each holds on the heap.

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hopbench::load::{Generator, GeneratorConfig, Stage};
use hopbench::measure::heap;
use hopbench::node::{Node, NodeConfig};
use hopbench::sip::Accounts;
use hopbench::transport::{Settings, Stack};
use tokio::task::LocalSet;

/// Hash tables of this many entries are exactly full, and so are they at twice as many: what a
/// connection takes of a table is the least that it can be.
pub(crate) const CONNECTIONS: u32 = 112;

/// Bytes on the heap, of all connections or of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeapBytes {
    pub(crate) client: i64,
    pub(crate) server: i64,
}

/// What each of [`CONNECTIONS`] more connections at `stage` holds, rounded down.
pub(crate) fn heap_bytes_per_connection(
    stack: &Stack,
    settings: &Settings,
    stage: Stage,
) -> HeapBytes {
    let ends = Ends::start(stack, settings);
    let fewer = ends.live_with(CONNECTIONS, stage);
    let more = ends.live_with(2 * CONNECTIONS, stage);
    HeapBytes {
        client: (more.client - fewer.client) / i64::from(CONNECTIONS),
        server: (more.server - fewer.server) / i64::from(CONNECTIONS),
    }
}

/// What each end of a pair holds: what is set free when it is dropped.
pub(crate) fn bytes_of_both<C, S>(connect: impl Fn() -> (C, S)) -> HeapBytes {
    let (client, server) = connect();
    let with_both = live_bytes();
    drop(client);
    let without_client = live_bytes();
    drop(server);
    HeapBytes {
        client: with_both - without_client,
        server: without_client - live_bytes(),
    }
}

fn live_bytes() -> i64 {
    heap::process().expect("the allocator counts").live_bytes
}

/// Both ends. The generator goes first.
pub(crate) struct Ends {
    generator: Generator,
    node: NodeThread,
    is_stream: bool,
}

impl Ends {
    /// `settings` hold the tunnel keys of all users.
    pub(crate) fn start(stack: &Stack, settings: &Settings) -> Self {
        let accounts = Accounts::new("hopbench.test", "hopbench", 2 * CONNECTIONS);
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let config = NodeConfig::answering(stack.name, any, settings.clone(), accounts.clone());
        let (node, target) = NodeThread::start(config);
        let config = GeneratorConfig::new(stack.name, target, settings.clone(), accounts);
        let generator = Generator::start(&config);
        Self {
            generator: generator.expect("generated credentials suffice"),
            node,
            is_stream: stack.is_stream(),
        }
    }

    /// What lives with so many users at `stage`, once nothing changes any more: the last message of a
    /// handshake may still be under way when the client is through with it.
    pub(crate) fn live_with(&self, users: u32, stage: Stage) -> HeapBytes {
        let brought = self.generator.populate(users, stage);
        brought.expect("the node is there and takes everybody");
        let wanted = self.is_stream.then_some(u64::from(users));
        let mut earlier = None;
        loop {
            let node = self.node.read();
            let whole = heap::process().expect("the allocator counts");
            let live = HeapBytes {
                client: whole.live_bytes - node.live_bytes,
                server: node.live_bytes,
            };
            let is_complete = wanted.is_none_or(|wanted| wanted == node.flows);
            if is_complete && earlier == Some(live) {
                return live;
            }
            earlier = Some(live);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A node on a thread of its own, whose heap is that of the thread.
struct NodeThread {
    questions: Option<tokio::sync::mpsc::UnboundedSender<()>>,
    answers: mpsc::Receiver<NodeReading>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct NodeReading {
    live_bytes: i64,
    flows: u64,
}

impl NodeThread {
    fn start(config: NodeConfig) -> (Self, std::net::SocketAddr) {
        let (questions, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let (answer, answers) = mpsc::channel();
        let (listening, addresses) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                let node = Node::listen(&config).await.expect("a free port");
                listening.send(node.local()).expect("somebody waits");
                loop {
                    tokio::select! {
                        () = node.run() => {}
                        question = asked.recv() => match question {
                            Some(()) => answer.send(read(&node)).expect("somebody waits"),
                            None => return,
                        },
                    }
                }
            });
        });
        let node = Self {
            questions: Some(questions),
            answers,
            thread: Some(thread),
        };
        (node, addresses.recv().expect("the node listens"))
    }

    fn read(&self) -> NodeReading {
        let questions = self.questions.as_ref().expect("it is closed at the end");
        questions.send(()).expect("the node is there");
        self.answers.recv().expect("the node is there")
    }
}

fn read(node: &Node) -> NodeReading {
    let counters = node.counters();
    NodeReading {
        live_bytes: heap::thread().expect("the allocator counts").live_bytes,
        flows: counters.flows_opened - counters.flows_closed,
    }
}

impl Drop for NodeThread {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
