//! Reads a configuration file: bytes to [`Config`], all problems at once (spec §4).
//!
//! Invariants: a file that is not a regular one is never waited for; no more than [`MAX_SIZE`] bytes are read; a file with any
//! problem gives no [`Config`].

use super::problem::{KeyPath, Place, Problem, Problems};
use super::{Config, decode, sample, tree, yaml};
use crate::app::paths::Folders;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The largest configuration file, in bytes: some ten thousand plugins.
pub const MAX_SIZE: u64 = 1024 * 1024;

/// Reads the configuration file of a hub; a missing one that was not asked for means the defaults (spec §3).
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(folders: &Folders) -> Result<Config, Problems> {
    load_whole(folders).map(|whole| whole.config)
}

/// A configuration with the bytes that say so.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// What the file says.
    pub config: Config,
    /// Its content; none when there is no file and the defaults hold.
    pub content: Option<Vec<u8>>,
}

/// As [`load`], with the content that was read.
///
/// # Errors
/// As [`load`].
pub fn load_whole(folders: &Folders) -> Result<Whole, Problems> {
    let what = "the file that --configFile or LAUNCHER_CONFIGFILE names";
    let missing = folders.config_file_given.then_some(what);
    load_from(folders, missing)
}

/// Reads it once more while the launcher runs: a file that is gone or empty now is an error, whoever named it (spec §4).
///
/// # Errors
/// As [`load`].
pub fn load_again(folders: &Folders) -> Result<Whole, Problems> {
    let what = "the launcher's configuration; put it back, or a file with nothing but a comment to have the defaults";
    let whole = load_from(folders, Some(what))?;
    let is_empty = |content: &Vec<u8>| content.trim_ascii().is_empty();
    if whole.content.as_ref().is_some_and(is_empty) {
        // Whoever writes it in place has it empty for a moment, and would have everything stopped.
        let file = &folders.config_file;
        return Err(of_file(file, "it is empty".to_owned(), what));
    }
    Ok(whole)
}

/// A problem of a file as a whole.
fn of_file(file: &Path, wrong: String, expected: &str) -> Problems {
    let problem = Problem {
        place: Place::START,
        path: KeyPath::top(),
        wrong,
        expected: expected.to_owned(),
        nearest: None,
    };
    Problems::new(file, vec![problem])
}

/// Reads it; `needed` says as what, and without it a missing file means the defaults.
fn load_from(folders: &Folders, needed: Option<&str>) -> Result<Whole, Problems> {
    let file = &folders.config_file;
    let whole = |wrong, expected| of_file(file, wrong, expected);
    match bytes_of(file) {
        Ok(bytes) => match parse(&bytes, &folders.client_id) {
            Ok(config) => Ok(Whole {
                config,
                content: Some(bytes),
            }),
            Err(list) => Err(Problems::new(file, list)),
        },
        Err(Unread::Missing) => match needed {
            None => Ok(Whole {
                config: Config::default(),
                content: None,
            }),
            Some(what) => Err(whole("there is no such file".to_owned(), what)),
        },
        Err(Unread::NotAFile(what)) => Err(whole(format!("is {what}"), "a regular file")),
        Err(Unread::TooLarge) => Err(whole("is larger than 1 MiB".to_owned(), "at most 1 MiB")),
        Err(Unread::Failed(error)) => Err(whole(
            format!("cannot be read: {error}"),
            "a file that the launcher's user may read",
        )),
    }
}

/// What follows from there being no configuration file, which nobody asked for by name; none when there is one.
#[must_use]
pub fn without_file(folders: &Folders) -> Option<String> {
    let file = &folders.config_file;
    // Of a folder that is none something else is told.
    let missing = !folders.config_file_given
        && folders.accept_config().is_ok()
        && matches!(bytes_of(file), Err(Unread::Missing));
    missing.then(|| {
        format!(
            "there is no {}: the defaults hold, without a core and without autostart",
            file.display()
        )
    })
}

/// As [`load`], but in an empty home what the first start would write there; nothing is written.
///
/// # Errors
/// As [`load`].
pub fn load_or_sample(folders: &Folders) -> Result<Config, Problems> {
    match sample::for_first_start(folders) {
        None => load(folders),
        Some(text) => {
            let read = parse(text.as_bytes(), &folders.client_id);
            read.map_err(|list| Problems::new(&folders.config_file, list))
        }
    }
}

/// Reads a file's content; `client_id` is the launcher's own, which no plugin may have.
///
/// # Errors
/// All problems, at least one, in no order.
pub fn parse(bytes: &[u8], client_id: &str) -> Result<Config, Vec<Problem>> {
    let text = text_of(bytes).map_err(|problem| vec![problem])?;
    let (root, mut problems) = tree::read(text);
    if problems.is_empty() && root.is_some() {
        problems.extend(yaml::second_opinion(text));
    }
    let (config, wrong) = decode::decode(root.as_ref(), client_id);
    problems.extend(wrong);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

/// The text of a file that is text as YAML wants it.
fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    let problem = |before: &str, wrong: String, expected: &str| Problem {
        place: Place::after(before),
        path: KeyPath::top(),
        wrong,
        expected: expected.to_owned(),
        nearest: None,
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let (good, bad) = bytes
                .split_at_checked(error.valid_up_to())
                .unwrap_or_default();
            let before = std::str::from_utf8(good).unwrap_or_default();
            let byte = bad.first().copied().unwrap_or_default();
            let wrong = format!("is not UTF-8: byte 0x{byte:02x}");
            return Err(problem(before, wrong, "text in UTF-8"));
        }
    };
    match text.char_indices().find(|(_, c)| !is_text(*c)) {
        None => Ok(text),
        Some((at, '\0')) => Err(problem(
            text.get(..at).unwrap_or_default(),
            "has a zero byte, as a crash leaves it while a file is written".to_owned(),
            "text; put back a copy of the file",
        )),
        Some((at, c)) => Err(problem(
            text.get(..at).unwrap_or_default(),
            format!("has the control character {}", c.escape_unicode()),
            "text without it",
        )),
    }
}

/// The characters a YAML file may have (YAML 1.2 §5.1), but for those that were line breaks in YAML 1.1 only: readers
/// disagree on what such a file says.
fn is_text(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' | '\u{feff}' => false,
        _ => !c.is_control(),
    }
}

/// Why there are no bytes.
#[derive(Debug)]
enum Unread {
    Missing,
    NotAFile(&'static str),
    TooLarge,
    Failed(io::Error),
}

fn bytes_of(file: &Path) -> Result<Vec<u8>, Unread> {
    let failed = |error: io::Error| {
        if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) {
            Unread::Missing
        } else {
            Unread::Failed(error)
        }
    };
    // Without blocking: opening a FIFO would wait for a writer for ever.
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(file)
        .map_err(failed)?;
    let meta = opened.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(Unread::NotAFile("a folder"));
    }
    if !meta.is_file() {
        return Err(Unread::NotAFile("a device, socket or pipe"));
    }
    let mut bytes = Vec::new();
    opened
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= MAX_SIZE => Ok(bytes),
        Ok(_) | Err(_) => Err(Unread::TooLarge),
    }
}
