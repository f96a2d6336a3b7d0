//! Where in the tree of cgroups this process is, and below which of them its runs may have theirs. Pure.
//!
//! Invariant: a cgroup is found by what the kernel's files say, never by a version or a distribution's habits.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The name that a delegated unit's own processes have a cgroup by (`DelegateSubgroup=` in the unit): no process may sit
/// in a cgroup whose children have controllers.
const SUPERVISOR: &str = "supervisor";

/// A cgroup below which runs might have theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Why its children can have no controllers; `None` = they may.
    pub(super) bare: Option<&'static str>,
}

/// Why controllers stay off below a cgroup that we are in ourselves.
const WE_ARE_IN_IT: &str = "the launcher's own cgroup has processes in it, so those below it can have no controllers; a unit \
                            with Delegate=yes and DelegateSubgroup=supervisor (systemd 254 or newer) has a cgroup for them";

/// The folder of the cgroup v2 that a process is in, and that of the topmost one it can see: from the contents of its
/// `mountinfo` and its `cgroup` file. `None` where there is none, or where it lies outside of what is mounted.
pub(super) fn own(mountinfo: &[u8], cgroup: &str) -> Option<(PathBuf, PathBuf)> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = mountinfo.split(|byte| *byte == b'\n');
    mounts.filter_map(mount).find_map(|(root, point)| {
        let below = Path::new(path).strip_prefix(&root).ok()?;
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        below
            .components()
            .all(plain)
            .then(|| (point.join(below), point))
    })
}

/// Root and mount point of a cgroup v2 file system, from a line of `mountinfo`.
fn mount(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = path_of(fields.nth(3)?);
    let point = path_of(fields.next()?);
    // Optional fields, up to a dash.
    fields.find(|field| *field == b"-")?;
    (fields.next()? == b"cgroup2").then_some((root, point))
}

/// A path as `mountinfo` writes it, where blanks and the like are octal.
fn path_of(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

/// The cgroups to try, the best first.
pub(super) fn bases(own: &Path, top: &Path) -> Vec<Base> {
    let inside = Base {
        folder: own.to_owned(),
        // The root of all may have processes; that of a namespace only looks like it, and then the kernel says so.
        bare: (own != top).then_some(WE_ARE_IN_IT),
    };
    let beside = own
        .parent()
        .filter(|_| own != top && own.file_name().is_some_and(|name| name == SUPERVISOR))
        .map(|unit| Base {
            folder: unit.to_owned(),
            bare: None,
        });
    beside.into_iter().chain([inside]).collect()
}

/// The name of the cgroup that holds the runs of a home: the same in every launcher that serves it, and in no other's.
pub(super) fn name_of_home(home: &[u8]) -> String {
    // FNV-1a: a well-known hash that is the same for ever.
    let hash = home.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("hiveot-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"24 1 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n\
        25 24 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        26 24 0:24 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n";

    fn places(own_and_top: (&str, &str)) -> Option<(PathBuf, PathBuf)> {
        Some((own_and_top.0.into(), own_and_top.1.into()))
    }

    #[test]
    fn the_own_cgroup_is_found_where_version_two_is_mounted() {
        let text = "9:name=systemd:/\n4:memory:/x\n0::/a/b\n";
        let unified = "/sys/fs/cgroup/unified";
        let expected = places(("/sys/fs/cgroup/unified/a/b", unified));
        assert_eq!(own(HYBRID, text), expected);
        assert_eq!(own(HYBRID, "0::/\n"), places((unified, unified)));
        assert_eq!(own(HYBRID, "4:memory:/x\n"), None);
        assert_eq!(own(HYBRID, "0::/../x\n"), None);
        assert_eq!(own(b"", "0::/\n"), None);
        let part = b"26 24 0:24 /pods/x /a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own(part, "0::/pods/x/y\n"), places(("/a b/y", "/a b")));
        assert_eq!(own(part, "0::/else\n"), None);
    }

    #[test]
    fn beside_the_supervisor_there_are_controllers() {
        let of = |own: &str| bases(Path::new(own), Path::new("/c"));
        let bare = |folder: &str, is_bare: bool| (PathBuf::from(folder), is_bare);
        let shown = |own: &str| -> Vec<_> {
            let all = of(own).into_iter();
            all.map(|base| (base.folder, base.bare.is_some())).collect()
        };
        assert_eq!(shown("/c"), [bare("/c", false)]);
        assert_eq!(shown("/c/s/hub"), [bare("/c/s/hub", true)]);
        let unit = [bare("/c/hub", false), bare("/c/hub/supervisor", true)];
        assert_eq!(shown("/c/hub/supervisor"), unit);
    }

    #[test]
    fn a_home_has_one_name_for_ever() {
        assert_eq!(name_of_home(b""), "hiveot-cbf29ce484222325");
        assert_eq!(name_of_home(b"a"), "hiveot-af63dc4c8601ec8c");
    }
}
