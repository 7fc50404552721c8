//! Every timer of the transaction state machines, in virtual time.
#![allow(clippy::unwrap_used)]

use super::*;

const TIMING: Timing = Timing {
    t1: Duration::from_millis(500),
    t2: Duration::from_secs(4),
    t4: Duration::from_secs(5),
};

/// Milliseconds since the start.
type At = u64;

/// Drives `on_timeout` from deadline to deadline; what fired when.
fn fire(
    start: Instant,
    until: At,
    mut deadline_and_fire: impl FnMut(Option<Instant>) -> (Option<Instant>, Fired),
) -> Vec<(At, Fired)> {
    let mut seen = Vec::new();
    let (mut deadline, _) = deadline_and_fire(None);
    while let Some(at) = deadline.filter(|&at| at <= start + Duration::from_millis(until)) {
        let (next, fired) = deadline_and_fire(Some(at));
        seen.push(((at - start).as_millis() as At, fired));
        deadline = next;
    }
    seen
}

fn client_fires(client: &mut ClientTransaction, start: Instant, until: At) -> Vec<(At, Fired)> {
    fire(start, until, |now| {
        let fired = now.map_or(Fired::Nothing, |now| client.on_timeout(&TIMING, now));
        (client.deadline(), fired)
    })
}

fn server_fires(server: &mut ServerTransaction, start: Instant, until: At) -> Vec<(At, Fired)> {
    fire(start, until, |now| {
        let fired = now.map_or(Fired::Nothing, |now| server.on_timeout(&TIMING, now));
        (server.deadline(), fired)
    })
}

fn with_end(retransmissions: &[At], end: (At, Fired)) -> Vec<(At, Fired)> {
    let mut all: Vec<_> = retransmissions
        .iter()
        .map(|&at| (at, Fired::Retransmit))
        .collect();
    all.push(end);
    all
}

const A: &[At] = &[500, 1_500, 3_500, 7_500, 15_500, 31_500];
const E: &[At] = &[
    500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
];

#[test]
fn without_response_requests_are_retransmitted_until_b_or_f() {
    for (kind, reliability, retransmissions) in [
        (Kind::Invite, Reliability::Datagram, A),
        (Kind::NonInvite, Reliability::Datagram, E),
        (Kind::Invite, Reliability::Stream, &[]),
        (Kind::NonInvite, Reliability::Stream, &[]),
    ] {
        let start = Instant::now();
        let mut client = ClientTransaction::new(kind, reliability, &TIMING, start);
        let expected = with_end(retransmissions, (32_000, Fired::TimedOut));
        assert_eq!(
            client_fires(&mut client, start, 100_000),
            expected,
            "{kind:?} {reliability:?}"
        );
        assert!(client.is_terminated() && client.deadline().is_none());
    }
}

/// One response at `at`; expected reaction; what fires after it, the last being the end.
#[test]
fn responses_end_retransmission_and_start_the_last_timer() {
    use Fired::{Retransmit, Terminated, TimedOut};
    use Kind::{Invite, NonInvite};
    use OnResponse::{AcknowledgeAndDeliver, Deliver};
    use Reliability::{Datagram, Stream};
    type Row = (Kind, Reliability, u16, OnResponse, Vec<(At, Fired)>);
    let table: Vec<Row> = vec![
        // M
        (Invite, Datagram, 200, Deliver, vec![(32_600, Terminated)]),
        (Invite, Stream, 200, Deliver, vec![(32_600, Terminated)]),
        // D
        (
            Invite,
            Datagram,
            486,
            AcknowledgeAndDeliver,
            vec![(32_600, Terminated)],
        ),
        (Invite, Stream, 486, AcknowledgeAndDeliver, vec![]),
        // K
        (NonInvite, Datagram, 200, Deliver, vec![(5_600, Terminated)]),
        (NonInvite, Stream, 200, Deliver, vec![]),
        // Provisional: A and B stop, E goes on at T2 after its next firing, F stays.
        (Invite, Datagram, 180, Deliver, vec![]),
        (Invite, Stream, 180, Deliver, vec![]),
        (
            NonInvite,
            Datagram,
            100,
            Deliver,
            [1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500]
                .map(|at| (at, Retransmit))
                .into_iter()
                .chain([(32_000, TimedOut)])
                .collect(),
        ),
        (NonInvite, Stream, 100, Deliver, vec![(32_000, TimedOut)]),
    ];
    for (kind, reliability, status, reaction, expected) in table {
        let start = Instant::now();
        let mut client = ClientTransaction::new(kind, reliability, &TIMING, start);
        client_fires(&mut client, start, 600);
        let now = start + Duration::from_millis(600);
        let label = format!("{kind:?} {reliability:?} {status}");
        assert_eq!(
            client.on_response(status, reliability, &TIMING, now),
            reaction,
            "{label}"
        );
        assert_eq!(
            client_fires(&mut client, start, 100_000),
            expected,
            "{label}"
        );
    }
}

