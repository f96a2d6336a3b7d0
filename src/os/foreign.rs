//! Copies of plugins that somebody else started (spec §5): a second one would fight the first for its login.
//!
//! Invariant: what carries a mark of this home is never foreign.

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

/// Whether the process, one of whose first arguments is named like the candidate, executes its file.
fn is_copy(pid: i32, arguments: &[OsString], at: usize, candidate: &Candidate) -> bool {
    let Ok(file) = fs::metadata(&candidate.path) else {
        return false;
    };
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
