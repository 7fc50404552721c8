//! What cannot be opened, and how that is told.

use super::*;

#[test]
fn a_port_in_use_is_an_error() {
    for_every_stack(async |hop| {
        let again = hop
            .transport
            .listen(hop.listening.local, hop.server.clone())
            .await;
        let error = again.err().expect("the port is in use");
        assert!(matches!(error, TransportError::Bind { .. }), "{error}");
        assert!(error.to_string().contains("in use"), "{error}");
        hop.assert_serves(0).await;
    });
}

#[test]
fn nobody_there_is_an_error_where_it_can_be_known() {
    for_every_stack(async |mut hop| {
        let address = hop.listening.local;
        drop(hop.listening);
        let client = Rc::new(Recorder::default());
        let connected = hop
            .transport
            .connect(User(0), address, client.clone())
            .await;
        match hop.expected.nobody {
            Nobody::Refused => {
                let error = connected.expect_err("nobody is there");
                assert!(matches!(error, TransportError::Connect { .. }), "{error}");
            }
            Nobody::Unnoticed => {
                let flow = connected.unwrap().flow;
                flow.send(&message(1)).unwrap();
                tokio::task::yield_now().await;
                flow.send(&message(1)).unwrap();
            }
        }
        hop.listening = hop
            .transport
            .listen(LOOPBACK, hop.server.clone())
            .await
            .unwrap();
        hop.assert_serves(1).await;
    });
}

/// A peer that accepts packets and says nothing.
#[test]
fn a_silent_server_is_given_up_within_the_limit() {
    for expected in EXPECTATIONS.iter().filter(|row| row.handshake) {
        on_worker(async {
            let stack = find(expected.stack).unwrap();
            let limits = Limits {
                handshake: Duration::from_millis(100),
                ..Limits::default()
            };
            let impatient = Settings {
                limits,
                ..settings().clone()
            };
            let tcp = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
            let udp = UdpSocket::bind(LOOPBACK).await.unwrap();
            let target = if stack.is_stream() && stack.tunnel.is_none() {
                tcp.local_addr()
            } else {
                udp.local_addr()
            };
            let transport = stack.open(&impatient).unwrap();
            let client = Rc::new(Recorder::default());
            let connected = transport.connect(User(0), target.unwrap(), client).await;
            let error = connected.expect_err("nobody answers");
            assert!(matches!(error, TransportError::TimedOut { .. }), "{error}");
        });
    }
}

/// A client whose credentials the server, or who finds that the server's, are wrong.
#[test]
fn wrong_credentials_are_refused() {
    struct Case {
        what: &'static str,
        client: &'static str,
        server: &'static str,
        client_settings: fn(&mut Settings),
        user: u32,
        expected: &'static str,
    }
    fn tls(settings: &mut Settings) -> &mut TlsSettings {
        settings.tls.as_mut().unwrap()
    }
    fn same(_: &mut Settings) {}
    fn wrong_ca(settings: &mut Settings) {
        tls(settings).ca_pem = TestAuthority::generate().unwrap().ca_pem();
    }
    fn wrong_name(settings: &mut Settings) {
        tls(settings).server_name = "another.test".to_owned();
    }
    fn strange_client(settings: &mut Settings) {
        let stranger = TestAuthority::generate().unwrap();
        tls(settings).client = Some(stranger.client("stranger.test").unwrap());
    }
    fn wrong_seed(settings: &mut Settings) {
        settings.wireguard = Some(WireguardKeys::generate(USERS));
        settings.limits.handshake = Duration::from_millis(100);
    }
    fn impatient(settings: &mut Settings) {
        settings.limits.handshake = Duration::from_millis(100);
    }
    let case = |what, client, server, client_settings, user, expected| Case {
        what,
        client,
        server,
        client_settings,
        user,
        expected,
    };
    #[rustfmt::skip]
    let cases = [
        case("wrong CA", "tls", "tls", wrong_ca as fn(&mut Settings), 0, "not signed by a trusted authority"),
        case("wrong CA", "mtls", "mtls", wrong_ca, 0, "not signed by a trusted authority"),
        case("wrong name", "tls", "tls", wrong_name, 0, "for another name"),
        case("wrong name", "mtls", "mtls", wrong_name, 0, "for another name"),
        case("no client certificate", "tls", "mtls", same, 0, "the server requires a client certificate; use mtls (received fatal alert: CertificateRequired)"),
        case("strange client certificate", "mtls", "mtls", strange_client, 0, "the peer does not trust the authority that signed our certificate (received fatal alert: UnknownCA)"),
        case("wrong server key", "udp@wireguard", "udp@wireguard", wrong_seed, 0, "WireGuard handshake"),
        case("unknown user key", "udp@wireguard", "udp@wireguard", impatient, USERS, "WireGuard handshake"),
    ];
    for case in cases {
        on_worker(async {
            let expected = EXPECTATIONS.iter().find(|row| row.stack == case.server);
            let hop = Hop::open(expected.unwrap()).await;
            let mut client_settings = settings().clone();
            (case.client_settings)(&mut client_settings);
            let transport = find(case.client).unwrap().open(&client_settings).unwrap();
            let client = Rc::new(Recorder::default());
            let target = hop.listening.local;
            let connected = transport
                .connect(User(case.user), target, client.clone())
                .await;
            // Over TLS 1.3 a client learns that its certificate is refused after it has connected.
            let reason = match connected {
                Err(error) => error.to_string(),
                Ok(_) => match client.closed(case.user.into()).await {
                    CloseReason::Broken(reason) => reason,
                    other => panic!("{}: expected a broken flow, found {other:?}", case.what),
                },
            };
            assert!(
                reason.contains(case.expected),
                "{} over {}: {reason}",
                case.what,
                case.client
            );
            if hop.stack.is_stream() {
                hop.server.refused().await;
            }
            assert_eq!(
                hop.server.count(|event| matches!(event, Event::Opened(_))),
                0
            );
            hop.assert_serves(1).await;
        });
    }
}

#[test]
fn missing_credentials_are_named() {
    for stack in stacks().iter().filter(|stack| stack.protected) {
        let error = stack
            .open(&Settings::default())
            .err()
            .expect("nothing to open it with");
        assert!(matches!(error, TransportError::Credentials(_)), "{error}");
    }
    on_worker(async {
        let mut without = settings().clone();
        let tls = without.tls.as_mut().unwrap();
        (tls.server, tls.client) = (None, None);
        let transport = find("mtls").unwrap().open(&without).unwrap();
        let handler = Rc::new(Recorder::default());
        let listening = transport.listen(LOOPBACK, handler.clone()).await;
        let error = listening.err().expect("no certificate").to_string();
        assert!(error.contains("a server needs a certificate"), "{error}");
        let hop = Hop::open(&EXPECTATIONS[3]).await;
        let connected = transport
            .connect(User(0), hop.listening.local, handler)
            .await;
        let error = connected.expect_err("no certificate").to_string();
        assert!(error.contains("client needs a certificate"), "{error}");
    });
}
