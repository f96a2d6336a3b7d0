//! Where a hub's folders are (spec §3, HP 1.2; T21–T23), and their making.
//!
//! Invariants: [`Folders::resolve`] is a pure function of [`Surroundings`] and [`Overrides`]; every path it gives is
//! absolute. Nothing is created but by [`Folders::create`], which never changes a folder that was there, except that
//! `run/private` is closed to others.

use bus::hub::tidied;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

mod error;

pub use error::{CoreNotFound, PathError};

/// Where the system layout keeps what changes.
const SYSTEM_HOME: &str = "/var/lib/hiveot";

/// Homes below these folders have the system layout.
const SYSTEM_ROOTS: [&str; 2] = ["/usr", "/opt"];

/// Where servers are that an ordinary user's `PATH` does not name.
const SERVERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The longest client id, in characters; as that of a plugin's.
const MAX_CLIENT_ID: usize = supervision::ids::MAX_ID_CHARS;

/// The longest path of a run folder, in bytes: that of a socket has at most 107 (unix(7)), and the longest name of one is
/// `/notify/` with 16 digits.
const LONGEST_RUN: usize = 107 - 24;

/// Client ids that are other accounts of the hub.
const OTHER_ACCOUNTS: [&str; 3] = ["admin", "auth", "core"];

/// What a program finds around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Its executable, links resolved.
    pub exe: PathBuf,
    /// The name it was called by.
    pub argv0: OsString,
    /// The current folder.
    pub cwd: PathBuf,
    /// The user's own folder, for `~`.
    pub user_home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// When the kernel does not tell the executable (no `/proc`) or the current folder is gone.
    pub fn of_this_process() -> Result<Self, PathError> {
        let exe = std::fs::read_link("/proc/self/exe")
            .map_err(|source| PathError::OwnExecutable { source })?;
        let cwd = std::env::current_dir().map_err(|source| PathError::CurrentFolder { source })?;
        let user_home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| {
                let user = nix::unistd::User::from_uid(nix::unistd::Uid::current());
                user.ok().flatten().map(|user| user.dir)
            });
        Ok(Surroundings {
            exe: without_deleted(exe),
            argv0: std::env::args_os().next().unwrap_or_default(),
            cwd,
            user_home,
        })
    }
}

/// An executable that was replaced while it ran is shown by the kernel as `… (deleted)`; its folder is still right.
fn without_deleted(exe: PathBuf) -> PathBuf {
    match exe
        .to_str()
        .and_then(|text| text.strip_suffix(" (deleted)"))
    {
        Some(before) => PathBuf::from(before),
        None => exe,
    }
}

/// What the command line or the environment says of folders; empty values count as not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The home; relative to the current folder.
    pub home: Option<PathBuf>,
    /// The configuration folder; relative to the home.
    pub config: Option<PathBuf>,
    /// The configuration file; relative to the configuration folder.
    pub config_file: Option<PathBuf>,
    /// The client id.
    pub client_id: Option<String>,
}

/// Which layout the folders have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All below the home.
    User,
    /// As the distribution wants it: `/opt/hiveot`, `/etc/hiveot`, `/var`.
    System,
}

/// All folders of a hub and what is named after the client id; every path absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Where the others come from.
    pub layout: Layout,
    /// The bus login of the program, and the stem of its configuration file and credentials.
    pub client_id: String,
    /// The home.
    pub home: PathBuf,
    /// The folder of the hub's own programs.
    pub bin: PathBuf,
    /// Where a core is looked for when it is not in `bin`, in order (spec §3).
    pub more_bins: Vec<PathBuf>,
    /// The plugins' executables.
    pub plugins: PathBuf,
    /// Configuration files.
    pub config: PathBuf,
    /// CA, certificates, keys, tokens.
    pub certs: PathBuf,
    /// Log files.
    pub logs: PathBuf,
    /// Data that lasts.
    pub stores: PathBuf,
    /// Sockets and process records.
    pub run: PathBuf,
    /// The configuration file.
    pub config_file: PathBuf,
    /// Whether it was given by hand, so that it must exist.
    pub config_file_given: bool,
    /// For `~` in configured paths.
    user_home: Option<PathBuf>,
}

