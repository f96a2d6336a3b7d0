//! Which executables there are (spec §5, HP 1.5, T20, T46).
//!
//! Invariants:
//! - a file counts by what it is, not by what points at it: symlinks are followed, dangling ones and folders ignored;
//! - a file that runs under no id is shown with the reason and the way out, not passed over in silence;
//! - a file that vanishes while we look is one that is not there; nothing found in a folder is an error.

#[cfg(test)]
mod tests;

use crate::ports::{BoxFuture, FileFacts, Inventory, Plans, Refused, Scan};
use crate::watch::Watch;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use supervision::{IdError, PluginId};
use thiserror::Error;

/// The bit that makes a file a program (HP 1.5).
const OWNER_EXECUTE: u32 = 0o100;
/// Names are shown up to this many characters (spec §8).
const SHOWN_CHARS: usize = 64;

/// Why a path is not a program that could be started. The text follows the name of the file or plugin.
#[derive(Debug, Error)]
pub enum Unfit {
    /// Nothing is there.
    #[error("no such file in plugins; put the executable at {path}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A link that leads nowhere.
    #[error("{path} is a symbolic link to a file that does not exist; link it to the executable")]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// A folder, a device, a socket.
    #[error("{path} is not a regular file; put the executable there")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Without execute permission.
    #[error("{path} is not executable; make it so with: chmod +x {path}")]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("{path} is empty; it may still be being copied, else copy it again")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {path}: {source}; check the modes of the folders above it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why the folder itself could not be read.
#[derive(Debug, Error)]
#[error(
    "cannot read the plugins folder {path}: {source}; create it, or make it readable for the launcher"
)]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The facts of the program at `path`, shown as `name`. One system call.
///
/// # Errors
/// Why it is no program.
pub fn facts_of(path: &Path, name: &str) -> Result<FileFacts, Unfit> {
    let path = path.to_owned();
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(source) => return Err(missing_or(path, source)),
    };
    if !meta.is_file() {
        return Err(Unfit::NotAFile { path });
    }
    if meta.permissions().mode() & OWNER_EXECUTE == 0 {
        return Err(Unfit::NotExecutable { path });
    }
    if meta.len() == 0 {
        return Err(Unfit::Empty { path });
    }
    Ok(FileFacts {
        name: name.to_owned(),
        path,
        size: meta.len(),
        // Every Linux file system keeps this time.
        modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

fn missing_or(path: PathBuf, source: io::Error) -> Unfit {
    if source.kind() != io::ErrorKind::NotFound {
        return Unfit::Unreadable { path, source };
    }
    match path.symlink_metadata() {
        Ok(_) => Unfit::Dangling { path },
        Err(_) => Unfit::Missing { path },
    }
}

/// Where the program of a plugin lies: the file of its own name, or of the one it is an instance of.
#[must_use]
pub fn program_of(folder: &Path, id: &PluginId, instance_of: Option<&str>) -> PathBuf {
    folder.join(instance_of.unwrap_or(id.as_str()))
}

/// What a plugins folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Folder {
    plugins: BTreeMap<PluginId, FileFacts>,
    refused: Vec<Refused>,
}

/// Reads a folder, not those in it. Blocks.
fn read_folder(folder: &Path) -> Result<Folder, FolderError> {
    let failed = |source| FolderError {
        path: folder.to_owned(),
        source,
    };
    let mut found = Folder::default();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        // A folder is known as one without looking at it.
        if is_hidden(&name) || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let shown: String = name.to_string_lossy().chars().take(SHOWN_CHARS).collect();
        let Ok(file) = facts_of(&entry.path(), &shown) else {
            continue;
        };
        match id_of(&name) {
            Ok(id) => {
                found.plugins.insert(id, file);
            }
            Err(error) => found.refused.push(Refused {
                reason: reason_of(&shown, &error),
                file,
            }),
        }
    }
    found.refused.sort_by(|a, b| a.file.name.cmp(&b.file.name));
    Ok(found)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn id_of(name: &OsStr) -> Result<PluginId, IdError> {
    match name.to_str() {
        Some(name) => PluginId::new(name),
        None => Err(IdError::BadCharacter {
            character: char::REPLACEMENT_CHARACTER,
        }),
    }
}

/// Why a file cannot be a plugin, and what to do (spec §5).
fn reason_of(shown: &str, error: &IdError) -> String {
    format!(
        "{error}; rename the file, or run it under a valid id: plugins: {{NAME: {{instanceOf: \"{shown}\"}}}}"
    )
}

/// The plugins that run another's binary, with that binary's file name.
fn instances_of(plans: &Plans) -> BTreeMap<PluginId, String> {
    let instances = plans.by_id.iter();
    instances
        .filter_map(|(id, plan)| Some((id.clone(), plan.instance_of.clone()?)))
        .collect()
}

/// The inventory of a hub's folders.
pub struct Folders {
    plugins: PathBuf,
    core: Option<PathBuf>,
    /// Plugins that run another's binary.
    instances: Mutex<BTreeMap<PluginId, String>>,
    watch: Arc<Watch>,
}

impl Folders {
    /// The inventory of the folder `plugins`. `core` is where the core's executable should be, when there is to be one.
    /// Touches no file yet.
    #[must_use]
    pub fn new(plugins: PathBuf, core: Option<PathBuf>, plans: &Plans) -> Self {
        let bin = core.as_deref().and_then(Path::parent).map(Path::to_owned);
        let watched = std::iter::once(plugins.clone()).chain(bin).collect();
        Folders {
            plugins,
            core,
            instances: Mutex::new(instances_of(plans)),
            watch: Arc::new(Watch::new(watched)),
        }
    }

    /// What a scan finds; blocks.
    fn look(
        plugins: &Path,
        core: Option<&Path>,
        instances: &BTreeMap<PluginId, String>,
    ) -> Result<Scan, FolderError> {
        let Folder {
            plugins: mut by_id,
            refused,
        } = read_folder(plugins)?;
        for (id, binary) in instances {
            match facts_of(&program_of(plugins, id, Some(binary)), id.as_str()) {
                Ok(file) => by_id.insert(id.clone(), file),
                // Its own file, if there is one, is not what the configuration says it runs.
                Err(_) => by_id.remove(id),
            };
        }
        let core = core.and_then(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            facts_of(path, &name).ok()
        });
        Ok(Scan {
            plugins: by_id,
            core,
            refused,
        })
    }
}

impl Inventory for Folders {
    fn scan(&self) -> BoxFuture<Result<Scan, String>> {
        let (plugins, core) = (self.plugins.clone(), self.core.clone());
        let instances = self.instances.lock();
        let instances = instances.unwrap_or_else(PoisonError::into_inner).clone();
        let watch = self.watch.clone();
        Box::pin(async move {
            let look = move || {
                // First watch, then look: what changes in between is seen twice, not missed.
                watch.refresh();
                Folders::look(&plugins, core.as_deref(), &instances).map_err(|e| e.to_string())
            };
            tokio::task::spawn_blocking(look)
                .await
                .unwrap_or_else(|gone| Err(format!("looking at the plugins folder failed: {gone}")))
        })
    }

    fn watch(&self, changed: Box<dyn Fn() + Send + Sync>) -> Result<Box<dyn Send>, String> {
        Watch::start(&self.watch, move |_paths| changed())
    }

    fn follow(&self, plans: &Plans) {
        let mut instances = self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *instances = instances_of(plans);
    }
}
