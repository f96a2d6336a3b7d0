//! One run while it is read: its pipes, and whether its output is written, waits or is dropped.
//!
//! Invariants:
//! - a pipe is left unread for at most [`PATIENCE`], and only while its feed is full; longer only while the write thread
//!   waits for a processor and not for the disk, when all of the machine is as slow;
//! - whole lines are dropped, and each is counted once; a line whose beginning is in the file already counts, too;
//! - last lines and mirrors see all output, the dropped part included.

use super::stream::{Skip, Stream};
use super::tools::Tools;
use crate::feed::{BLOCK, Feed};
use crate::merge::{Merger, Piece, count_lines};
use crate::run_core::RunCore;
use crate::{MAX_LINE, words};
use jiff::Timestamp;
use memchr::memchr;
use nix::errno::Errno;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So long output waits for room before it is dropped: below the 100 ms of spec §11, with some time to read.
const PATIENCE: Duration = Duration::from_millis(80);

/// So often one pipe is read before the others have their turn.
const READS: usize = 4;

/// So long output waits at most for a write thread that gets no processor.
const STARVED_PATIENCE: Duration = Duration::from_secs(2);

/// A run that is being closed, yet still written to by somebody, is read for so many bytes more.
const READ_OUT: usize = 4 * 1024 * 1024;

/// What is called with the last lines.
pub(crate) type Done = Box<dyn FnOnce(Vec<String>) + Send>;

/// What becomes of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It is written.
    Writing,
    /// It waits in the pipe for room.
    Paused {
        /// Since then.
        since: Instant,
        /// Until then.
        until: Instant,
    },
    /// It is dropped until there is much room.
    Dropping,
}

/// How a run is closed.
pub(crate) struct Closing {
    /// Cause and duration for the end line.
    end: Option<(String, Duration)>,
    done: Done,
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is left.
    Empty,
    /// There may be more.
    More,
    /// There is no room until then.
    Paused(Instant),
}

pub(super) struct Run {
    core: Arc<RunCore>,
    streams: Vec<Stream>,
    merger: Merger,
    flow: Flow,
    closing: Option<Closing>,
    /// So much is still read of a run that is being closed.
    left: usize,
}

impl Closing {
    pub(crate) fn new(end: Option<(String, Duration)>, done: Done) -> Self {
        Closing { end, done }
    }

    /// Calls who waits for the end. A panic there is not ours.
    pub(crate) fn call(self, lines: Vec<String>) {
        let called = catch_unwind(AssertUnwindSafe(|| (self.done)(lines)));
        if called.is_err() {
            tracing::error!("who waited for the last lines of a run panicked");
        }
    }
}

impl Run {
    pub(super) fn begin(core: Arc<RunCore>, streams: Vec<Stream>, tools: &Tools) -> Self {
        let dropping = core.feed.as_ref().is_some_and(|feed| feed.is_dropping());
        for (index, stream) in streams.iter().enumerate() {
            stream.watch(core.key << 1 | index as u64, tools);
        }
        Run {
            merger: Merger::new(streams.len(), MAX_LINE),
            core,
            streams,
            // What the run before waited for in vain is not waited for again.
            flow: if dropping {
                Flow::Dropping
            } else {
                Flow::Writing
            },
            closing: None,
            left: READ_OUT,
        }
    }

