//! What protecting the messages of one call costs the caller at least: rustls alone seals what it sends and
//! opens what it gets, both ends in memory, each message a record.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hopbench::bare::TlsEnds;
use hopbench::measure::cpu;
use hopbench::sip::rehearsal::{Delivered, Rehearsal, Way};
use hopbench::transport::{Settings, Stack};
use rustls::{ClientConnection, ServerConnection};

/// Calls of each round: few enough for rustls' buffers, enough that reading the clock is nothing beside them.
const CALLS: u32 = 12;
/// Rounds, the fastest of which counts: the price is a floor, and whatever else the processor did meanwhile
/// is none of it.
const ROUNDS: u32 = 200;

/// Processor time of the caller's side, in ns; `None` of a stack without TLS.
pub(super) fn cpu_ns_per_call(settings: &Settings, stack: &Stack) -> Option<f64> {
    let settings = settings.tls.as_ref().filter(|_| stack.speaks_tls())?;
    let ends = TlsEnds::new(settings, stack.mutual);
    let (mut client, mut server) = ends.connect();
    let call = messages(stack.via_transport);
    let rounds = (0..ROUNDS).map(|_| round(&mut client, &mut server, &call));
    let fastest = rounds.min().expect("there are rounds");
    Some(fastest as f64 / f64::from(CALLS))
}

/// Those of a call between the generator's user and the node.
fn messages(transport: &'static str) -> Vec<Delivered> {
    let epoch = Instant::now();
    Rehearsal::new(transport, epoch).call(epoch + Duration::from_secs(1))
}

/// Some calls' messages, sealed and opened: time of the client's side.
fn round(client: &mut ClientConnection, server: &mut ServerConnection, call: &[Delivered]) -> u64 {
    let of = |way: Way| call.iter().filter(move |message| message.way == way);
    let mut wire = Vec::with_capacity(1 << 16);
    let before = cpu::thread_ns();
    for _ in 0..CALLS {
        for message in of(Way::ToServer) {
            seal(client.writer(), &message.bytes);
        }
        flush(client, &mut wire);
    }
    let sealing = cpu::thread_ns() - before;
    open(server, &wire);
    wire.clear();
    for _ in 0..CALLS {
        for message in of(Way::ToClient) {
            seal(server.writer(), &message.bytes);
        }
        flush(server, &mut wire);
    }
    let before = cpu::thread_ns();
    open(client, &wire);
    sealing + (cpu::thread_ns() - before)
}

fn seal(mut writer: impl Write, message: &[u8]) {
    writer.write_all(message).expect("a buffer takes it");
}

fn flush<Data>(end: &mut rustls::ConnectionCommon<Data>, wire: &mut Vec<u8>) {
    while end.wants_write() {
        end.write_tls(wire).expect("a vector takes everything");
    }
}

/// Opens all records of `wire`.
fn open<Data>(end: &mut rustls::ConnectionCommon<Data>, mut wire: &[u8]) {
    let mut opened = [0; 16_384];
    while !wire.is_empty() {
        end.read_tls(&mut wire).expect("a slice is readable");
        end.process_new_packets().expect("the records are sound");
        while let Ok(length) = end.reader().read(&mut opened)
            && length > 0
        {
            std::hint::black_box(&opened[..length]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    #[test]
    fn sealing_and_opening_takes_time_where_there_is_tls() {
        let settings = Settings::generate(0).unwrap();
        let of = |stack| cpu_ns_per_call(&settings, find(stack).unwrap());
        // Seven records are never done in less than a microsecond.
        assert!(of("tls").unwrap() > 500.0);
        assert_eq!(of("tcp"), None);
    }

    #[test]
    fn every_byte_comes_out_on_the_other_side() {
        let settings = Settings::generate(0).unwrap();
        let ends = TlsEnds::new(settings.tls.as_ref().unwrap(), false);
        let (mut client, mut server) = ends.connect();
        let call = messages("TLS");
        assert_eq!(call.len(), 7);
        let mut wire = Vec::new();
        seal(client.writer(), &call[0].bytes);
        flush(&mut client, &mut wire);
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut opened = vec![0; call[0].bytes.len()];
        server.reader().read_exact(&mut opened).unwrap();
        assert_eq!(opened, call[0].bytes);
    }
}
