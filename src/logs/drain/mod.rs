//! The drain thread: reads the plugins' pipes and hands on what they say.
//!
//! Invariants:
//! - it never waits for a disk, a terminal or a caller;
//! - commands are carried out in the order in which they were given; a run begins only when the runs of the same log that
//!   are being closed are through;
//! - without output and commands it sleeps without a timer.

mod run;
mod stream;
mod tools;

use crate::feed::{Feed, Inbox, Pool, WaitsForRoom};
use crate::pace::{Fill, Pace};
use crate::run_core::RunCore;
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
pub(crate) use run::Done;
use run::{Closing, Run, Step};
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
pub(crate) use stream::Stream;
use tools::Tools;

/// The eventfd's mark; runs are numbered from 0.
const COMMANDS: u64 = u64::MAX;

/// So many pipes are looked at in one round.
const ROUND: usize = 256;

/// What the thread is told.
pub(crate) enum Command {
    /// A run begins, with its start line when a pid is given.
    Begin(Arc<RunCore>, Vec<Stream>, Option<i32>),
    /// A run has ended.
    Close(Arc<RunCore>, Closing),
    /// Half of a feed is free.
    Room(Arc<Feed>),
    /// Nothing more is read.
    End,
}

impl Command {
    /// The end of a run that gets an end line.
    pub(crate) fn close(core: Arc<RunCore>, cause: String, lasted: Duration, done: Done) -> Self {
        Command::Close(core, Closing::new(Some((cause, lasted)), done))
    }

    /// The end of a run of which nobody told how it ended.
    pub(crate) fn forget(core: Arc<RunCore>) -> Self {
        Command::Close(core, Closing::new(None, Box::new(|_| ())))
    }
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Commands {
    waiting: Mutex<Waiting>,
    wake: EventFd,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<Command>,
    ended: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("commands", &self.commands.len())
            .field("ended", &self.ended)
            .finish()
    }
}

impl Commands {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Commands {
            waiting: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Tells the thread; gives the command back when that has ended.
    pub(crate) fn post(&self, command: Command) -> Result<(), Command> {
        let mut waiting = self.lock();
        if waiting.ended {
            return Err(command);
        }
        waiting.ended = matches!(command, Command::End);
        let first = waiting.commands.is_empty();
        waiting.commands.push(command);
        drop(waiting);
        if first {
            // Fails only when the counter is full, and then the thread is awake.
            let _ = self.wake.write(1);
        }
        Ok(())
    }

    fn take(&self) -> Vec<Command> {
        // Before the commands are taken: a wake-up too many does no harm, one too few would.
        let _ = self.wake.read();
        std::mem::take(&mut self.lock().commands)
    }

    /// Waits for a command, at most so long.
    fn wait(&self, longest: Duration) {
        let mut fds = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        // Interrupted or refused: then there was just no wait.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(longest)), None);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitsForRoom for Commands {
    fn room(&self, feed: Arc<Feed>) -> bool {
        self.post(Command::Room(feed)).is_ok()
    }
}

pub(crate) struct Drain {
    commands: Arc<Commands>,
    inbox: Arc<Inbox>,
    tools: Tools,
    runs: HashMap<u64, Run>,
    /// Begins and ends that wait for another run of their log to be closed, oldest first.
    held: Vec<(Arc<RunCore>, Command)>,
    /// Streams that may have output and are not left alone, in the order in which they are read next: run and index.
    ready: VecDeque<(u64, usize)>,
    /// Runs whose feed is full, and until when they wait.
    paused: Vec<(Instant, u64)>,
    pace: Pace,
    events: Vec<EpollEvent>,
}

impl Drain {
    pub(crate) fn new(
        commands: Arc<Commands>,
        inbox: Arc<Inbox>,
        pool: Arc<Pool>,
    ) -> nix::Result<Self> {
        let tools = Tools::new(pool)?;
        let wake = EpollEvent::new(EpollFlags::EPOLLIN, COMMANDS);
        tools.epoll.add(&commands.wake, wake)?;
        Ok(Drain {
            commands,
            inbox,
            tools,
            runs: HashMap::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
            paused: Vec::new(),
            pace: Pace::default(),
            events: vec![EpollEvent::empty(); ROUND],
        })
    }

