//! The house rules of the source itself: sizes, headers, who may use whom, what README points at.
//!
//! Invariant: every finding says file, line and what is wrong, and all are shown at once. Each rule is a function of text,
//! tested below with text that breaks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/readme.rs"]
mod readme;
#[path = "tidy/source.rs"]
mod source;

use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// A file has at most so many lines without its tests.
const MOST_LINES: usize = 500;
/// A function has at most so many lines.
const MOST_FUNCTION_LINES: usize = 70;
/// A program's own file has at most so many lines; the rest is in `src/app`.
const MOST_PROGRAM_LINES: usize = 60;

/// What supervision's `clippy.toml` must ban.
const BANNED_IN_SUPERVISION: [&str; 12] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::Instant::now",
    "std::hash::RandomState",
    "std::collections::HashMap",
    "std::fs::File",
    "std::fs::read_to_string",
    "std::process::Command",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::env::var",
    "std::net::TcpStream",
];

/// The sample configurations that a new hub begins with.
const SAMPLES: [&str; 1] = ["launcher.yaml"];

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where, from the root of the workspace.
    pub file: String,
    /// Which line; 0 = the file as a whole.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

fn finding(file: &str, line: usize, what: impl Into<String>) -> Finding {
    Finding {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the workspace by their path from its root.
fn rust_files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in ["src", "actors", "tests", "benches", "examples"] {
        collect(&root(), Path::new(folder), &mut files);
    }
    files
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    // Not every folder is there at all times.
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries {
        let path = folder.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(root.join(&path)).unwrap();
            files.insert(path.to_str().unwrap().to_owned(), text);
        }
    }
}

/// Files that are test code as a whole: bound neither by sizes nor, as their module has one, by a header.
fn test_code(files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (file, text) in files {
        let Ok(source) = Source::read(text) else {
            continue;
        };
        let stem = file.trim_end_matches(".rs");
        let stem = stem.trim_end_matches("/mod").trim_end_matches("/lib");
        for module in source.test_modules {
            all.insert(format!("{stem}/{module}.rs"));
            all.insert(format!("{stem}/{module}/mod.rs"));
            let below = format!("{stem}/{module}/");
            all.extend(
                files
                    .keys()
                    .filter(|file| file.starts_with(&below))
                    .cloned(),
            );
        }
    }
    all
}

/// Whether a file belongs to the integration tests or benches.
fn is_outside(file: &str) -> bool {
    file.starts_with("tests/") || file.starts_with("benches/")
}

/// The rules that concern one file alone.
fn findings_in(file: &str, text: &str, is_test_code: bool) -> Vec<Finding> {
    let source = match Source::read(text) {
        Ok(source) => source,
        Err(error) => return vec![finding(file, 0, format!("cannot be read: {error}"))],
    };
    let mut findings = Vec::new();
    if !has_header(text) && !is_test_code {
        let what =
            "the module has no header; say in `//!` what it is for and which invariants hold";
        findings.push(finding(file, 1, what));
    }
    for line in &source.allow_at {
        let what = "`allow` in an attribute; take `expect` with a reason";
        findings.push(finding(file, *line, what));
    }
    if !file.starts_with("src/os/") {
        for line in &source.unsafe_at {
            findings.push(finding(file, *line, "`unsafe` outside of src/os"));
        }
    }
    if !is_test_code && !is_outside(file) {
        findings.extend(sizes(file, &source));
    }
    findings
}

fn has_header(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//! "))
}

fn sizes(file: &str, source: &Source) -> Vec<Finding> {
    let most = if file.starts_with("src/bin/") {
        MOST_PROGRAM_LINES
    } else {
        MOST_LINES
    };
    let mut findings = Vec::new();
    if source.lines_without_tests > most {
        let lines = source.lines_without_tests;
        let what = format!("the file has {lines} lines without tests, at most {most}");
        findings.push(finding(file, 0, what));
    }
    for function in &source.functions {
        if function.lines > MOST_FUNCTION_LINES {
            let (name, lines) = (&function.name, function.lines);
            let what = format!("`{name}` has {lines} lines, at most {MOST_FUNCTION_LINES}");
            findings.push(finding(file, function.line, what));
        }
    }
    findings
}