#[test]
fn repeated_responses_are_acknowledged_delivered_or_absorbed() {
    use OnResponse::{Absorb, Acknowledge, Deliver};
    for (kind, first, again, reaction) in [
        (Kind::Invite, 486, 486, Acknowledge),
        (Kind::Invite, 486, 180, Absorb),
        (Kind::Invite, 486, 200, Absorb),
        (Kind::Invite, 200, 200, Deliver),
        (Kind::Invite, 200, 486, Absorb),
        (Kind::Invite, 180, 180, Deliver),
        (Kind::NonInvite, 200, 200, Absorb),
    ] {
        let now = Instant::now();
        let datagram = Reliability::Datagram;
        let mut client = ClientTransaction::new(kind, datagram, &TIMING, now);
        client.on_response(first, datagram, &TIMING, now);
        let second = client.on_response(again, datagram, &TIMING, now);
        assert_eq!(second, reaction, "{kind:?} {first} {again}");
    }
}

const G: &[At] = &[
    500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
];

#[test]
fn servers_repeat_finals_of_invites_until_h_and_linger_for_j_and_l() {
    use Kind::{Invite, NonInvite};
    use OnRequest::{Absorb, Retransmit};
    use Reliability::{Datagram, Stream};
    for (kind, reliability, status, again, expected) in [
        (
            Invite,
            Datagram,
            486,
            Retransmit,
            with_end(G, (32_000, Fired::TimedOut)),
        ),
        (
            Invite,
            Stream,
            486,
            Retransmit,
            vec![(32_000, Fired::TimedOut)],
        ),
        (
            Invite,
            Datagram,
            200,
            Absorb,
            vec![(32_000, Fired::Terminated)],
        ),
        (
            Invite,
            Stream,
            200,
            Absorb,
            vec![(32_000, Fired::Terminated)],
        ),
        (Invite, Datagram, 180, Retransmit, vec![]),
        (
            NonInvite,
            Datagram,
            200,
            Retransmit,
            vec![(32_000, Fired::Terminated)],
        ),
        (NonInvite, Stream, 200, Absorb, vec![]),
    ] {
        let start = Instant::now();
        let mut server = ServerTransaction::new(kind, reliability, start);
        assert_eq!(server.on_request(), Retransmit);
        server.on_sent(status, &TIMING, start);
        let label = format!("{kind:?} {reliability:?} {status}");
        assert_eq!(server.on_request(), again, "{label}");
        assert_eq!(
            server_fires(&mut server, start, 100_000),
            expected,
            "{label}"
        );
    }
}

#[test]
fn ack_ends_the_repetition_and_i_absorbs_further_ones() {
    for (reliability, expected) in [
        (Reliability::Datagram, vec![(5_600, Fired::Terminated)]),
        (Reliability::Stream, vec![]),
    ] {
        let start = Instant::now();
        let mut server = ServerTransaction::new(Kind::Invite, reliability, start);
        server.on_sent(486, &TIMING, start);
        server_fires(&mut server, start, 600);
        let now = start + Duration::from_millis(600);
        assert_eq!(server.on_ack(&TIMING, now), OnRequest::Acknowledged);
        assert_eq!(server.on_ack(&TIMING, now), OnRequest::Absorb);
        assert_eq!(
            server_fires(&mut server, start, 100_000),
            expected,
            "{reliability:?}"
        );
        assert!(server.is_terminated());
    }
}
