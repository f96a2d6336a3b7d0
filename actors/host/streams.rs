//! The pipes that take a run's output.
//!
//! Invariants: one pipe for both outputs keeps the order of their lines, so there are two only when the outputs go
//! different ways; a FIFO that was made is removed with its [`Pipes`], unless somebody still lives on it.

use crate::words::in_words;
use logs::{Mirror, StreamSpec};
use os::{Marker, Output, fifo};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether plugins' output is shown where the launcher's own goes (`attachstdout`, `attachstderr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// No.
    No,
    /// Yes, and that is a terminal.
    ToTerminal,
    /// Yes, and that is something else, which is only used when there are no log files: else each line would be on disk
    /// twice.
    Elsewhere,
}

/// What becomes of plugins' output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputPlan {
    /// Whether it goes to `logs/{id}.log` (`logplugins`).
    pub to_file: bool,
    /// What else becomes of stdout.
    pub stdout: Attached,
    /// What else becomes of stderr.
    pub stderr: Attached,
}

/// How many pipes, and where their lines are copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One for both outputs.
    One(Mirror),
    /// One for each.
    Two { stdout: Mirror, stderr: Mirror },
}

impl OutputPlan {
    pub(super) fn layout(self) -> Layout {
        let shown = |attached| match attached {
            Attached::No => false,
            Attached::ToTerminal => true,
            Attached::Elsewhere => !self.to_file,
        };
        match (shown(self.stdout), shown(self.stderr)) {
            (false, false) => Layout::One(Mirror::None),
            // On a terminal both are seen in the same place, so order is worth more.
            (true, true)
                if self.stdout == Attached::ToTerminal && self.stderr == Attached::ToTerminal =>
            {
                Layout::One(Mirror::Stderr)
            }
            (stdout, stderr) => Layout::Two {
                stdout: if stdout { Mirror::Stdout } else { Mirror::None },
                stderr: if stderr { Mirror::Stderr } else { Mirror::None },
            },
        }
    }
}

/// The pipes of one run, ready to be read and to be given to a process.
pub(super) struct Pipes {
    pub(super) streams: Vec<StreamSpec>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) fifos: Fifos,
}

/// The FIFOs of a run; removed when dropped, unless they were let go.
#[derive(Debug, Default)]
pub(super) struct Fifos {
    pub(super) paths: Vec<PathBuf>,
}

impl Fifos {
    /// Leaves them to whoever comes after us.
    pub(super) fn let_go(&mut self) {
        self.paths.clear();
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        for path in &self.paths {
            // One that stays does no harm: the next launcher removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The end that is read and the end that is written.
struct Pipe {
    read_end: OwnedFd,
    output: Output,
}

/// Makes the pipes of a run in the folder `private`; FIFOs are called after `marker`. Where they cannot be made,
/// anonymous pipes do, and `warned` sees to it that this is said once. Blocks.
///
/// # Errors
/// When there can be no pipe at all.
pub(super) fn make(
    private: &Path,
    marker: &Marker,
    layout: Layout,
    warned: &AtomicBool,
) -> Result<Pipes, String> {
    let mut fifos = Fifos::default();
    let mut make = |end: &str| match make_fifo(&private.join(format!("{marker}{end}"))) {
        Ok((pipe, path)) => {
            fifos.paths.push(path);
            Ok(pipe)
        }
        Err(error) => {
            if !warned.swap(true, Ordering::Relaxed) {
                let error = in_words(&error);
                tracing::warn!(
                    "{error}; plugins write into pipes instead, which break when the launcher dies"
                );
            }
            make_pipe().map_err(|error| format!("cannot make the pipe for its output: {error}"))
        }
    };
    let duplicate = |error| format!("cannot make the pipe for its output: {error}");
    let (streams, stdout, stderr) = match layout {
        Layout::One(mirror) => {
            let Pipe { read_end, output } = make("")?;
            let (stdout, stderr) = twice(output).map_err(duplicate)?;
            (vec![StreamSpec { read_end, mirror }], stdout, stderr)
        }
        Layout::Two { stdout, stderr } => {
            let (out, err) = (make(".out")?, make(".err")?);
            let streams = vec![
                StreamSpec {
                    read_end: out.read_end,
                    mirror: stdout,
                },
                StreamSpec {
                    read_end: err.read_end,
                    mirror: stderr,
                },
            ];
            (streams, out.output, err.output)
        }
    };
    Ok(Pipes {
        streams,
        stdout,
        stderr,
        fifos,
    })
}

fn make_fifo(path: &Path) -> Result<(Pipe, PathBuf), fifo::FifoError> {
    fifo::create(path)?;
    let read_end = fifo::open_reader(path).inspect_err(|_| {
        // For want of descriptors, and there would be another one with each try.
        let _ = std::fs::remove_file(path);
    })?;
    let pipe = Pipe {
        read_end: read_end.into(),
        output: Output::Fifo(path.to_owned()),
    };
    Ok((pipe, path.to_owned()))
}

fn make_pipe() -> io::Result<Pipe> {
    // Closed on exec, as std has it.
    let (read_end, write_end) = io::pipe()?;
    Ok(Pipe {
        read_end: read_end.into(),
        output: Output::Fd(write_end.into()),
    })
}

fn twice(output: Output) -> io::Result<(Output, Output)> {
    let copy = match &output {
        Output::Fifo(path) => Output::Fifo(path.clone()),
        Output::Fd(fd) => Output::Fd(fd.try_clone()?),
        Output::Null => Output::Null,
        Output::Inherit => Output::Inherit,
    };
    Ok((output, copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;
    use supervision::{PluginId, Run};

    #[test]
    fn two_pipes_only_where_the_outputs_part() {
        use Attached::{Elsewhere, No, ToTerminal};
        let one = Layout::One;
        let two = |stdout, stderr| Layout::Two { stdout, stderr };
        let cases = [
            ((true, No, No), one(Mirror::None)),
            ((true, Elsewhere, Elsewhere), one(Mirror::None)),
            ((true, ToTerminal, ToTerminal), one(Mirror::Stderr)),
            ((true, No, ToTerminal), two(Mirror::None, Mirror::Stderr)),
            (
                (true, Elsewhere, ToTerminal),
                two(Mirror::None, Mirror::Stderr),
            ),
            ((false, No, No), one(Mirror::None)),
            ((false, No, Elsewhere), two(Mirror::None, Mirror::Stderr)),
            (
                (false, Elsewhere, Elsewhere),
                two(Mirror::Stdout, Mirror::Stderr),
            ),
            ((false, ToTerminal, ToTerminal), one(Mirror::Stderr)),
        ];
        for ((to_file, stdout, stderr), expected) in cases {
            let plan = OutputPlan {
                to_file,
                stdout,
                stderr,
            };
            assert_eq!(plan.layout(), expected, "{plan:?}");
        }
    }

    #[test]
    fn fifos_are_removed_unless_let_go_and_pipes_take_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::new(&PluginId::core(), Run(1), 7);
        let layout = Layout::Two {
            stdout: Mirror::None,
            stderr: Mirror::Stderr,
        };
        let warned = AtomicBool::new(false);
        let pipes = make(dir.path(), &marker, layout, &warned).unwrap();
        let paths = pipes.fifos.paths.clone();
        assert_eq!(paths[1], dir.path().join(format!("{marker}.err")));
        for path in &paths {
            assert!(std::fs::metadata(path).unwrap().file_type().is_fifo());
        }
        assert_eq!(pipes.streams[1].mirror, Mirror::Stderr);
        drop(pipes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut pipes = make(dir.path(), &marker, Layout::One(Mirror::None), &warned).unwrap();
        pipes.fifos.let_go();
        drop(pipes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!warned.load(Ordering::Relaxed));
        let nowhere = dir.path().join("nowhere");
        let pipes = make(&nowhere, &marker, Layout::One(Mirror::None), &warned).unwrap();
        assert!(warned.load(Ordering::Relaxed) && pipes.fifos.paths.is_empty());
        assert!(matches!(
            (pipes.stdout, pipes.stderr),
            (Output::Fd(_), Output::Fd(_))
        ));
    }
}
