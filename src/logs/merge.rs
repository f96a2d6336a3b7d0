//! Brings the streams of a run together in one file, line by line.
//!
//! Invariants:
//! - a line of one stream is not torn by another one, unless that has waited with [`HOLD`] bytes for its end;
//! - a line longer than the bound is split, and every piece after the first is led by [`LINE_CONTINUES`];
//! - at most [`HOLD`] bytes of a stream are held back; a single stream is not held back at all;
//! - all bytes of a stream come out, in order.

use crate::words::LINE_CONTINUES;
use memchr::{memchr_iter, memrchr};
use std::ops::Range;

/// So many bytes of a stream wait for the end of a line: its own, or the other stream's.
pub(crate) const HOLD: usize = 8 * 1024;

/// What goes to the file next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A range of the bytes just pushed.
    Here(Range<usize>),
    /// Bytes held back before, or added.
    Text(&'a [u8]),
}

/// What is given up of a stream whose output is dropped from now on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Abandoned {
    /// Line ends in it.
    pub(crate) lines: u64,
    /// Bytes held back.
    pub(crate) bytes: u64,
    /// They end within a line.
    pub(crate) partial: bool,
    /// The file ends within a line of this stream.
    pub(crate) within_line: bool,
}

#[derive(Debug)]
pub(crate) struct Merger {
    streams: Vec<Held>,
    /// The stream within whose line the file ends; it holds nothing back.
    floor: Option<usize>,
    /// How long that line is already.
    line_length: usize,
    max_line: usize,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// The other stream took the floor within a line of this one.
    broken: bool,
}

impl Merger {
    pub(crate) fn new(streams: usize, max_line: usize) -> Self {
        Merger {
            streams: std::iter::repeat_with(Held::default)
                .take(streams)
                .collect(),
            floor: None,
            line_length: 0,
            max_line,
        }
    }

    /// Takes what `stream` has said and gives to `out` what of all streams may go to the file now.
    pub(crate) fn push(&mut self, stream: usize, bytes: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let alone = self.streams.len() == 1;
        let Some(held) = self.streams.get_mut(stream).filter(|_| !bytes.is_empty()) else {
            return;
        };
        let fits = held.bytes.len() + bytes.len() <= HOLD;
        if self.floor.is_some_and(|floor| floor != stream) {
            if fits {
                held.bytes.extend_from_slice(bytes);
                return;
            }
            self.break_line(out);
        }
        let ours = self.floor == Some(stream);
        let whole = memrchr(b'\n', bytes).map_or(0, |last| last + 1);
        let now = if alone || (whole == 0 && (ours || !fits)) || bytes.len() - whole > HOLD {
            bytes.len()
        } else {
            whole
        };
        if now > 0 {
            self.emit_held(stream, None, out);
            self.emit(stream, bytes, 0..now, out);
        }
        if let Some(held) = self.streams.get_mut(stream) {
            held.bytes
                .extend_from_slice(bytes.get(now..).unwrap_or_default());
        }
        self.release(out);
    }

    /// Gives out the whole lines that waited for another stream's end of line, if that has come.
    pub(crate) fn release(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        for stream in 0..self.streams.len() {
            let whole = self
                .streams
                .get(stream)
                .and_then(|held| memrchr(b'\n', &held.bytes));
            if let (None, Some(last)) = (self.floor, whole) {
                self.emit_held(stream, Some(last + 1), out);
            }
        }
    }

    /// Gives out all that is held back, and ends the lines that have no end.
    pub(crate) fn finish(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        for stream in self.floor.into_iter().chain(0..self.streams.len()) {
            self.emit_held(stream, None, out);
            if self.floor.take().is_some() {
                out(Piece::Text(b"\n"));
                self.line_length = 0;
            }
        }
    }

    /// Gives up what is held back of `stream`: the rest of it is dropped by the caller.
    pub(crate) fn abandon(&mut self, stream: usize) -> Abandoned {
        let within_line = self.floor == Some(stream);
        if within_line {
            self.floor = None;
            self.line_length = 0;
        }
        let held = self
            .streams
            .get_mut(stream)
            .map(std::mem::take)
            .unwrap_or_default();
        Abandoned {
            lines: count_lines(&held.bytes),
            bytes: held.bytes.len() as u64,
            partial: held.bytes.last().is_some_and(|last| *last != b'\n'),
            within_line,
        }
    }

