//! Where everything lies (HP 1.2 with the repairs of spec §3).
//!
//! Invariants: the home comes from the resolved executable, never from argv\[0\] or the current folder (T22); system
//! mode is decided by whole path components (T23); all paths are absolute.

use std::path::{Path, PathBuf};

use bus::hub::tidied;
use creds::atomic::{self, AtomicError};
use thiserror::Error;

/// Mode of folders anybody may look into.
const OPEN: u32 = 0o755;
/// Mode of the certs folder: files by name only.
const CERTS: u32 = 0o711;

/// A home that cannot be one.
#[derive(Debug, Error)]
pub enum FolderError {
    /// `/etc`, `/tmp` and the like (HP 1.2).
    #[error("{home} cannot be the home of a hub; give another with --home")]
    Home {
        /// The home.
        home: PathBuf,
    },
    /// A folder could not be made.
    #[error("cannot make the hub's folders")]
    Create {
        /// Which, and why.
        #[source]
        source: AtomicError,
    },
}

/// The folders of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Holds the others in user mode.
    pub home: PathBuf,
    /// Programs.
    pub bin: PathBuf,
    /// Plugins.
    pub plugins: PathBuf,
    /// Configuration files.
    pub config: PathBuf,
    /// Keys, tokens, certificates.
    pub certs: PathBuf,
    /// Logs.
    pub logs: PathBuf,
    /// What services keep; the client table among it.
    pub stores: PathBuf,
    /// Sockets, and what is only true while the core runs.
    pub run: PathBuf,
}

/// Where the command line and the system say things are.
#[derive(Debug, Clone)]
pub struct Whereabouts<'a> {
    /// The resolved path of this program.
    pub executable: &'a Path,
    /// The current folder, against which a relative home resolves.
    pub current: &'a Path,
    /// The user's own folder, for `~`.
    pub user_home: Option<&'a Path>,
    /// `--home`.
    pub home: Option<&'a Path>,
    /// `--config`; relative to the home (T21).
    pub config: Option<&'a Path>,
}

impl Folders {
    /// The folders of a hub with that home, all inside it.
    #[must_use]
    pub fn in_home(home: &Path) -> Folders {
        Folders {
            home: home.to_owned(),
            bin: home.join("bin"),
            plugins: home.join("plugins"),
            config: home.join("config"),
            certs: home.join("certs"),
            logs: home.join("logs"),
            stores: home.join("stores"),
            run: home.join("run"),
        }
    }

    /// The folders of a hub that is part of the system, with programs in `bin`.
    #[must_use]
    pub fn of_the_system(bin: &Path) -> Folders {
        Folders {
            home: "/var/lib/hiveot".into(),
            bin: bin.to_owned(),
            plugins: "/opt/hiveot/plugins".into(),
            config: "/etc/hiveot/conf.d".into(),
            certs: "/etc/hiveot/certs".into(),
            logs: "/var/log/hiveot".into(),
            stores: "/var/lib/hiveot".into(),
            run: "/run/hiveot".into(),
        }
    }

