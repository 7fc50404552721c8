//! Nodes in a row over real sockets: what a user registers and calls through proxies, for every stack
//! on every hop.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};

use hopbench::load::SingleUser;
use hopbench::node::{InterfaceConfig, Node, NodeConfig, RouteConfig};
use hopbench::sip::{Accounts, Service};
use hopbench::transport::{Settings, Stack, find, stacks};
use tokio::task::LocalSet;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const USERS: u32 = 8;
/// The tunnel identity of proxies: beyond all users.
const PROXY: u32 = USERS;

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", USERS)
}

/// Starts a node and serves it until the test's runtime ends.
async fn serve(config: NodeConfig) -> (SocketAddr, std::rc::Rc<Node>) {
    let node = std::rc::Rc::new(Node::listen(&config).await.unwrap());
    let served = std::rc::Rc::clone(&node);
    tokio::task::spawn_local(async move { served.run().await });
    (node.local(), node)
}

/// A proxy that takes requests over `inward` and sends all of them to `target` over `outward`.
fn proxy(inward: &Stack, outward: &Stack, target: SocketAddr, settings: &Settings) -> NodeConfig {
    let only_opens = outward.tunnel.is_some();
    NodeConfig {
        interfaces: vec![
            InterfaceConfig {
                stack: inward.name.into(),
                listen: Some(ANY_PORT.into()),
            },
            InterfaceConfig {
                stack: outward.name.into(),
                listen: (!only_opens).then(|| ANY_PORT.into()),
            },
        ],
        service: Service::Proxy,
        routes: vec![RouteConfig {
            domain: None,
            interface: 1,
            target,
            user: PROXY,
        }],
        ..NodeConfig::answering(
            inward.name,
            ANY_PORT.into(),
            settings.clone(),
            Accounts::new("proxy.test", "", 0),
        )
    }
}

#[test]
fn users_register_and_call_through_two_proxies_over_every_stack() {
    let settings = Settings::generate(USERS + 1).unwrap();
    for edge in stacks() {
        for core in stacks() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                let end =
                    NodeConfig::answering(core.name, ANY_PORT.into(), settings.clone(), accounts());
                let (end_address, end) = serve(end).await;
                let (middle_address, middle) =
                    serve(proxy(core, core, end_address, &settings)).await;
                let (edge_address, _edge) =
                    serve(proxy(edge, core, middle_address, &settings)).await;
                let client = edge.open(&settings).unwrap();
                let row = find(edge.name).unwrap();
                let user = SingleUser::open(row, &*client, edge_address, accounts(), 3).await;
                let user = user.unwrap();
                let place = format!("{} then {}", edge.name, core.name);
                user.register().await.expect(&place);
                for _ in 0..3 {
                    user.call().await.expect(&place);
                }
                user.register().await.expect(&place);
                let (end, middle) = (end.counters(), middle.counters());
                assert_eq!(end.sip.registrations, 2, "{place}");
                assert_eq!(end.sip.calls_completed, 3, "{place}");
                // REGISTER twice and again, INVITE, ACK and BYE of each call.
                assert_eq!(middle.sip.forwarded, 3 + 3 * 3, "{place}: {middle:?}");
                assert_eq!(middle.sip.stray_responses, 0, "{place}");
                // One connection for everything.
                let opened = u64::from(core.is_stream() || core.tunnel.is_some());
                assert_eq!(middle.hops_opened, opened, "{place}");
            });
        }
    }
}

#[test]
fn a_next_hop_that_closes_without_an_answer_is_told_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let settings = Settings::generate(1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let next = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
        let target = next.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (mut taken, _) = next.accept().await.unwrap();
                let mut start = [0; 6];
                taken.read_exact(&mut start).await.unwrap();
                assert_eq!(&start, b"INVITE");
            }
        });
        let tcp = find("tcp").unwrap();
        let (address, node) = serve(proxy(tcp, tcp, target, &settings)).await;
        let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
        // Twice: the way there is opened anew.
        for call in 0..2 {
            let invite = format!(
                "INVITE sip:bob@elsewhere.test SIP/2.0\r\n\
                 Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
                 From: <sip:a@a.test>;tag=a\r\nTo: <sip:bob@elsewhere.test>\r\n\
                 Call-ID: {call}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            );
            caller.write_all(invite.as_bytes()).await.unwrap();
            let mut text = String::new();
            while !text.contains("SIP/2.0 500 ") {
                let mut bytes = [0; 2_048];
                let count = caller.read(&mut bytes).await.unwrap();
                assert!(count > 0, "{text}");
                text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                assert!(!text.contains("SIP/2.0 408 "), "{text}");
            }
        }
        assert_eq!(node.counters().hops_opened, 2);
        assert_eq!(node.counters().sip.unreachable, 2);
    });
}
