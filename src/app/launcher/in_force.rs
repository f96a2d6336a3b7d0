//! Which configuration a launcher starts with: that of its file, else, while programs of this hub live, the last good one
//! (spec §4, §12).
//!
//! Invariants: a file that loads is always preferred; without live programs a file that does not load is exit 78; what is
//! in force instead of the file is told with the reason and the way out.

use crate::app::config::last_good::{self, LastGood};
use crate::app::config::{self, Config, Problems, Whole};
use crate::app::paths::Folders;
use actors::host::count_leftovers;

/// What the launcher starts with.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) config: Config,
    /// The content of the file that says so; none when none does.
    pub(super) content: Option<Vec<u8>>,
    /// Why it is not what the file says; then nothing of it is to be kept as good.
    pub(super) trouble: Option<Trouble>,
}

/// The file does not load, and the last good configuration is in force.
#[derive(Debug)]
pub(super) struct Trouble {
    /// In one line, with the way out.
    pub(super) text: String,
    /// All that is wrong with the file.
    pub(super) problems: Problems,
}

/// The file does not load, and there is nothing to use instead.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) problems: Problems,
    /// Why there is nothing, when programs live that need it.
    pub(super) note: Option<String>,
}

/// Decides; looks for live programs only when the file does not load. Blocks; to be called with the lock of the home, before
/// anything is started or ended.
pub(super) fn choose(folders: &Folders) -> Result<InForce, Unusable> {
    match config::load_whole(folders) {
        Ok(whole) if whole.content.is_none() => Ok(unless_vanished(folders, whole)),
        Ok(whole) => Ok(InForce::from(whole)),
        Err(problems) => instead(folders, problems),
    }
}

impl From<Whole> for InForce {
    fn from(whole: Whole) -> Self {
        InForce {
            config: whole.config,
            content: whole.content,
            trouble: None,
        }
    }
}

/// There is no file, which nobody asked for. One that was there and vanished under live programs is missed (spec §4).
fn unless_vanished(folders: &Folders, defaults: Whole) -> InForce {
    let Ok(good) = last_good::read(folders) else {
        return InForce::from(defaults);
    };
    let lives = || live_programs(folders).is_ok_and(|programs| programs > 0);
    if good.from != folders.config_file || !lives() {
        return InForce::from(defaults);
    }
    match config::load_again(folders) {
        // Just written.
        Ok(whole) => InForce::from(whole),
        Err(problems) => with(good, problems),
    }
}

fn instead(folders: &Folders, problems: Problems) -> Result<InForce, Unusable> {
    let note = match live_programs(folders) {
        Ok(0) => None,
        Ok(programs) => match last_good::read(folders) {
            Ok(good) => return Ok(with(good, problems)),
            Err(error) => Some(format!(
                "launcher: {programs} processes of this hub still run and are left alone, as there is no last good \
                 configuration to go on with: {error}"
            )),
        },
        Err(text) => Some(format!(
            "launcher: whether programs of this hub still run is not known: {text}"
        )),
    };
    Err(Unusable { problems, note })
}

fn live_programs(folders: &Folders) -> Result<usize, String> {
    count_leftovers(&folders.home, &folders.run_private())
}

fn with(good: LastGood, problems: Problems) -> InForce {
    let first = problems.lines().next().unwrap_or_default();
    let more = match problems.list().len().saturating_sub(1) {
        0 => String::new(),
        1 => " (and 1 more problem)".to_owned(),
        more => format!(" (and {more} more problems)"),
    };
    let text = format!(
        "{first}{more}; the last good configuration, of {}, is in force; correct the file, then: hubcli reload",
        good.from.display()
    );
    InForce {
        config: good.config,
        content: None,
        trouble: Some(Trouble { text, problems }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::paths::testing::home;
    use std::fs;
    use std::process::{Child, Command, Stdio};

    /// A program that holds the FIFO of a run, ended when dropped.
    struct Alive(Child);

    impl Alive {
        fn of(folders: &Folders) -> Self {
            let fifo = folders.run_private().join("a.1.0.out");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600))
                .expect("fifo");
            // Both ends, so that it does not wait for a reader.
            let out = fs::File::options()
                .read(true)
                .write(true)
                .open(&fifo)
                .expect("open");
            let child = Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(Stdio::null())
                .spawn()
                .expect("started");
            Alive(child)
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    const GOOD: &[u8] = b"autostart: [a]\n";

    #[test]
    fn a_file_that_does_not_load_is_replaced_only_while_programs_live() {
        let (_temp, folders) = home();
        fs::write(&folders.config_file, GOOD).expect("written");
        let good = choose(&folders).expect("good");
        assert_eq!(good.content.as_deref(), Some(GOOD));
        assert!(good.trouble.is_none());
        last_good::keep(&folders, Some(GOOD)).expect("kept");

        fs::write(&folders.config_file, "autostrat: [a]\nlogLevel: 7\n").expect("written");
        let none = choose(&folders).expect_err("nothing lives");
        assert!(none.note.is_none(), "{:?}", none.note);

        let _alive = Alive::of(&folders);
        let instead = choose(&folders).expect("the last good one");
        assert_eq!(instead.config, good.config);
        let text = instead.trouble.expect("degraded").text;
        for part in [
            "launcher.yaml:1:1: autostrat",
            " more problem",
            "is in force; correct the file",
            "hubcli reload",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains('\n'), "{text}");

        // A file that is gone is missed as well, but for one that never was.
        fs::remove_file(&folders.config_file).expect("removed");
        let instead = choose(&folders).expect("the last good one");
        assert_eq!(instead.config, good.config);
        let text = instead.trouble.expect("degraded").text;
        assert!(text.contains("there is no such file"), "{text}");
        last_good::keep(&folders, None).expect("forgotten");
        let defaults = choose(&folders).expect("defaults");
        assert_eq!(
            (defaults.config, defaults.content),
            (Config::default(), None)
        );

        // And with nothing to go on with that is said.
        fs::write(&folders.config_file, "autostrat: [a]\n").expect("written");
        let note = choose(&folders).expect_err("nothing was kept").note;
        let note = note.expect("told");
        assert!(
            note.contains("1 processes") && note.contains("no configuration was kept"),
            "{note}"
        );
    }
}
