use std::os::unix::fs::symlink;

use super::*;
use crate::testing::{mode, names, under_shell};

#[test]
fn a_write_replaces_content_and_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    for (bytes, bits) in [(b"one".as_slice(), 0o400), (b"", 0o444), (b"three", 0o600)] {
        write(&path, bytes, bits).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(mode(&path), bits);
    }
    assert_eq!(names(folder.path()), ["f"]);
}

fn modes_are_exact(folder: &Path) {
    for bits in [0o400, 0o444, 0o600, 0o644, 0o666] {
        let path = folder.join(format!("{bits:o}"));
        write(&path, b"x", bits).unwrap();
        assert_eq!(mode(&path), bits);
    }
    for bits in [0o711, 0o755, 0o700] {
        let path = folder.join(format!("above{bits:o}")).join("below");
        create_folder(&path, bits).unwrap();
        assert_eq!(mode(&path), bits);
        assert_eq!(mode(path.parent().unwrap()), bits);
        create_folder(&path, 0o777).unwrap();
        assert_eq!(mode(&path), bits, "an old folder keeps its mode");
    }
}

#[test]
fn modes_do_not_depend_on_umask_0() {
    if let Some(folder) = under_shell("atomic::tests::modes_do_not_depend_on_umask_0", "umask 0") {
        modes_are_exact(&folder);
    }
}

#[test]
fn modes_do_not_depend_on_umask_077() {
    if let Some(folder) = under_shell(
        "atomic::tests::modes_do_not_depend_on_umask_077",
        "umask 077",
    ) {
        modes_are_exact(&folder);
    }
}

/// No file may grow past two blocks in that process: what a full disk does to a write, without a disk.
#[test]
fn a_write_that_does_not_fit_leaves_the_old_file_and_no_other() {
    let name = "atomic::tests::a_write_that_does_not_fit_leaves_the_old_file_and_no_other";
    let Some(folder) = under_shell(name, "trap '' XFSZ; ulimit -f 2") else {
        return;
    };
    let path = folder.join("f");
    write(&path, b"old", 0o400).unwrap();
    let error = write(&path, &[b'x'; 5000], 0o400).unwrap_err();
    assert!(
        matches!(&error, AtomicError::Write { path: named, .. } if *named == path),
        "{error:?}"
    );
    assert_eq!(error.io_kind(), Some(io::ErrorKind::FileTooLarge));
    assert!(write_new(&folder.join("g"), &[b'x'; 5000], 0o400).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(&folder), ["f"]);
}

#[test]
fn a_rename_that_fails_leaves_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    assert!(matches!(
        write(&path, b"x", 0o400),
        Err(AtomicError::Replace { .. })
    ));
    assert_eq!(names(folder.path()), ["taken"]);
}

#[test]
fn errors_name_path_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none").join("f");
    let error = write(&path, b"x", 0o400).unwrap_err();
    assert!(matches!(error, AtomicError::Create { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(matches!(
        write(Path::new("/"), b"x", 0o400),
        Err(AtomicError::NotAPath { .. })
    ));
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(
        create_folder(&folder.path().join("file"), 0o755),
        Err(AtomicError::CreateFolder { .. })
    ));
}

#[test]
fn a_new_file_replaces_nothing_not_even_a_dangling_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    write_new(&path, b"first", 0o400).unwrap();
    assert!(matches!(
        write_new(&path, b"second", 0o400),
        Err(AtomicError::Exists { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"first");
    let link = folder.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert!(matches!(
        write_new(&link, b"x", 0o400),
        Err(AtomicError::Exists { .. })
    ));
    assert_eq!(names(folder.path()), ["f", "link"]);
}

#[test]
fn of_many_that_create_at_once_one_succeeds_and_readers_see_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let won = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8u8)
            .map(|n| {
                let path = &path;
                scope.spawn(move || {
                    let won = write_new(path, &[n; 4000], 0o400).is_ok();
                    for _ in 0..5 {
                        write(path, &[n; 4000], 0o400).unwrap();
                        let seen = read(path, 5000).unwrap();
                        assert_eq!(seen.len(), 4000);
                        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
                    }
                    won
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .filter(|won| *won)
            .count()
    });
    assert_eq!(won, 1);
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn what_is_right_already_is_not_touched() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    assert!(write_if_different(&path, b"x", 0o444).unwrap());
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(!write_if_different(&path, b"x", 0o444).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert!(write_if_different(&path, b"y", 0o444).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"y");
}

#[test]
fn reading_is_bounded_and_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    assert!(read(&path, 10).unwrap_err().is_missing());
    fs::write(&path, [b'x'; 11]).unwrap();
    assert!(matches!(
        read(&path, 10),
        Err(AtomicError::TooBig { limit: 10, .. })
    ));
    assert_eq!(read(&path, 11).unwrap().len(), 11);
    fs::write(&path, [0xff]).unwrap();
    assert!(matches!(read_text(&path), Err(AtomicError::NotText { .. })));
    assert!(matches!(
        read(folder.path(), 10),
        Err(AtomicError::NotAFile { .. })
    ));
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(read(&fifo, 10), Err(AtomicError::NotAFile { .. })));
}

#[test]
fn only_old_temporary_files_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".f.Ab12Cd.new", ".hidden", "f.new", "f"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(sweep(folder.path(), SystemTime::now(), hour), 0);
    assert_eq!(sweep(folder.path(), SystemTime::now() + 2 * hour, hour), 1);
    assert_eq!(names(folder.path()), [".hidden", "f", "f.new"]);
    // What a killed writer leaves is of that form.
    let temporary = prepare(&folder.path().join("g"), b"x", 0o400).unwrap();
    let (_, left) = temporary.keep().unwrap();
    assert_eq!(sweep(folder.path(), SystemTime::now() + 2 * hour, hour), 1);
    assert!(!left.exists());
}
