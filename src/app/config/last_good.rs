//! The last configuration that was in force, kept for a launcher that finds plugins alive and a file that does not load
//! (spec §12): `{stores}/launcher/last-good.yaml`.
//!
//! Invariants: what is kept is whole or absent, and loaded once; a kept file that is damaged or of a newer launcher is set
//! aside, never overwritten and never half believed; no more is read of it than a configuration may have.

use super::{Config, MAX_SIZE, parse};
use crate::app::paths::Folders;
use actors::memory::set_aside;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Its name in the launcher's own store.
const NAME: &str = "last-good.yaml";
/// The form below; higher ones are of newer launchers.
const FORM: u64 = 1;
/// The longest first line, in bytes: a path of the longest kind, escaped, and some.
const MAX_HEAD: u64 = 32 * 1024;
/// Only the owner may read it: an environment in it may have secrets.
const MODE: u32 = 0o600;

/// The first line, a comment in YAML: `# {"form":1,…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    form: u64,
    /// Of all that comes after the first line.
    crc: String,
    /// Where it came from.
    from: PathBuf,
}

/// A configuration that was in force.
#[derive(Debug, Clone, PartialEq)]
pub struct LastGood {
    /// What it says.
    pub config: Config,
    /// The file it came from.
    pub from: PathBuf,
    /// Where it is kept.
    pub kept_in: PathBuf,
}

/// Why there is no last good configuration to be had.
#[derive(Debug, Error)]
pub enum LastGoodError {
    /// None was kept.
    #[error("no configuration was kept in {path}")]
    None {
        /// Where it would be.
        path: PathBuf,
    },
    /// It was set aside, or is in the way; the text says which, and why.
    #[error("{0}")]
    Damaged(String),
    /// Its own problems: another launcher could read it, this one cannot.
    #[error("{path} does not load any more: {why}")]
    Refused {
        /// Where it is.
        path: PathBuf,
        /// The first problem.
        why: String,
    },
}

/// Keeps the content of the configuration file that is in force; `None` = there is no file and the defaults are, so there is
/// nothing to keep. Writes only what is new. Blocks.
///
/// # Errors
/// When it cannot be written; the one before is still there then.
pub fn keep(folders: &Folders, content: Option<&[u8]>) -> Result<(), creds::atomic::AtomicError> {
    let path = path_in(folders);
    let Some(content) = content else {
        // One that stays is only used for a file of the same name that is gone.
        let _ = std::fs::remove_file(path);
        return Ok(());
    };
    let text = written(&folders.config_file, content);
    if read_bytes(&path).is_ok_and(|bytes| bytes == text) {
        return Ok(());
    }
    creds::atomic::write(&path, &text, MODE)
}

/// Reads what was kept. Blocks.
///
/// # Errors
/// When there is none that can be used; a damaged one was set aside then.
pub fn read(folders: &Folders) -> Result<LastGood, LastGoodError> {
    let path = path_in(folders);
    let aside =
        |why: &str| LastGoodError::Damaged(set_aside(&path, why.to_owned(), None).to_string());
    let bytes = match read_bytes(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LastGoodError::None { path });
        }
        Err(error) => return Err(aside(&format!("cannot be read: {error}"))),
    };
    let (head, body) = split(&bytes).map_err(|why| aside(&why))?;
    match parse(body, &folders.client_id) {
        Ok(config) => Ok(LastGood {
            config,
            from: head.from,
            kept_in: path,
        }),
        Err(problems) => Err(LastGoodError::Refused {
            path,
            why: problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        }),
    }
}

/// Where it is kept.
fn path_in(folders: &Folders) -> PathBuf {
    folders.stores.join("launcher").join(NAME)
}

fn written(from: &Path, content: &[u8]) -> Vec<u8> {
    let head = Head {
        form: FORM,
        crc: format!("{:08x}", crc32fast::hash(content)),
        from: from.to_owned(),
    };
    // A path that is no text has no form in JSON; it is kept without.
    let head = serde_json::to_string(&head).or_else(|_| {
        serde_json::to_string(&Head {
            from: PathBuf::new(),
            ..head
        })
    });
    let mut text = format!("# {}\n", head.unwrap_or_default()).into_bytes();
    text.extend_from_slice(content);
    text
}