impl Folders {
    /// Decides where everything is.
    ///
    /// # Errors
    /// A `~` that cannot be expanded, or a client id that cannot be used. Whether the home is a sensible one is
    /// decided by [`Folders::accept_home`].
    pub fn resolve(around: &Surroundings, over: &Overrides) -> Result<Self, PathError> {
        let user_home = around.user_home.as_deref();
        let exe_folder = around.exe.parent().unwrap_or(Path::new("/"));
        let found = match given(over.home.as_ref()) {
            Some(home) => absolute(home, &around.cwd, user_home)?,
            None => tidied(exe_folder.parent().unwrap_or(Path::new("/"))),
        };
        let client_id = client_id(over.client_id.as_deref(), &around.argv0)?;
        let layout = layout_of(&found);
        let (home, bin, more_bins) = match layout {
            Layout::User => {
                let bin = found.join("bin");
                // So that `launcher --home NEW` finds the core that was built beside it.
                (found, bin, vec![exe_folder.to_owned()])
            }
            Layout::System => {
                let more = ["/opt/hiveot/bin", "/opt/hiveot"].map(PathBuf::from);
                (
                    PathBuf::from(SYSTEM_HOME),
                    exe_folder.to_owned(),
                    more.to_vec(),
                )
            }
        };
        let place = |user: &str, system: &str| match layout {
            Layout::User => home.join(user),
            Layout::System => PathBuf::from(system),
        };
        let config = match given(over.config.as_ref()) {
            Some(config) => absolute(config, &home, user_home)?,
            None => place("config", "/etc/hiveot/conf.d"),
        };
        let file = given(over.config_file.as_ref());
        let config_file = match file {
            Some(file) => absolute(file, &config, user_home)?,
            None => config.join(format!("{client_id}.yaml")),
        };
        Ok(Folders {
            layout,
            plugins: place("plugins", "/opt/hiveot/plugins"),
            certs: place("certs", "/etc/hiveot/certs"),
            logs: place("logs", "/var/log/hiveot"),
            stores: place("stores", "/var/lib/hiveot"),
            run: place("run", "/run/hiveot"),
            more_bins: more_bins
                .into_iter()
                .filter(|other| *other != bin)
                .collect(),
            client_id,
            home,
            bin,
            config,
            config_file,
            config_file_given: file.is_some(),
            user_home: around.user_home.clone(),
        })
    }

    /// FIFOs, lock and process records.
    #[must_use]
    pub fn run_private(&self) -> PathBuf {
        self.run.join("private")
    }

    /// The folder of what the launcher keeps, `{stores}/launcher`, made when it is missing and closed to others: who may
    /// write there could put another journal in the place of ours. Tells whether it was open to others.
    ///
    /// # Errors
    /// It cannot be made or closed, or is another user's.
    pub fn own_store(&self) -> Result<(PathBuf, bool), PathError> {
        let path = self.stores.join("launcher");
        ensure(&path, 0o700)?;
        // It may be a link to another disk; whoever could make one may write in `stores` itself.
        let real = std::fs::canonicalize(&path).map_err(|source| PathError::Create {
            path: path.clone(),
            source,
        })?;
        let was_open = close_to_others(&real)?;
        Ok((path, was_open))
    }

    /// A path of the configuration: `~` expanded, relative to the home.
    ///
    /// # Errors
    /// A `~` that cannot be expanded.
    pub fn in_home(&self, path: &Path) -> Result<PathBuf, PathError> {
        absolute(path, &self.home, self.user_home.as_deref())
    }

    /// A configuration file named in the configuration: `~` expanded, relative to the configuration folder.
    ///
    /// # Errors
    /// A `~` that cannot be expanded.
    pub fn in_config(&self, path: &Path) -> Result<PathBuf, PathError> {
        absolute(path, &self.config, self.user_home.as_deref())
    }

    /// Finds a program of the hub by its file name: in `bin`, then where spec §3 says.
    ///
    /// # Errors
    /// With the original's text (HP 1.5) when it is nowhere; the path is that in `bin`.
    pub fn find_core(&self, core_bin: &str) -> Result<PathBuf, CoreNotFound> {
        self.find_among(core_bin, std::iter::empty())
    }

    /// As [`Folders::find_core`], then in `search` (the value of `PATH`) and where servers are that are not in an ordinary
    /// user's; an absolute path is only looked for there.
    ///
    /// # Errors
    /// As there; the path is that in `bin`, or the absolute one.
    pub fn find_any_core(
        &self,
        core_bin: &str,
        search: Option<&OsStr>,
    ) -> Result<PathBuf, CoreNotFound> {
        let search: Vec<PathBuf> = search
            .map(|search| std::env::split_paths(search).collect())
            .unwrap_or_default();
        // Relative entries of PATH depend on where the launcher was started.
        let search = search.into_iter().filter(|folder| folder.is_absolute());
        self.find_among(core_bin, search.chain(SERVERS.map(PathBuf::from)))
    }

    fn find_among(
        &self,
        core_bin: &str,
        further: impl Iterator<Item = PathBuf>,
    ) -> Result<PathBuf, CoreNotFound> {
        let first = self.bin.join(core_bin);
        std::iter::once(first.clone())
            .chain(self.more_bins.iter().map(|bin| bin.join(core_bin)))
            .chain(further.map(|folder| folder.join(core_bin)))
            .find(|path| path.is_file())
            .ok_or(CoreNotFound { path: first })
    }