    /// Decides where everything is. Touches no file.
    #[must_use]
    pub fn find(given: &Whereabouts<'_>) -> Folders {
        let bin = given.executable.parent().unwrap_or(Path::new("/"));
        let home = match given.home {
            Some(home) => given.current.join(expanded(home, given.user_home)),
            None => bin.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let home = tidied(&home);
        let mut folders = if home.starts_with("/usr") || home.starts_with("/opt") {
            Folders::of_the_system(bin)
        } else {
            Folders::in_home(&home)
        };
        if let Some(config) = given.config {
            folders.config = tidied(&folders.home.join(expanded(config, given.user_home)));
        }
        folders
    }

    /// Makes what is missing, with exactly the modes of spec §3. What is there keeps its mode. Blocks.
    ///
    /// # Errors
    /// The home cannot be one, or a folder could not be made.
    pub fn create(&self) -> Result<(), FolderError> {
        let above = self.home.parent();
        let forbidden = ["/", "/etc", "/tmp", "/home"].map(Path::new);
        if forbidden.contains(&self.home.as_path()) || above == Some(Path::new("/home")) {
            return Err(FolderError::Home {
                home: self.home.clone(),
            });
        }
        for (folder, mode) in [
            (&self.home, OPEN),
            (&self.bin, OPEN),
            (&self.plugins, OPEN),
            (&self.config, OPEN),
            (&self.logs, OPEN),
            (&self.stores, OPEN),
            (&self.run, OPEN),
        ] {
            atomic::create_folder(folder, mode).map_err(|source| FolderError::Create { source })?;
        }
        // Folders above the certs folder are open; only it is not.
        if let Some(above) = self.certs.parent() {
            atomic::create_folder(above, OPEN).map_err(|source| FolderError::Create { source })?;
        }
        atomic::create_folder(&self.certs, CERTS).map_err(|source| FolderError::Create { source })
    }
}

/// `~` and `~/x` with the user's own folder.
fn expanded(path: &Path, user_home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user_home) {
        (Ok(rest), Some(home)) => home.join(rest),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn find(executable: &str, home: Option<&str>, config: Option<&str>) -> Folders {
        Folders::find(&Whereabouts {
            executable: Path::new(executable),
            current: Path::new("/work"),
            user_home: Some(Path::new("/home/me")),
            home: home.map(Path::new),
            config: config.map(Path::new),
        })
    }

    #[test]
    fn homes() {
        for (executable, home, expected) in [
            ("/home/me/hub/bin/mqttcore", None, "/home/me/hub"),
            ("/x/bin/mqttcore", Some("hub"), "/work/hub"),
            ("/x/bin/mqttcore", Some("./a/../hub/"), "/work/hub"),
            ("/x/bin/mqttcore", Some("~/hub"), "/home/me/hub"),
            ("/x/bin/mqttcore", Some("/optional/x"), "/optional/x"),
            ("/usr2/bin/mqttcore", None, "/usr2"),
        ] {
            let folders = find(executable, home, None);
            assert_eq!(folders.home, Path::new(expected));
            assert_eq!(folders.run, Path::new(expected).join("run"));
        }
        for (executable, home) in [
            ("/opt/hiveot/bin/mqttcore", None),
            ("/usr/local/bin/mqttcore", None),
            ("/x/bin/mqttcore", Some("/opt/hiveot")),
        ] {
            let folders = find(executable, home, None);
            assert_eq!(folders.run, Path::new("/run/hiveot"));
            assert_eq!(folders.config, Path::new("/etc/hiveot/conf.d"));
            assert_eq!(folders.bin, Path::new(executable).parent().unwrap());
        }
    }

    #[test]
    fn the_config_folder_is_relative_to_the_home() {
        let config = |given| find("/h/bin/mqttcore", None, Some(given)).config;
        assert_eq!(config("conf"), Path::new("/h/conf"));
        assert_eq!(config("/etc/x"), Path::new("/etc/x"));
        assert_eq!(config("~/x"), Path::new("/home/me/x"));
        // Of the system too, where the original discards it.
        let system = find("/opt/hiveot/bin/mqttcore", None, Some("conf"));
        assert_eq!(system.config, Path::new("/var/lib/hiveot/conf"));
    }

    #[test]
    fn folders_are_made_with_their_modes_and_kept_with_theirs() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = Folders::in_home(&temporary.path().join("a/hub"));
        std::fs::create_dir_all(&folders.logs).unwrap();
        std::fs::set_permissions(&folders.logs, std::fs::Permissions::from_mode(0o700)).unwrap();
        folders.create().unwrap();
        folders.create().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folders.certs), 0o711);
        assert_eq!(mode(&folders.run), 0o755);
        assert_eq!(mode(&folders.logs), 0o700);
    }

    #[test]
    fn some_homes_are_refused() {
        for home in ["/", "/etc", "/tmp", "/home", "/home/me"] {
            assert!(
                Folders::in_home(Path::new(home)).create().is_err(),
                "{home}"
            );
        }
    }
}