/// The first line and the rest, which is what was kept; else what is wrong.
fn split(bytes: &[u8]) -> Result<(Head, &[u8]), String> {
    let at = bytes.iter().position(|b| *b == b'\n');
    let damaged = || "is damaged".to_owned();
    let (line, body) = at
        .and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?)))
        .ok_or_else(damaged)?;
    let json = line.strip_prefix(b"# ").ok_or_else(damaged)?;
    let form = serde_json::from_slice::<serde_json::Value>(json)
        .ok()
        .and_then(|head| head.get("form")?.as_u64())
        .ok_or_else(damaged)?;
    if form > FORM {
        return Err(format!(
            "is of a newer launcher (form {form}, known is {FORM})"
        ));
    }
    let head: Head = serde_json::from_slice(json).map_err(|_| damaged())?;
    if head.crc == format!("{:08x}", crc32fast::hash(body)) {
        Ok((head, body))
    } else {
        Err(damaged())
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let most = MAX_SIZE + MAX_HEAD;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= most => Ok(bytes),
        Ok(_) | Err(_) => Err(io::Error::other("it is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::paths::testing::home;

    const TEXT: &[u8] = b"\xef\xbb\xbfautostart: [a]\n";

    #[test]
    fn what_was_kept_is_there_with_where_it_came_from() {
        let (_temp, folders) = home();
        assert!(matches!(read(&folders), Err(LastGoodError::None { .. })));
        keep(&folders, Some(TEXT)).expect("kept");
        let got = read(&folders).expect("there");
        assert_eq!(got.config, parse(TEXT, "launcher").expect("good"));
        assert_eq!(got.from, folders.config_file);
        use std::os::unix::fs::MetadataExt as _;
        let meta = |path: &Path| std::fs::metadata(path).expect("there");
        let before = meta(&got.kept_in);
        assert_eq!(before.mode() & 0o777, 0o600);
        keep(&folders, Some(TEXT)).expect("kept");
        assert_eq!(
            before.ino(),
            meta(&got.kept_in).ino(),
            "nothing was written"
        );
        keep(&folders, Some(b"autostart: [b]\n")).expect("kept");
        assert_ne!(read(&folders).expect("there").config, got.config);
        keep(&folders, None).expect("forgotten");
        assert!(matches!(read(&folders), Err(LastGoodError::None { .. })));
    }

    #[test]
    fn a_cut_or_changed_one_is_set_aside_and_never_believed() {
        let (_temp, folders) = home();
        keep(&folders, Some(TEXT)).expect("kept");
        let path = path_in(&folders);
        let whole = std::fs::read(&path).expect("there");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("cut");
            let Err(LastGoodError::Damaged(text)) = read(&folders) else {
                panic!("cut at {cut} was believed");
            };
            assert!(text.contains("last-good.yaml.damaged-"), "{text}");
            assert!(!path.exists());
            let aside = format!("{}.damaged-1", path.display());
            std::fs::remove_file(aside).expect("set aside");
        }
        let body = whole.len() - TEXT.len();
        for at in body..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).expect("changed");
            assert!(matches!(read(&folders), Err(LastGoodError::Damaged(_))));
        }
    }

    #[test]
    fn one_of_a_newer_launcher_or_no_file_at_all_is_told() {
        let (_temp, folders) = home();
        let path = path_in(&folders);
        std::fs::write(&path, "# {\"form\":2,\"whatever\":[]}\nx\n").expect("written");
        let text = read(&folders).expect_err("newer").to_string();
        assert!(text.contains("is of a newer launcher (form 2"), "{text}");
        std::fs::create_dir(&path).expect("made");
        let text = read(&folders).expect_err("folder").to_string();
        assert!(text.contains("it is not a regular file"), "{text}");
        assert!(!path.exists(), "set aside");
    }

    #[test]
    fn one_that_this_launcher_cannot_read_is_left_alone() {
        let (_temp, folders) = home();
        keep(&folders, Some(b"nonsense: 1\n")).expect("kept");
        let text = read(&folders).expect_err("refused").to_string();
        assert!(text.contains("nonsense"), "{text}");
        assert!(path_in(&folders).exists());
    }
}