    fn break_line(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        if let Some(held) = self.floor.take().and_then(|f| self.streams.get_mut(f)) {
            held.broken = true;
            self.line_length = 0;
            out(Piece::Text(b"\n"));
        }
    }

    fn emit_held(&mut self, stream: usize, to: Option<usize>, out: &mut dyn FnMut(Piece<'_>)) {
        let Some(held) = self.streams.get_mut(stream) else {
            return;
        };
        let mut bytes = std::mem::take(&mut held.bytes);
        let to = to.unwrap_or(bytes.len());
        self.emit(stream, &bytes, 0..to, &mut |piece| match piece {
            Piece::Here(range) => out(Piece::Text(bytes.get(range).unwrap_or_default())),
            Piece::Text(text) => out(Piece::Text(text)),
        });
        bytes.drain(..to);
        if let Some(held) = self.streams.get_mut(stream).filter(|_| !bytes.is_empty()) {
            held.bytes = bytes;
        }
    }

    /// Gives out `range` of `bytes`, split where a line is longer than the bound. The floor is free or the stream's.
    fn emit(
        &mut self,
        stream: usize,
        bytes: &[u8],
        mut range: Range<usize>,
        out: &mut dyn FnMut(Piece<'_>),
    ) {
        if range.is_empty() {
            return;
        }
        if let Some(held) = self.streams.get_mut(stream).filter(|held| held.broken) {
            held.broken = false;
            continue_line(out);
        }
        loop {
            let text = bytes.get(range.clone()).unwrap_or_default();
            let room = self.max_line - self.line_length;
            if text.len() <= room {
                break;
            }
            // A line end directly after `room` bytes still belongs to them.
            let within = text.get(..=room).and_then(|fits| memrchr(b'\n', fits));
            let piece = within.map_or(room, |last| last + 1);
            out(Piece::Here(range.start..range.start + piece));
            range.start += piece;
            self.line_length = 0;
            if within.is_none() {
                out(Piece::Text(b"\n"));
                continue_line(out);
            }
        }
        let text = bytes.get(range.clone()).unwrap_or_default();
        self.line_length = match memrchr(b'\n', text) {
            Some(last) => text.len() - last - 1,
            None => self.line_length + text.len(),
        };
        self.floor = (self.line_length > 0).then_some(stream);
        if !range.is_empty() {
            out(Piece::Here(range));
        }
    }
}

fn continue_line(out: &mut dyn FnMut(Piece<'_>)) {
    out(Piece::Text(LINE_CONTINUES.as_bytes()));
    out(Piece::Text(b"\n"));
}

/// How many lines end in `bytes`.
pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taker<'a>(text: &'a mut Vec<u8>, bytes: &'a [u8]) -> impl FnMut(Piece<'_>) {
        |piece| match piece {
            Piece::Here(range) => text.extend_from_slice(&bytes[range]),
            Piece::Text(more) => text.extend_from_slice(more),
        }
    }

    fn push(merger: &mut Merger, text: &mut Vec<u8>, stream: usize, bytes: &[u8]) {
        merger.push(stream, bytes, &mut taker(text, bytes));
    }

    fn merged(streams: usize, max_line: usize, said: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let mut merger = Merger::new(streams, max_line);
        let mut text = Vec::new();
        for (stream, bytes) in said {
            push(&mut merger, &mut text, *stream, bytes);
        }
        merger.finish(&mut taker(&mut text, &[]));
        text
    }

    #[test]
    fn a_single_stream_passes_in_one_piece() {
        let mut merger = Merger::new(1, 100);
        let mut pieces = Vec::new();
        merger.push(0, b"a\nb\nhalf", &mut |piece| {
            assert!(matches!(piece, Piece::Here(_)));
            if let Piece::Here(range) = piece {
                pieces.push((range.start, range.end));
            }
        });
        assert_eq!(pieces, vec![(0, 8)]);
    }

    #[test]
    fn a_line_of_just_the_bound_is_whole() {
        let line = |n| vec![b'x'; n];
        let mut exact = line(10);
        exact.push(b'\n');
        assert_eq!(merged(1, 10, &[(0, exact.clone())]), exact);
        assert_eq!(
            merged(1, 10, &[(0, line(10)), (0, b"\nz".to_vec())]),
            b"xxxxxxxxxx\nz\n"
        );
        assert_eq!(
            merged(1, 10, &[(0, line(25))]),
            b"xxxxxxxxxx\n--- line continues\nxxxxxxxxxx\n--- line continues\nxxxxx\n"
        );
    }

    #[test]
    fn lines_of_two_streams_are_not_torn() {
        let said = [
            (0, b"out 1\nou".to_vec()),
            (1, b"err 1\n".to_vec()),
            (0, b"t 2\n".to_vec()),
            (1, b"err".to_vec()),
        ];
        assert_eq!(merged(2, 100, &said), b"out 1\nerr 1\nout 2\nerr\n");
    }

    #[test]
    fn a_stream_within_a_very_long_line_gives_way_at_last() {
        let long = vec![b'x'; HOLD + 1];
        let mut merger = Merger::new(2, 1 << 20);
        let mut text = Vec::new();
        push(&mut merger, &mut text, 0, &long);
        assert_eq!(text, long);
        push(&mut merger, &mut text, 1, b"waits\n");
        assert_eq!(
            text, long,
            "another's line waits for the end of the long one"
        );
        let many = b"err\n".repeat(HOLD / 4);
        push(&mut merger, &mut text, 1, &many);
        push(&mut merger, &mut text, 0, b"yyy\n");
        let expected = [
            &long,
            b"\nwaits\n".as_slice(),
            &many,
            b"--- line continues\nyyy\n",
        ]
        .concat();
        assert!(text == expected);
    }

    #[test]
    fn abandoning_tells_what_is_lost() {
        let mut merger = Merger::new(2, 100);
        let mut text = Vec::new();
        push(&mut merger, &mut text, 0, b"held");
        assert_eq!(
            merger.abandon(0),
            Abandoned {
                lines: 0,
                bytes: 4,
                partial: true,
                within_line: false
            }
        );
        let mut merger = Merger::new(1, 100);
        push(&mut merger, &mut text, 0, b"out");
        assert!(merger.abandon(0).within_line);
        assert_eq!(merger.abandon(0), Abandoned::default());
    }

    /// What a stream said, in pieces; sometimes long enough to meet every bound.
    fn said() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
        let text = prop_oneof![
            "[a-c\n]{1,20}".prop_map(String::into_bytes),
            (1usize..3 * HOLD, prop::bool::ANY).prop_map(|(n, end)| {
                let mut text = vec![b'x'; n];
                if end {
                    text.push(b'\n');
                }
                text
            }),
        ];
        prop::collection::vec((0usize..2, text), 0..30)
    }