    /// Waits for something to do and does it. Returns whether there will be more.
    pub(crate) fn turn(&mut self) -> bool {
        let began = Instant::now();
        let deadline = self.next_deadline(began);
        // Interrupted: then nothing has come. Anything else would be a bug and come back at once.
        let count = self
            .tools
            .epoll
            .wait(&mut self.events, deadline)
            .unwrap_or(0);
        let silence = began.elapsed();
        for index in 0..count {
            match self.events.get(index).map(EpollEvent::data) {
                Some(COMMANDS) => {
                    for command in self.commands.take() {
                        if matches!(command, Command::End) {
                            self.end();
                            return false;
                        }
                        self.carry_out(command);
                    }
                }
                Some(mark) => self.told(mark >> 1, usize::from(mark & 1 == 1)),
                None => {}
            }
        }
        let fill = self.serve_ready();
        self.stop_waiting();
        if !fill.is_none() {
            let wait = self.pace.after_round(silence, fill);
            if !wait.is_zero() && self.ready.is_empty() {
                self.commands.wait(wait);
            }
        }
        true
    }

    fn told(&mut self, key: u64, stream: usize) {
        let run = self.runs.get_mut(&key);
        if run.is_some_and(|run| run.told(stream, &self.tools)) {
            self.ready.push_back((key, stream));
        }
    }

    /// Reads each stream that may have output, a few times; returns how full they were.
    fn serve_ready(&mut self) -> Fill {
        let mut all = Fill::default();
        for _ in 0..self.ready.len() {
            let Some((key, stream)) = self.ready.pop_front() else {
                break;
            };
            let Some(run) = self.runs.get_mut(&key).filter(|run| !run.is_closing()) else {
                continue;
            };
            let (step, fill) = run.serve(stream, &mut self.tools);
            all.add(fill);
            match step {
                Step::Empty => {}
                Step::More => self.ready.push_back((key, stream)),
                Step::Paused(until) => self.pause(key, until),
            }
        }
        all
    }

