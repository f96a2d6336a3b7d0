//! What is found out about a run that uses too much, kept as a file beside its log (spec §10).
//!
//! Invariants: the file is whole or not there; no more than [`KEPT`] of a plugin are kept, the newest; nothing waits for
//! the bus, and what cannot be found out is said in its place.

use crate::ports::{Case, Sampled, Usage};
use crate::words::in_words;
use bus::wire::local_time;
use os::{Member, inspect};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use supervision::limits::Bytes;
use supervision::{PluginId, Run};

/// So many files of a plugin are kept.
const KEPT: usize = 3;

/// So many processes of a tree are looked at, the main one first.
const PROCESSES: usize = 20;

/// So many threads, mappings or kinds of descriptors of a process are written down.
const LINES: usize = 20;

/// Everybody may read it, as logs.
const MODE: u32 = 0o644;

/// What is to be written down.
pub(super) struct Evidence {
    pub(super) id: PluginId,
    pub(super) run: Run,
    pub(super) case: Case,
    pub(super) members: Vec<Member>,
    /// The last lines of its log, oldest first.
    pub(super) tail: Vec<String>,
}

impl Evidence {
    /// Looks at the tree, writes the file and removes the oldest ones. Blocks.
    ///
    /// # Errors
    /// The file cannot be written; in words.
    pub(super) fn keep(&self, logs: &Path) -> Result<PathBuf, String> {
        creds::atomic::create_folder(logs, 0o755).map_err(|error| in_words(&error))?;
        let path = logs.join(format!("{}{}{SUFFIX}", prefix(&self.id), self.run.0));
        let text = self.text();
        creds::atomic::write(&path, text.as_bytes(), MODE).map_err(|error| in_words(&error))?;
        if let Err(error) = remove_old(logs, &self.id) {
            tracing::warn!(plugin = %self.id, "old files {}*{SUFFIX} stay: {error}", prefix(&self.id));
        }
        Ok(path)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string never fails.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let now = local_time(SystemTime::now());
        writeln!(out, "{} run {}: used too much, {now}", self.id, self.run.0)?;
        for exceeded in &self.case.exceeded {
            let (strikes, action) = (exceeded.strikes, exceeded.action.as_str());
            writeln!(
                out,
                "{exceeded}, {strikes} samples in a row; action: {action}"
            )?;
        }
        self.write_samples(out)?;
        let ticks = os::usage::ticks_per_second();
        for member in self.members.iter().take(PROCESSES) {
            write_process(out, *member, ticks)?;
        }
        let more = self.members.len().saturating_sub(PROCESSES);
        if more > 0 {
            writeln!(out, "\n{more} more processes")?;
        }
        writeln!(out, "\nlast lines of its output")?;
        for line in &self.tail {
            writeln!(out, "  {}", logs::escape(line))?;
        }
        Ok(())
    }

    fn write_samples(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nsamples, oldest first (CPU of one processor, memory, its peak, processes, threads, descriptors, CPU time)"
        )?;
        for Sampled { time_mse, usage } in &self.case.samples {
            let since_1970 = Duration::from_millis(u64::try_from(*time_mse).unwrap_or(0));
            let time = local_time(SystemTime::UNIX_EPOCH + since_1970);
            let Usage {
                cpu_percent,
                rss_bytes,
                peak_rss_bytes,
                cpu_time_ms,
                children,
                threads,
                open_fds,
            } = usage;
            let (rss, peak) = (Bytes(*rss_bytes).to_string(), Bytes(*peak_rss_bytes));
            let fds = open_fds.map_or("?".to_owned(), |fds| fds.to_string());
            let processes = children.saturating_add(1);
            writeln!(
                out,
                "  {time}  {cpu_percent:>4} %  {rss:>9}  {:>9}  {processes:>4}  {threads:>4}  {fds:>5}  {cpu_time_ms} ms",
                peak.to_string()
            )?;
        }
        Ok(())
    }
}

fn write_process(out: &mut String, member: Member, ticks: u64) -> std::fmt::Result {
    let pid = member.pid;
    let stat = os::table::stat(pid).ok().flatten();
    // Its number may be another's by now.
    let Some(stat) = stat.filter(|stat| stat.start_ticks == member.start_ticks) else {
        return writeln!(out, "\nprocess {pid} has ended");
    };
    let arguments = os::table::arguments(pid).unwrap_or_default();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let command: String = arguments.join(" ").chars().take(200).collect();
    let (name, command) = (logs::escape(&stat.comm), logs::escape(&command));
    writeln!(
        out,
        "\nprocess {pid} ({name}), parent {}: {command}",
        stat.ppid
    )?;
    write_part(out, "memory", inspect::memory(pid), |(field, bytes)| {
        (*bytes > 0).then(|| format!("{field} {}", Bytes(*bytes)))
    })?;
    write_part(out, "biggest mappings", inspect::mappings(pid), |mapping| {
        let name = match mapping.name.as_str() {
            "" => "(no name)",
            name => name,
        };
        let size = Bytes(mapping.size_bytes).to_string();
        Some(format!("{size:>9}  {}", logs::escape(name)))
    })?;
    let title = "threads (state, CPU time, where it waits, name)";
    write_part(out, title, inspect::threads(pid), |thread| {
        let ms = thread.cpu_ticks.saturating_mul(1000) / ticks;
        let waits = match thread.wait_channel.as_str() {
            "" => "-",
            channel => channel,
        };
        let (tid, state, name) = (thread.tid, thread.state, logs::escape(&thread.name));
        Some(format!("{tid:>7}  {state}  {ms:>9} ms  {waits}  {name}"))
    })?;
    write_part(
        out,
        "descriptors by kind",
        inspect::descriptors(pid),
        |(kind, count)| Some(format!("{count:>7}  {}", logs::escape(kind))),
    )
}

