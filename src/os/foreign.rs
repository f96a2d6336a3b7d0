//! Copies of plugins that somebody else started (spec §5): a second one would fight the first for its login.
//!
//! Invariant: what carries a mark of this home is never foreign; nor is what was called by a path in another folder, such
//! as the same program in another hub's.

use crate::spawn_error::interpreter_line;
use crate::table::{self, Marks};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use supervision::PluginId;

/// How many arguments can stand before the name of a script: the interpreter, and one option or `env`'s program.
const BEFORE_SCRIPT: usize = 3;

/// A plugin of which a copy is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, the last part of argv\[0\] of a copy.
    pub id: PluginId,
    /// Its executable.
    pub path: PathBuf,
}

/// Looks for running copies of all candidates in one pass over the process table; gives the lowest number of each. For
/// a script, a copy is its interpreter with the script as argument.
///
/// # Errors
/// When the process table cannot be read.
pub fn find(home: &Path, candidates: &[Candidate]) -> io::Result<HashMap<PluginId, i32>> {
    let by_id: HashMap<&OsStr, &Candidate> = candidates
        .iter()
        .map(|candidate| (OsStr::new(candidate.id.as_str()), candidate))
        .collect();
    let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let mut found = HashMap::new();
    if by_id.is_empty() {
        return Ok(found);
    }
    for pid in table::pids()? {
        if pid == me {
            continue;
        }
        let arguments = table::arguments(pid)?;
        let copy = arguments
            .iter()
            .take(1 + BEFORE_SCRIPT)
            .enumerate()
            .filter_map(|(at, word)| Some((at, *by_id.get(Path::new(word).file_name()?)?)))
            .find(|(at, candidate)| is_copy(pid, &arguments, *at, candidate));
        let Some((_, candidate)) = copy else {
            continue;
        };
        if !found.contains_key(&candidate.id) && !is_ours(pid, home)? {
            found.insert(candidate.id.clone(), pid);
        }
    }
    Ok(found)
}

fn is_ours(pid: i32, home: &Path) -> io::Result<bool> {
    match table::marks(pid)? {
        Marks::Run { home: marked, .. } => Ok(marked == home.as_os_str()),
        // Gone, or another user's, and ours are our own user's.
        Marks::None | Marks::Empty | Marks::Hidden => Ok(false),
    }
}

/// Whether a program was called by a path in another folder than the candidate's.
fn is_elsewhere(called: &OsStr, candidate: &Candidate) -> bool {
    let called = Path::new(called);
    let (Some(folder), Some(own)) = (called.parent(), candidate.path.parent()) else {
        return false;
    };
    called.is_absolute()
        && folder != own
        && fs::canonicalize(folder).ok() != fs::canonicalize(own).ok()
}

/// Whether the process, one of whose first arguments is named like the candidate, executes its file.
fn is_copy(pid: i32, arguments: &[OsString], at: usize, candidate: &Candidate) -> bool {
    let Ok(file) = fs::metadata(&candidate.path) else {
        return false;
    };
    if is_elsewhere(&arguments[at], candidate) {
        return false;
    }
    if at == 0 {
        return executes(pid, arguments, &file, &candidate.path);
    }
    let Some(words) = interpreter_words(&candidate.path) else {
        return false;
    };
    let program = Path::new(&arguments[0]).file_name();
    let known = words.iter().any(|w| Path::new(w).file_name() == program);
    // A script that is named relatively is found from where the process is now; most stay where they were started.
    let script = Path::new(&format!("/proc/{pid}/cwd")).join(&arguments[at]);
    known && fs::metadata(script).is_ok_and(|script| is_same(&script, &file))
}