    proptest! {
        #[test]
        fn all_of_a_stream_comes_out_in_order(said in said(), max_line in 5usize..60_000) {
            // Each stream with letters of its own, so that they can be told apart afterwards.
            let said: Vec<(usize, Vec<u8>)> = said
                .into_iter()
                .map(|(s, t)| (s, if s == 0 { t } else { t.to_ascii_uppercase() }))
                .collect();
            let text = merged(2, max_line, &said);
            prop_assert!(text.is_empty() || text.ends_with(b"\n"));
            let mut lines = [Vec::new(), Vec::new()];
            for line in text.split(|b| *b == b'\n').filter(|l| *l != LINE_CONTINUES.as_bytes()) {
                prop_assert!(line.len() <= max_line);
                let upper = line.iter().any(u8::is_ascii_uppercase);
                prop_assert!(!(upper && line.iter().any(u8::is_ascii_lowercase)), "torn");
                lines[usize::from(upper)].extend_from_slice(line);
            }
            for (stream, line) in lines.iter().enumerate() {
                let expected: Vec<u8> = said
                    .iter()
                    .filter(|(s, _)| *s == stream)
                    .flat_map(|(_, t)| t.iter().copied().filter(|b| *b != b'\n'))
                    .collect();
                prop_assert!(*line == expected);
            }
        }

        #[test]
        fn a_single_stream_without_long_lines_is_copied(texts in prop::collection::vec("[a-c\n]{0,20}", 0..20)) {
            let said: Vec<(usize, Vec<u8>)> =
                texts.iter().map(|t| (0, t.clone().into_bytes())).collect();
            let mut expected = texts.concat();
            if !expected.is_empty() && !expected.ends_with('\n') {
                expected.push('\n');
            }
            prop_assert_eq!(merged(1, 1 << 20, &said), expected.into_bytes());
        }
    }
}