    fn next_deadline(&self, now: Instant) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let Some((first, _)) = self.paused.iter().min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up: a wait of 0 ms until the last millisecond is over would be a busy loop.
        let left = first.saturating_duration_since(now) + Duration::from_micros(999);
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::ZERO)
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Begin(core, streams, pid) => {
                if self.is_closing(&core) {
                    let begin = Command::Begin(core.clone(), streams, pid);
                    self.held.push((core, begin));
                } else {
                    self.begin(core, streams, pid);
                }
            }
            Command::Close(core, closing) => {
                if let Some(run) = self.runs.get_mut(&core.key) {
                    run.close(closing);
                    self.finish_if_empty(core.key);
                } else {
                    self.held
                        .push((core.clone(), Command::Close(core, closing)));
                }
            }
            Command::Room(feed) => self.room(&feed),
            // Handled where commands are taken.
            Command::End => {}
        }
    }

    fn room(&mut self, feed: &Arc<Feed>) {
        let keys: Vec<u64> = self.of_feed(feed).map(|(key, _)| *key).collect();
        for key in keys {
            self.paused.retain(|(_, paused)| *paused != key);
            if let Some(run) = self.runs.get_mut(&key) {
                run.room();
                self.go_on(key);
            }
        }
        if self.of_feed(feed).all(|(_, run)| run.is_between_lines()) {
            feed.add(|entry| entry.tell_dropped());
        }
    }

    fn begin(&mut self, core: Arc<RunCore>, streams: Vec<Stream>, pid: Option<i32>) {
        if let (Some(pid), Some(feed)) = (pid, &core.feed) {
            let line = crate::words::started(Timestamp::now(), core.id.as_str(), core.run, pid);
            feed.add(|entry| {
                entry.tell_dropped();
                entry.own_line(&line);
            });
        }
        let key = core.key;
        let run = Run::begin(core, streams, &self.tools);
        self.runs.insert(key, run);
    }

    fn pause(&mut self, key: u64, until: Instant) {
        // Told of twice in one round, when both of its pipes had output.
        if !self.paused.contains(&(until, key)) {
            self.paused.push((until, key));
        }
    }

    /// Runs that waited long enough for their feed begin to drop.
    fn stop_waiting(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        let now = Instant::now();
        let over: Vec<u64> = self
            .paused
            .extract_if(.., |(until, _)| *until <= now)
            .map(|(_, key)| key)
            .collect();
        if over.is_empty() {
            return;
        }
        let starved = self.inbox.writer_waits_for_processor();
        for key in over {
            let Some(run) = self.runs.get_mut(&key) else {
                continue;
            };
            match run.stop_waiting(starved) {
                Some(until) => self.pause(key, until),
                None => self.go_on(key),
            }
        }
    }

    /// A run does not wait for room any more.
    fn go_on(&mut self, key: u64) {
        let Some(run) = self.runs.get_mut(&key) else {
            return;
        };
        run.unmute(&self.tools);
        if run.is_closing() {
            self.finish_if_empty(key);
        } else {
            for stream in run.ready() {
                // It may be in the list already, when it was told of while its run waited.
                if !self.ready.contains(&(key, stream)) {
                    self.ready.push_back((key, stream));
                }
            }
        }
    }

    /// Reads a run that is being closed to its end; then it is over, and the next one of its log begins.
    fn finish_if_empty(&mut self, key: u64) {
        let Some(run) = self.runs.get_mut(&key).filter(|run| run.is_closing()) else {
            return;
        };
        match run.read_out(&mut self.tools) {
            Step::Paused(until) => self.pause(key, until),
            Step::Empty | Step::More => {
                if let Some(run) = self.runs.remove(&key) {
                    self.paused.retain(|(_, paused)| *paused != key);
                    let feed = run.core().feed.clone();
                    run.finish();
                    self.begin_held(feed.as_ref());
                }
            }
        }
    }

    /// Carries out what waited for this log; it may have to wait again.
    fn begin_held(&mut self, feed: Option<&Arc<Feed>>) {
        let same = |core: &RunCore| match (feed, &core.feed) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, _) | (_, None) => false,
        };
        let ready: Vec<Command> = self
            .held
            .extract_if(.., |(core, _)| same(core))
            .map(|(_, command)| command)
            .collect();
        for command in ready {
            self.carry_out(command);
        }
    }

    /// Whether a run of the same log is being closed.
    fn is_closing(&self, core: &RunCore) -> bool {
        let Some(feed) = &core.feed else {
            return false;
        };
        self.of_feed(feed).any(|(_, run)| run.is_closing())
    }

    fn of_feed<'a>(&'a self, feed: &'a Arc<Feed>) -> impl Iterator<Item = (&'a u64, &'a Run)> {
        let same = |run: &Run| {
            let own = run.core().feed.as_ref();
            own.is_some_and(|own| Arc::ptr_eq(own, feed))
        };
        self.runs.iter().filter(move |(_, run)| same(run))
    }

    /// Hands on what is held back of all runs; their pipes stay as they are, for a successor.
    fn end(&mut self) {
        for (_, run) in self.runs.drain() {
            run.finish();
        }
        for (_, command) in std::mem::take(&mut self.held) {
            match command {
                Command::Begin(core, streams, pid) => self.begin(core, streams, pid),
                Command::Close(core, closing) => {
                    if let Some(mut run) = self.runs.remove(&core.key) {
                        run.close(closing);
                        run.finish();
                    }
                }
                Command::Room(_) | Command::End => {}
            }
        }
        for (_, run) in self.runs.drain() {
            run.finish();
        }
    }
}