fn executes(pid: i32, arguments: &[OsString], file: &Metadata, path: &Path) -> bool {
    let link = format!("/proc/{pid}/exe");
    match fs::metadata(&link) {
        Ok(running) if is_same(&running, file) => true,
        Ok(_) => {
            // A copy of the file as it was before it was replaced.
            let target = fs::read_link(&link).unwrap_or_default();
            let target = target.to_string_lossy();
            let before = target.strip_suffix(" (deleted)").map(Path::new);
            before.is_some() && before == fs::canonicalize(path).ok().as_deref()
        }
        // Another user's: only its arguments can be read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Path::new(&arguments[0]) == path
        }
        Err(_) => false,
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The words of a script's first line; `None` when the file is no script.
fn interpreter_words(path: &Path) -> Option<Vec<String>> {
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(256).read_to_end(&mut start).ok()?;
    let line = interpreter_line(&start)?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, eventually};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    struct Ended(Child);

    impl Ended {
        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn candidate(scene: &Scene, id: &str, file: &str) -> Candidate {
        Candidate {
            id: PluginId::new(id).unwrap(),
            path: scene.path(file),
        }
    }

    fn start(command: &mut Command) -> Ended {
        // The file was just written: a fork elsewhere in this program may hold it open for a moment.
        for _ in 0..1000 {
            match command.spawn() {
                Ok(child) => return Ended(child),
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it stays busy");
    }

    #[tokio::test]
    async fn copies_are_found_by_executable_and_name() {
        let scene = Scene::new();
        let sleep = std::fs::read("/bin/sleep").unwrap();
        let binary = scene.executable("binary", &sleep);
        let script = scene.executable("script", b"#!/bin/sh\nread x\n");
        let candidates = [
            candidate(&scene, "binary", "binary"),
            candidate(&scene, "other", "binary"),
            candidate(&scene, "script", "script"),
            candidate(&scene, "missing", "missing"),
        ];
        let find = || find(scene.folder(), &candidates).unwrap();
        assert_eq!(find(), HashMap::new());

        let by_hand = start(Command::new(&binary).arg("1000"));
        let as_other = start(Command::new(&binary).arg0("x/other").arg("1000"));
        let _anothers = start(Command::new(&binary).arg0("/x/binary").arg("1000"));
        let mut relative = Command::new("./script");
        relative.current_dir(scene.folder());
        relative.stdin(std::process::Stdio::piped());
        let by_shell = start(&mut relative);
        let _reads_it = start(Command::new("/usr/bin/tail").arg("-f").arg(&script));
        let _named_alike = start(Command::new("/bin/sleep").arg0("binary").arg("1000"));
        let id = |id| PluginId::new(id).unwrap();
        let expected = HashMap::from([
            (id("binary"), by_hand.pid()),
            (id("other"), as_other.pid()),
            (id("script"), by_shell.pid()),
        ]);
        eventually(|| (find() == expected).then_some(())).await;

        // A newer version is put in its place: the copy is still one.
        std::fs::write(scene.path("new"), &sleep).unwrap();
        std::fs::rename(scene.path("new"), &binary).unwrap();
        assert_eq!(find().get(&id("binary")), Some(&by_hand.pid()));
    }

    #[tokio::test]
    async fn our_own_runs_are_not_foreign() {
        let scene = Scene::new();
        let sleep = std::fs::read("/bin/sleep").unwrap();
        let binary = scene.executable("binary", &sleep);
        let spec = scene.program(&binary, &["1000"]);
        let run = scene.host.spawn(spec).await.unwrap();
        let candidates = [candidate(&scene, "binary", "binary")];
        // They can be seen a moment after the exec.
        eventually(|| Some(table::marks(run.pid()).unwrap()).filter(|m| *m != Marks::Empty)).await;
        eventually(|| Some(table::arguments(run.pid()).unwrap()).filter(|a| !a.is_empty())).await;
        let found = find(scene.folder(), &candidates).unwrap();
        assert_eq!(found, HashMap::new());
        let elsewhere = find(&scene.path("another"), &candidates).unwrap();
        let pids: Vec<i32> = elsewhere.into_values().collect();
        assert_eq!(pids, [run.pid()], "another hub's plugin is foreign to it");
    }
}