    /// Decides whether the home may be one: not `/`, `/etc`, `/tmp` or a user's own folder (HP 1.2).
    ///
    /// # Errors
    /// When it may not.
    pub fn accept_home(&self) -> Result<(), PathError> {
        let refused = ["/", "/etc", "/tmp", "/home"]
            .map(Path::new)
            .contains(&self.home.as_path())
            || self.home.parent() == Some(Path::new("/home"));
        if !refused {
            return Ok(());
        }
        let example = match self.user_home.as_deref() {
            Some(user_home) if user_home != Path::new("/") => user_home.join("hiveot"),
            Some(_) | None => PathBuf::from("/opt/hiveot"),
        };
        Err(PathError::HomeRefused {
            home: self.home.clone(),
            example,
        })
    }

    /// Decides whether sockets can be made in the run folder.
    ///
    /// # Errors
    /// When its path is too long for them.
    pub fn accept_run(&self) -> Result<(), PathError> {
        let length = self.run.as_os_str().len();
        if length <= LONGEST_RUN {
            return Ok(());
        }
        Err(PathError::TooLong {
            run: self.run.clone(),
            length,
            most: LONGEST_RUN,
        })
    }

    /// Decides whether the folder of the configuration may be one: it is, or it is missing and will be made (spec §3).
    ///
    /// # Errors
    /// When something else is there.
    pub fn accept_config(&self) -> Result<(), PathError> {
        match std::fs::metadata(&self.config) {
            Ok(found) if !found.is_dir() => Err(PathError::ConfigNotAFolder {
                path: self.config.clone(),
            }),
            // Whoever makes or reads it says what is wrong.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// All folders with the modes they are made with, those inside others last.
    #[must_use]
    pub fn with_modes(&self) -> Vec<(PathBuf, u32)> {
        [
            (&self.home, 0o755),
            (&self.bin, 0o755),
            (&self.plugins, 0o755),
            (&self.config, 0o755),
            (&self.certs, 0o711),
            (&self.logs, 0o755),
            (&self.stores, 0o755),
            (&self.run, 0o755),
            (&self.run_private(), 0o700),
        ]
        .map(|(path, mode)| (path.clone(), mode))
        .to_vec()
    }

    /// Makes the folders that are missing, with exact modes whatever the umask is.
    ///
    /// # Errors
    /// A home that is refused, or the first folder that cannot be made or is something else.
    pub fn create(&self) -> Result<(), PathError> {
        self.accept_home()?;
        for (path, mode) in self.with_modes() {
            ensure(&path, mode)?;
        }
        close_to_others(&self.run_private()).map(|_was_open| ())
    }
}

/// A value that is there and not empty.
fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Whole components, not the text: `/optional/x` is a user's (T23).
fn layout_of(home: &Path) -> Layout {
    if SYSTEM_ROOTS.iter().any(|root| home.starts_with(root)) {
        Layout::System
    } else {
        Layout::User
    }
}

/// The client id: as given, else the name the program was called by (spec §3).
fn client_id(given: Option<&str>, argv0: &OsStr) -> Result<String, PathError> {
    let id = match given.filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None => Path::new(argv0)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let why = if id.is_empty() {
        "it is empty"
    } else if !id.chars().all(allowed) {
        "it has a character that breaks addressing on the bus"
    } else if id.len() > MAX_CLIENT_ID {
        "it is too long"
    } else if OTHER_ACCOUNTS.contains(&id.as_str()) {
        "it is another account of the hub"
    } else {
        return Ok(id);
    };
    Err(PathError::ClientId { id, why })
}

/// `path` with `~` expanded, joined to `base` when relative, and tidied.
fn absolute(path: &Path, base: &Path, user_home: Option<&Path>) -> Result<PathBuf, PathError> {
    let mut components = path.components();
    let expanded = match components.next() {
        Some(Component::Normal(first)) if first == "~" => {
            let user_home = user_home.ok_or_else(|| PathError::NoUserHome {
                path: path.to_owned(),
            })?;
            user_home.join(components.as_path())
        }
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"~") => {
            return Err(PathError::OtherUsersHome {
                path: path.to_owned(),
            });
        }
        Some(_) | None => path.to_owned(),
    };
    Ok(tidied(&base.join(expanded)))
}

/// Makes `path` and what is missing above it.
fn ensure(path: &Path, mode: u32) -> Result<(), PathError> {
    let failed = |source| PathError::Create {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(PathError::NotAFolder {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) => return Err(failed(error)),
    }
    if let Some(parent) = path.parent() {
        ensure(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken bits away.
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The folder must be ours and closed, also when somebody made it before; tells whether others could write in it.
fn close_to_others(path: &Path) -> Result<bool, PathError> {
    let failed = |source| PathError::Create {
        path: path.to_owned(),
        source,
    };
    let meta = std::fs::symlink_metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        return Err(PathError::NotAFolder {
            path: path.to_owned(),
        });
    }
    if meta.uid() != nix::unistd::Uid::effective().as_raw() {
        return Err(PathError::NotOurs {
            path: path.to_owned(),
            owner: meta.uid(),
        });
    }
    if meta.mode() & 0o7777 == 0o700 {
        return Ok(false);
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
    Ok(meta.mode() & 0o022 != 0)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
