//! What leaves in one piece, at either end, for every version of TLS and way of resuming.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::*;
use super::*;

/// One end of a pipe that remembers how much was written to it at once.
struct Noted {
    pipe: DuplexStream,
    writes: Rc<RefCell<Vec<usize>>>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, bytes))?;
        self.writes.borrow_mut().push(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

const REQUEST: &[u8] = &[b'q'; 500];
const RESPONSE: &[u8] = &[b'r'; 400];

/// A handshake through a pipe of `pipe_bytes`, a request and its response: what each end wrote at once.
async fn exchange(settings: &TlsSettings, mutual: bool, pipe_bytes: usize) -> [Vec<usize>; 2] {
    let authentication = match mutual {
        true => Authentication::Mutual,
        false => Authentication::Server,
    };
    let tls = Tls::new(settings, authentication, Duration::from_secs(10)).unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (near, far) = duplex(pipe_bytes);
    let noted = |pipe| Noted {
        pipe,
        writes: Rc::default(),
    };
    let (near, far) = (noted(near), noted(far));
    let writes = [Rc::clone(&near.writes), Rc::clone(&far.writes)];
    let client = async {
        let (mut stream, _handshake) = tls.connect(near, nowhere, User(0)).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut [0; RESPONSE.len()]).await.unwrap();
        stream
    };
    let server = async {
        let mut stream = tls.accept(far, nowhere).await.unwrap();
        stream.read_exact(&mut [0; REQUEST.len()]).await.unwrap();
        stream.write_all(RESPONSE).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let _both = tokio::join!(client, server);
    writes.map(|writes| writes.take())
}

fn settings(version: TlsVersion, resumption: Resumption) -> TlsSettings {
    let options = TlsOptions {
        version,
        resumption,
        ..TlsOptions::default()
    };
    TlsSettings::generate(&options).unwrap()
}

/// Over TLS 1.3 the client's Finished and its request are one write, as are the server's tickets and its response.
#[tokio::test]
async fn the_last_flight_leaves_with_what_follows() {
    for mutual in [false, true] {
        for resumption in [Resumption::Off, Resumption::Ticket] {
            let settings = settings(TlsVersion::V1_3, resumption);
            let [client, server] = exchange(&settings, mutual, 64 * 1024).await;
            assert_eq!(client.len(), 2, "{mutual} {resumption:?}: {client:?}");
            assert_eq!(server.len(), 2, "{mutual} {resumption:?}: {server:?}");
            assert!(client[1] > REQUEST.len() + 50, "{client:?}");
        }
    }
}

/// Over TLS 1.2 the client waits for the server's last flight: it must not wait for a response.
#[tokio::test]
async fn a_flight_that_the_peer_waits_for_is_not_kept() {
    let settings = settings(TlsVersion::V1_2, Resumption::Off);
    let tls = Tls::new(&settings, Authentication::Server, Duration::from_secs(10)).unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut stream = tls.accept(far, nowhere).await.unwrap();
        // As a driver does before it waits.
        stream.flush().await.unwrap();
        stream
    };
    let (client, _server) = tokio::join!(tls.connect(near, nowhere, User(0)), server);
    assert!(client.is_ok());
}

/// A pipe that is full again and again loses nothing.
#[tokio::test]
async fn what_does_not_fit_at_once_follows() {
    let settings = settings(TlsVersion::V1_3, Resumption::Ticket);
    let [client, server] = exchange(&settings, true, 64 * 1024).await;
    for pipe_bytes in [1, 100] {
        let [slow_client, slow_server] = exchange(&settings, true, pipe_bytes).await;
        for (slow, at_once) in [(slow_client, &client), (slow_server, &server)] {
            assert!(slow.len() > at_once.len());
            // Signatures differ in length by some bytes.
            let bytes = |writes: &[usize]| writes.iter().sum::<usize>();
            assert!(bytes(&slow).abs_diff(bytes(at_once)) < 20);
        }
    }
}

/// Whoever refuses a peer says why, although its handshake has ended in nothing.
#[tokio::test]
async fn a_refusal_is_said() {
    let settings = settings(TlsVersion::V1_3, Resumption::Off);
    let other = TlsSettings::generate(&TlsOptions::default()).unwrap();
    let limit = Duration::from_secs(10);
    let server = Tls::new(&settings, Authentication::Server, limit).unwrap();
    let distrustful = Tls::new(&other, Authentication::Server, limit).unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (near, far) = duplex(64 * 1024);
    let refused = async {
        // Dropped at once: what it has to say has left.
        distrustful.connect(near, nowhere, User(0)).await.map(drop)
    };
    let (client, server) = tokio::join!(refused, server.accept(far, nowhere));
    assert!(client.is_err());
    let reason = server.err().unwrap().to_string();
    assert!(reason.contains("alert"), "{reason}");
}
