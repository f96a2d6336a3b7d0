//! The plugin that stamps its start, and what it stamped.

use crate::clock;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The variable that tells plugins where to stamp.
pub const VARIABLE: &str = "STAMP_FILE";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/stamp.c");

/// The stamping plugin, built.
pub struct Program {
    folder: TempDir,
}

impl Program {
    /// Builds it statically, so that the loader of libraries is not what is measured.
    pub fn build() -> Result<Program> {
        let folder = tempfile::tempdir()?;
        let compiler = std::env::var_os("CC");
        let compiler = compiler.as_deref().unwrap_or(OsStr::new("gcc"));
        let built = Command::new(compiler)
            .args(["-O2", "-static", "-o"])
            .arg(folder.path().join("stamp"))
            .arg(SOURCE)
            .status()
            .with_context(|| format!("cannot run {}", compiler.display()))?;
        if !built.success() {
            bail!("{SOURCE} cannot be compiled; it takes a C compiler and a static libc");
        }
        Ok(Program { folder })
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("stamp")
    }
}

/// What a plugin stamped.
pub struct Stamp {
    /// Its file name.
    pub id: String,
    /// When it had its first instruction, by [`clock::now`].
    pub at: u64,
    /// Its pid.
    pub pid: i32,
}

/// A file that plugins stamp into.
pub struct Stamps {
    file: PathBuf,
}

impl Stamps {
    /// An empty one.
    pub fn new(file: &Path) -> Result<Stamps> {
        let stamps = Stamps {
            file: file.to_owned(),
        };
        stamps.clear()?;
        Ok(stamps)
    }

    /// Its path, for [`VARIABLE`].
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Forgets all stamps.
    pub fn clear(&self) -> Result<()> {
        std::fs::write(&self.file, "").context("cannot write the file for stamps")
    }

    /// All stamps, as they were written.
    pub fn read(&self) -> Result<Vec<Stamp>> {
        let text = std::fs::read_to_string(&self.file)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(stamp).collect()
    }

    /// Waits until there are so many.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Stamp>> {
        let what = format!("there are {count} stamps in {}", self.file.display());
        clock::eventually(&what, Duration::from_millis(2), || {
            let stamps = self.read()?;
            Ok((stamps.len() >= count).then_some(stamps))
        })
    }
}

fn stamp(line: &str) -> Result<Stamp> {
    let mut words = line.split(' ');
    let mut word = || words.next().with_context(|| format!("no stamp: '{line}'"));
    Ok(Stamp {
        id: word()?.to_owned(),
        at: word()?.parse()?,
        pid: word()?.parse()?,
    })
}

/// The last of them.
pub fn last(stamps: &[Stamp]) -> u64 {
    stamps.iter().map(|stamp| stamp.at).max().unwrap_or(0)
}
