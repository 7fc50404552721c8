//! What an accepted connection costs on the heap of a server, task and registration included.
//!
//! The clients are sockets of the standard library, which hold nothing on the heap, so that all that
//! is allocated is the server's.

mod live_heap;

use std::cell::Cell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use hopbench::transport::{Flow, Handler, Settings, find};
use live_heap::live_bytes;

#[derive(Default)]
struct Counter {
    opened: Cell<usize>,
    messages: Cell<usize>,
}

impl Handler for Counter {
    fn opened(&self, _flow: &Flow) {
        self.opened.set(self.opened.get() + 1);
    }

    fn message(&self, flow: &Flow, message: &[u8], _now: Instant) {
        self.messages.set(self.messages.get() + 1);
        flow.send(message).expect("the peer's buffers are empty");
    }
}

#[test]
fn an_idle_tcp_connection_holds_no_buffer() {
    const CONNECTIONS: usize = 256;
    /// Task, registration with the reactor and bookkeeping; 1,040 bytes when this was written.
    const LIMIT_BYTES: usize = 1_280;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let transport = find("tcp").expect("a stack").open(&Settings::default());
        let transport = transport.expect("tcp needs no credentials");
        let counter = Rc::new(Counter::default());
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = transport.listen(any_port, counter.clone()).await;
        let target = listening.as_ref().expect("a free port").local;

        // Each connection carries a message first, so that its buffers had their chance to stay.
        let mut clients: Vec<TcpStream> = Vec::with_capacity(2 * CONNECTIONS);
        let mut connect = async |count: usize| {
            for _ in 0..count {
                let mut client = TcpStream::connect(target).expect("the server listens");
                let message = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n";
                std::io::Write::write_all(&mut client, message).expect("an open connection");
                clients.push(client);
                while counter.messages.get() < clients.len() {
                    tokio::task::yield_now().await;
                }
            }
            live_bytes()
        };
        let before = connect(CONNECTIONS).await;
        let after = connect(CONNECTIONS).await;
        assert_eq!(counter.opened.get(), 2 * CONNECTIONS);
        let each_bytes = (after - before) / CONNECTIONS;
        assert!(
            each_bytes <= LIMIT_BYTES,
            "{each_bytes} bytes for each connection"
        );
    });
}