fn bans(clippy_toml: &str) -> Vec<Finding> {
    BANNED_IN_SUPERVISION
        .iter()
        .filter(|banned| !clippy_toml.contains(&format!("path = \"{banned}\"")))
        .map(|banned| {
            finding(
                "src/supervision/clippy.toml",
                0,
                format!("must ban {banned}"),
            )
        })
        .collect()
}

/// What is wrong with the samples.
fn samples(config: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in SAMPLES {
        let file = format!("config/{name}");
        match std::fs::read_to_string(config.join(name)) {
            Err(error) => findings.push(finding(&file, 0, format!("cannot be read: {error}"))),
            Ok(text) if text.lines().any(|line| line.trim() == "- counter") => {}
            Ok(_) => {
                let what = "does not start the plugin 'counter'; README and `make run` promise it";
                findings.push(finding(&file, 0, what));
            }
        }
    }
    findings
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

#[test]
fn the_house_is_tidy() {
    let files = rust_files();
    assert!(files.contains_key("tests/tidy.rs"), "no files were found");
    let tests = test_code(&files);
    let mut findings: Vec<Finding> = files
        .iter()
        .flat_map(|(file, text)| findings_in(file, text, tests.contains(file)))
        .collect();
    findings.extend(imports::of_crates(&imports::manifests(&root())));
    findings.extend(imports::of_programs(&files));
    findings.extend(samples(&root().join("config")));
    findings.extend(bans(&read("src/supervision/clippy.toml")));
    let is_there = |path: &str| root().join(path).exists();
    findings.extend(readme::findings(&read("README.md"), is_there));
    findings.sort();
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} findings:\n{}",
        list.len(),
        list.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert!(has_header("//! It is.\n"));
        assert!(has_header("#!/bin/x\n\n//! It is.\n"));
        assert!(!has_header("use a;\n//! late\n"));
        assert!(!has_header("//!\n"));
        assert_eq!(findings_in("src/a.rs", "fn a() {}\n", false).len(), 1);
        assert_eq!(findings_in("tests/a.rs", "fn a() {}\n", false).len(), 1);
        assert!(findings_in("src/a/tests.rs", "fn a() {}\n", true).is_empty());
    }

    #[test]
    fn long_files_and_functions_are_found_unless_they_are_tests() {
        let body = "    x();\n".repeat(MOST_FUNCTION_LINES - 1);
        let text = format!("//! A.\nfn a() {{\n{body}}}\n");
        assert_eq!(
            whats(&findings_in("src/a.rs", &text, false)),
            ["src/a.rs:2: `a` has 71 lines, at most 70"]
        );
        assert!(findings_in("src/a/tests.rs", &text, true).is_empty());
        let text = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(MOST_LINES));
        assert_eq!(findings_in("src/a.rs", &text, false).len(), 1);
        assert!(findings_in("tests/a.rs", &text, false).is_empty());
    }

    #[test]
    fn allow_and_unsafe_are_found_with_their_lines() {
        let text = "//! A.\n#[allow(dead_code)]\nfn a() {\n    unsafe { b() }\n}\n";
        assert_eq!(
            whats(&findings_in("src/app/a.rs", text, false)),
            [
                "src/app/a.rs:2: `allow` in an attribute; take `expect` with a reason",
                "src/app/a.rs:4: `unsafe` outside of src/os"
            ]
        );
        assert_eq!(findings_in("src/os/a.rs", text, false).len(), 1);
    }

    #[test]
    fn test_modules_are_known_by_their_declaration() {
        let text = "#[cfg(test)]\nmod stub;\nmod real;\n".to_owned();
        let files = [
            "src/a/mod.rs",
            "src/a/stub.rs",
            "src/a/stub/b.rs",
            "src/a/real.rs",
        ];
        let files = files.map(|file| (file.to_owned(), text.clone()));
        let tests = test_code(&files[..1].iter().cloned().collect());
        assert!(tests.contains("src/a/stub.rs") && !tests.contains("src/a/real.rs"));
        let tests = test_code(&files.into_iter().collect());
        assert!(tests.contains("src/a/stub/b.rs"));
    }

    #[test]
    fn a_ban_that_was_lifted_is_found() {
        assert_eq!(bans("").len(), BANNED_IN_SUPERVISION.len());
    }

    #[test]
    fn a_sample_that_is_not_there_is_found() {
        assert_eq!(samples(Path::new("/nowhere")).len(), 1);
    }
}
