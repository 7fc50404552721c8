//! A node outlives what strangers send it, on every stack, and goes on serving others.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use support::{run, start_node, stderr, stdout};

/// Bytes that are no SIP, and SIP that never ends.
fn nasty() -> Vec<Vec<u8>> {
    let mut noise = vec![0_u8; 4096];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in &mut noise {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let half = b"REGISTER sip:hopbench.test SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\nCall-ID: ";
    let mut endless = half.to_vec();
    endless.resize(70_000, b'a');
    let mut many_headers = half.to_vec();
    many_headers.extend_from_slice(b"a\r\n");
    for _ in 0..3_000 {
        many_headers.extend_from_slice(b"X: y\r\n");
    }
    many_headers.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    let huge_body = [half.as_slice(), b"a\r\nContent-Length: 4294967297\r\n\r\n"].concat();
    let negative = [half.as_slice(), b"a\r\nContent-Length: -1\r\n\r\n"].concat();
    vec![
        noise,
        half.to_vec(),
        endless,
        many_headers,
        huge_body,
        negative,
        b"\0\0\0\0".to_vec(),
        vec![4; 200],
    ]
}

fn throw(stack: &str, address: SocketAddr) {
    for bytes in nasty() {
        if ["tcp", "tls", "mtls"].contains(&stack) {
            let mut socket = TcpStream::connect(address).unwrap();
            // The node may close it at any time, and we vanish in the middle.
            let _ = socket.write_all(&bytes);
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for chunk in bytes.chunks(60_000) {
                let _ = socket.send_to(chunk, address);
            }
        }
    }
}

/// The node still serves those who speak SIP.
fn assert_serves(stack: &str, address: SocketAddr, credentials: &str, workload: &[&str]) {
    let target = address.to_string();
    let hop = ["load", "--stack", stack, "--target", &target];
    let load = [
        "--credentials",
        credentials,
        "--rate",
        "60",
        "--warm-up",
        "0",
        "--duration",
        "0.3",
    ];
    let output = run(&[&hop[..], &load[..], workload].concat());
    let said = stdout(&output) + &stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{stack}: {said}");
}

#[test]
fn garbage_half_messages_and_vanished_peers_on_every_stack() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("keys").to_str().unwrap().to_owned();
    for stack in ["udp", "tcp", "tls", "mtls", "udp@clear", "udp@wireguard"] {
        let (mut node, address) = start_node(&["--stack", stack, "--credentials", &credentials]);
        throw(stack, address);
        assert_serves(stack, address, &credentials, &["--workload", "register"]);
        throw(stack, address);
        assert_serves(
            stack,
            address,
            &credentials,
            &["--workload", "invite", "--users", "3"],
        );
        assert!(
            node.0.try_wait().unwrap().is_none(),
            "{stack}: the node ended"
        );
    }
}
