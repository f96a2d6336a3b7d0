//! What several tests of this crate need.

use std::path::{Path, PathBuf};

/// The golden vectors (HP 4.8).
pub fn vector(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/vectors")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Permission bits of a file or folder.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Names of all that lies in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Set in the process in which [`under_shell`] runs a test again.
const INNER: &str = "CREDS_TEST_INNER";

/// Runs the test `name` (full path) again in a process of its own, after `prelude` of the shell: umask and limits belong to
/// the whole process, and the other tests run beside. Gives the folder to work in when this is that process.
pub fn under_shell(name: &str, prelude: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INNER) {
        return Some(PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!(
            "{prelude}; exec \"$0\" --exact \"$1\" --nocapture --test-threads 1"
        ))
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(INNER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "under '{prelude}': {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("1 passed"),
        "no test is called {name}: {said}"
    );
    None
}
