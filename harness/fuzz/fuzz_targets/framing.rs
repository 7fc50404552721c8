//! Framing: a stream says the same however the network cuts it.

#![no_main]

use hopbench::sip::framing::{self, Frame, FramingError, PING, PONG};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&seed, stream)) = input.split_first() else {
        return;
    };
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let whole_end = consume(stream, &mut whole);
    let mut buffer = Vec::new();
    let mut cut_end = Ok(0);
    let mut random = u32::from(seed) | 0x100;
    let mut rest = stream;
    while !rest.is_empty() && cut_end.is_ok() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (1 + (random >> 16) as usize % (usize::from(seed) + 1)).min(rest.len());
        buffer.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
        cut_end = consume(&buffer, &mut cut).inspect(|&consumed| drop(buffer.drain(..consumed)));
    }
    assert_eq!(whole, cut);
    assert_eq!(whole_end.err(), cut_end.err());
});

/// Takes all frames from the start of a buffer. Returns how many bytes they have.
fn consume(buffer: &[u8], frames: &mut Vec<Vec<u8>>) -> Result<usize, FramingError> {
    let mut rest = buffer;
    loop {
        let frame = framing::next(rest).inspect_err(|error| {
            if let Some(head) = framing::unframed_head(rest, error) {
                assert!(head.ends_with(b"\r\n\r\n"));
            }
        })?;
        let length = match frame {
            Frame::Message { length } => length,
            Frame::Ping => PING.len(),
            Frame::Pong => PONG.len(),
            Frame::Incomplete => return Ok(buffer.len() - rest.len()),
        };
        frames.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
}