    pub(super) fn core(&self) -> &RunCore {
        &self.core
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// No stream is within a dropped line.
    pub(super) fn is_between_lines(&self) -> bool {
        self.streams.iter().all(|s| s.skip == Skip::Between)
    }

    /// The run has ended; only the first word on that counts.
    pub(super) fn close(&mut self, closing: Closing) {
        // From here on it is read by `read_out`, not when it is told of.
        self.closing.get_or_insert(closing);
    }

    /// A stream has output; returns whether that is news.
    pub(super) fn told(&mut self, index: usize, tools: &Tools) -> bool {
        let mark = self.mark(index);
        let Some(stream) = self.streams.get_mut(index) else {
            return false;
        };
        if let Flow::Paused { .. } = self.flow {
            stream.mute(true, mark, tools);
        }
        !std::mem::replace(&mut stream.ready, true)
    }

    /// The run does not wait for room any more: the kernel tells of all its streams again.
    pub(super) fn unmute(&mut self, tools: &Tools) {
        for index in 0..self.streams.len() {
            let mark = self.mark(index);
            if let Some(stream) = self.streams.get_mut(index) {
                stream.mute(false, mark, tools);
            }
        }
    }

    fn mark(&self, index: usize) -> u64 {
        self.core.key << 1 | index as u64
    }

    /// The streams that may have output.
    pub(super) fn ready(&self) -> impl Iterator<Item = usize> {
        let ready = self.streams.iter().enumerate().filter(|(_, s)| s.ready);
        ready.map(|(index, _)| index)
    }

    /// Reads one pipe, a few times; also returns how full it was, in hundredths.
    pub(super) fn serve(&mut self, index: usize, tools: &mut Tools) -> (Step, usize) {
        let mut bytes = 0;
        let mut step = Step::More;
        for _ in 0..READS {
            match self.read(index, tools) {
                Ok(read) => bytes += read,
                Err(stop) => {
                    step = stop;
                    break;
                }
            }
            if bytes % BLOCK != 0 {
                // The pipe was empty just now; what has come since is told of again.
                step = Step::Empty;
                break;
            }
        }
        let Some(stream) = self.streams.get_mut(index) else {
            return (Step::Empty, 0);
        };
        stream.ready = step != Step::Empty;
        let fill = match step {
            // How full it is by now nobody knows; no reason to wait, at any rate.
            Step::Paused(_) => 100,
            Step::Empty | Step::More => stream.fill(bytes, tools),
        };
        (step, fill)
    }

    /// Reads all pipes until they are empty, or there is no room.
    pub(super) fn read_out(&mut self, tools: &mut Tools) -> Step {
        for stream in 0..self.streams.len() {
            loop {
                match self.read(stream, tools) {
                    Ok(read) => self.left = self.left.saturating_sub(read),
                    Err(Step::Empty | Step::More) => break,
                    Err(Step::Paused(until)) => return Step::Paused(until),
                }
                if self.left == 0 {
                    return Step::Empty;
                }
            }
        }
        Step::Empty
    }

    /// Half of the feed is free.
    pub(super) fn room(&mut self) {
        match self.flow {
            Flow::Writing => {}
            Flow::Paused { .. } => self.flow = Flow::Writing,
            Flow::Dropping => self.stop_dropping(),
        }
    }

    /// There was no room for long enough. Returns until when to wait all the same, when that is because the write thread
    /// gets no processor.
    pub(super) fn stop_waiting(&mut self, starved: bool) -> Option<Instant> {
        let Flow::Paused { since, .. } = self.flow else {
            return None;
        };
        let full = self.core.feed.as_ref().is_some_and(|feed| !feed.has_room());
        if full && starved && since.elapsed() < STARVED_PATIENCE {
            let until = Instant::now() + PATIENCE / 4;
            self.flow = Flow::Paused { since, until };
            return Some(until);
        }
        self.flow = if full { Flow::Dropping } else { Flow::Writing };
        None
    }

    /// Writes the end of the run, lets go of its pipes and calls who waits for that.
    pub(super) fn finish(mut self) {
        for mirror in self.streams.iter_mut().filter_map(|s| s.mirror.as_mut()) {
            mirror.finish();
        }
        if let Some(feed) = self.core.feed.clone() {
            self.finish_feed(&feed);
        }
        self.core.leave();
        if let Some(closing) = self.closing.take() {
            closing.call(self.core.lines());
        }
    }

    fn finish_feed(&mut self, feed: &Arc<Feed>) {
        let skipped = self.streams.iter().filter(|s| s.skip != Skip::Between);
        let mut torn = skipped.count() as u64;
        if self.flow == Flow::Dropping || !feed.has_room() {
            for stream in 0..self.streams.len() {
                torn += u64::from(self.abandon(stream, feed));
            }
        }
        let end = self.closing.as_ref().and_then(|c| c.end.as_ref());
        let core = &self.core;
        let line = end.map(|(cause, lasted)| {
            words::ended(Timestamp::now(), core.id.as_str(), core.run, cause, *lasted)
        });
        feed.add(|entry| {
            self.merger.finish(&mut |piece| match piece {
                Piece::Here(_) => {}
                Piece::Text(text) => entry.text(text),
            });
            entry.count_dropped(torn, 0);
            entry.tell_dropped();
            if let Some(line) = line {
                entry.own_line(&line);
            }
        });
    }

    /// Reads once and hands on. The error is why there was nothing to read.
    fn read(&mut self, index: usize, tools: &mut Tools) -> Result<usize, Step> {
        self.admit()?;
        let Some(stream) = self.streams.get_mut(index) else {
            return Err(Step::Empty);
        };
        let read = match nix::unistd::read(&stream.read_end, &mut tools.block) {
            Ok(0) | Err(Errno::EAGAIN) => return Err(Step::Empty),
            Ok(read) => read,
            Err(Errno::EINTR) => return Ok(0),
            Err(errno) => {
                tracing::error!(plugin = %self.core.id, %errno, "cannot read the output of a plugin");
                return Err(Step::Empty);
            }
        };
        let bytes = tools.block.get(..read).unwrap_or_default();
        self.core.note(index, bytes);
        if let Some(mirror) = &mut stream.mirror {
            mirror.push(bytes);
        }
        if let Some(feed) = self.core.feed.clone() {
            if self.flow == Flow::Dropping {
                self.drop_read(index, read, &feed, tools);
            } else {
                self.write_read(index, read, &feed, tools);
            }
        }
        Ok(read)
    }

    /// Whether a read has somewhere to go: to the feed, or nowhere at all.
    fn admit(&mut self) -> Result<(), Step> {
        let Some(feed) = self.core.feed.clone() else {
            return Ok(());
        };
        match self.flow {
            Flow::Writing if feed.has_room() => Ok(()),
            Flow::Writing => {
                let since = Instant::now();
                let until = since + PATIENCE;
                self.flow = Flow::Paused { since, until };
                Err(Step::Paused(until))
            }
            // It was told of before it paused.
            Flow::Paused { until, .. } => Err(Step::Paused(until)),
            Flow::Dropping => {
                if feed.has_much_room() {
                    self.stop_dropping();
                }
                Ok(())
            }
        }
    }

    fn write_read(&mut self, index: usize, read: usize, feed: &Arc<Feed>, tools: &mut Tools) {
        let Some(from) = self.skip(index, read, feed, tools) else {
            return;
        };
        let merger = &mut self.merger;
        feed.add(|entry| {
            let block = &tools.block;
            let bytes = block.get(from..read).unwrap_or_default();
            // What was not copied yet: with nothing else in between it may go as the block itself.
            let mut last: Option<Range<usize>> = None;
            merger.push(index, bytes, &mut |piece| {
                if let Some(range) = last.take() {
                    entry.text(bytes.get(range).unwrap_or_default());
                }
                match piece {
                    Piece::Here(range) => last = Some(range),
                    Piece::Text(text) => entry.text(text),
                }
            });
            match last {
                Some(range) if from == 0 && range.start == 0 => {
                    entry.block(&mut tools.block, range.end, || tools.pool.take());
                }
                Some(range) => entry.text(bytes.get(range).unwrap_or_default()),
                None => {}
            }
        });
    }

    /// Passes over the rest of a line that is dropped; returns where the next one begins, if it does.
    fn skip(
        &mut self,
        index: usize,
        read: usize,
        feed: &Arc<Feed>,
        tools: &Tools,
    ) -> Option<usize> {
        let stream = self.streams.get_mut(index)?;
        let Skip::Within(before) = stream.skip else {
            return Some(0);
        };
        let newline = memchr(b'\n', tools.block.get(..read).unwrap_or_default());
        let length = newline.map_or(read, |at| at + 1);
        // A line beyond all bounds would be dropped for ever; its rest is taken for the next line.
        let over = newline.is_some() || before + length >= MAX_LINE;
        stream.skip = if over {
            Skip::Between
        } else {
            Skip::Within(before + length)
        };
        let between = self.is_between_lines();
        feed.add(|entry| {
            entry.count_dropped(u64::from(over), length as u64);
            if between {
                entry.tell_dropped();
            }
        });
        newline.map(|at| at + 1)
    }

    fn drop_read(&mut self, index: usize, read: usize, feed: &Arc<Feed>, tools: &Tools) {
        self.abandon(index, feed);
        let bytes = tools.block.get(..read).unwrap_or_default();
        if let Some(stream) = self.streams.get_mut(index) {
            stream.skip = match (memchr::memrchr(b'\n', bytes), stream.skip) {
                (Some(last), _) if last + 1 == read => Skip::Between,
                (Some(last), _) => Skip::Within(read - last - 1),
                (None, Skip::Within(before)) => Skip::Within(before.saturating_add(read)),
                (None, Skip::Between) => Skip::Within(read),
            };
        }
        feed.add(|entry| entry.count_dropped(count_lines(bytes), read as u64));
    }

    /// Drops what is held back of a stream; returns whether that ends within a line, which then is not counted yet.
    fn abandon(&mut self, index: usize, feed: &Arc<Feed>) -> bool {
        let lost = self.merger.abandon(index);
        feed.add(|entry| {
            if lost.within_line {
                entry.end_line();
            }
            entry.count_dropped(lost.lines, lost.bytes);
        });
        lost.partial
    }

    fn stop_dropping(&mut self) {
        self.flow = Flow::Writing;
        let Some(feed) = &self.core.feed else {
            return;
        };
        let between = self.is_between_lines();
        let merger = &mut self.merger;
        feed.add(|entry| {
            if between {
                entry.tell_dropped();
            }
            merger.release(&mut |piece| match piece {
                Piece::Here(_) => {}
                Piece::Text(text) => entry.text(text),
            });
        });
    }
}