/// A list under its title, cut after some lines; or why there is none.
fn write_part<T>(
    out: &mut String,
    title: &str,
    found: io::Result<Vec<T>>,
    line: impl Fn(&T) -> Option<String>,
) -> std::fmt::Result {
    let found = match found {
        Ok(found) => found,
        Err(error) => return writeln!(out, " {title}: cannot be read: {error}"),
    };
    writeln!(out, " {title}")?;
    let mut lines = found.iter().filter_map(line);
    for line in lines.by_ref().take(LINES) {
        writeln!(out, "  {line}")?;
    }
    match lines.count() {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

const SUFFIX: &str = ".txt";

fn prefix(id: &PluginId) -> String {
    // No id has a dot, so nobody else's files begin so.
    format!("{id}.limit-")
}

/// Removes all but the newest files of a plugin, by the number of the run.
fn remove_old(logs: &Path, id: &PluginId) -> io::Result<()> {
    let prefix = prefix(id);
    let run_of = |name: &str| {
        let number = name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?;
        number.parse::<u64>().ok()
    };
    let mut runs: Vec<(u64, PathBuf)> = std::fs::read_dir(logs)?
        .flatten()
        .filter_map(|entry| Some((run_of(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    runs.sort_unstable();
    let old = runs.len().saturating_sub(KEPT);
    for (_, path) in runs.iter().take(old) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;
    use std::os::unix::fs::PermissionsExt as _;
    use supervision::limits::{Judge, Limits, Sample};

    fn evidence(run: u64) -> Evidence {
        let limits = Limits {
            memory_bytes: NonZeroU64::new(64 << 20),
            strikes: 1,
            ..Limits::default()
        };
        let sample = Sample {
            memory_bytes: 70 << 20,
            cpu_percent: 5,
        };
        let gone = Member {
            pid: 4_194_303,
            start_ticks: 1,
        };
        Evidence {
            id: PluginId::new("ow").unwrap(),
            run: Run(run),
            case: Case {
                exceeded: Judge::default().judge(&limits, sample),
                samples: vec![Sampled {
                    time_mse: 1_000,
                    usage: Usage {
                        rss_bytes: 70 << 20,
                        ..Usage::NOTHING
                    },
                }],
            },
            members: vec![os::usage::own().unwrap(), gone],
            tail: vec!["all\u{1b}[2J is well".to_owned()],
        }
    }

    #[test]
    fn a_long_list_is_cut_and_what_is_left_out_is_counted() {
        let shown = |found: Vec<u32>| {
            let mut out = String::new();
            let odd = |n: &u32| (n % 2 == 1).then(|| n.to_string());
            write_part(&mut out, "odd", Ok(found), odd).unwrap();
            out
        };
        assert_eq!(shown((0..40).collect()).lines().count(), 1 + LINES);
        let long = shown((0..46).collect());
        assert!(long.ends_with("\n  39\n  and 3 more\n"), "{long}");
    }

    #[test]
    fn it_tells_what_somebody_wants_to_know() {
        let text = evidence(3).text();
        for wanted in [
            "ow run 3: used too much",
            "memory 70 MiB, limit 64 MiB, 1 samples in a row; action: restart",
            "70 MiB",
            "Rss ",
            "biggest mappings",
            "[stack]",
            "threads",
            "descriptors by kind",
            "process 4194303 has ended",
            "is well",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn the_newest_three_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        for other in ["ow.log", "ow2.limit-1.txt", "ow.limit-x.txt"] {
            std::fs::write(logs.join(other), "").unwrap();
        }
        for run in [9, 10, 100, 11] {
            let path = evidence(run).keep(&logs).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        let mut names: Vec<String> = std::fs::read_dir(&logs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let wanted = [
            "ow.limit-10.txt",
            "ow.limit-100.txt",
            "ow.limit-11.txt",
            "ow.limit-x.txt",
            "ow.log",
            "ow2.limit-1.txt",
        ];
        assert_eq!(names, wanted);
    }
}
