//! What a program keeps in memory that it does not need any more.
//!
//! Invariant: nothing is lost by it; a page that is needed after all comes back from the program's file.

use crate::sys;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Gives back what only the start needed: pages of our program that came in with it, and what the heap has free. What is
/// in use comes back by itself, page by page. Blocks for a moment; no other thread waits for it.
///
/// # Errors
/// When the map of our memory cannot be read, or the kernel refuses; then all stays as it is.
pub fn let_go_of_start() -> io::Result<()> {
    sys::trim_heap();
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for pages in only_of_file(&maps, &program) {
        // SAFETY: they show our program's file, cannot be written to and never were; what the loader changes in memory it
        // has changed long ago, and nobody else maps anything there, as the program's own mappings are never taken away.
        unsafe { sys::forget_pages(pages) }?;
    }
    Ok(())
}

/// The parts of memory that show this file and nothing else: neither may they be written to, nor has any page of them been.
fn only_of_file(maps: &str, file: &Path) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut shown = None;
    for line in maps.lines() {
        let Some((name, value)) = line.split_once(": ") else {
            if let Some(range) = shown.take() {
                found.push(range);
            }
            shown = shows(line, file);
            continue;
        };
        if matches!(name, "Anonymous" | "Swap") && value.trim() != "0 kB" {
            shown = None;
        }
    }
    found.extend(shown);
    found
}

/// The addresses of a mapping's first line, when it is one of this file that cannot be written to.
fn shows(line: &str, file: &Path) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    // Offset, device and inode.
    let path = words.nth(3)?;
    if rights.contains('w') || !line.ends_with(file.to_str()?) || !path.starts_with('/') {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two fields of each are enough.
    const MAPS: &str = "\
55d0-55e0 r--p 00000000 fe:00 77                         /opt/my hub/bin/launcher
Rss:                  64 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me sd
55e0-5600 r-xp 00010000 fe:00 77                         /opt/my hub/bin/launcher
Anonymous:             0 kB
Swap:                  0 kB
5600-5610 r--p 00030000 fe:00 77                         /opt/my hub/bin/launcher
Anonymous:            64 kB
Swap:                  0 kB
5610-5620 r--p 00040000 fe:00 77                         /opt/my hub/bin/launcher
Anonymous:             0 kB
Swap:                 64 kB
5620-5630 rw-p 00050000 fe:00 77                         /opt/my hub/bin/launcher
Anonymous:             0 kB
Swap:                  0 kB
5700-5710 rw-p 00000000 00:00 0                          [heap]
Anonymous:            64 kB
Swap:                  0 kB
7f00-7f10 r-xp 00000000 fe:00 78                         /usr/lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_what_can_come_back_is_let_go() {
        let found = only_of_file(MAPS, Path::new("/opt/my hub/bin/launcher"));
        assert_eq!(found, [0x55d0..0x55e0, 0x55e0..0x5600]);
        assert!(only_of_file(MAPS, Path::new("/opt/other")).is_empty());
    }

    #[test]
    fn the_program_goes_on() {
        static UNCHANGED: [&str; 2] = ["one", "two"];
        let heap: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let program = fs::read_link("/proc/self/exe").unwrap();
            only_of_file(&maps, &program).len()
        };
        assert!(resident() > 0);
        let_go_of_start().unwrap();
        assert_eq!(heap.iter().map(String::len).sum::<usize>(), 2890);
        assert_eq!(UNCHANGED.concat(), "onetwo");
    }
}
