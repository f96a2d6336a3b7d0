//! What README points at must be there.
//!
//! Invariant: links to other places on the net are not followed; tests need no network.

use super::{Finding, finding};
use std::collections::BTreeSet;

/// Folders whose paths, written as code, are taken for paths of this repository.
const FOLDERS: [&str; 7] = [
    "src/",
    "actors/",
    "config/",
    "tests/",
    "benches/",
    "examples/",
    ".ci/",
];

/// Links and paths that lead nowhere. An empty text has none.
pub fn findings(text: &str, is_there: impl Fn(&str) -> bool) -> Vec<Finding> {
    let anchors: BTreeSet<String> = prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| anchor(line.trim_start_matches('#')))
        .collect();
    let mut findings = Vec::new();
    for (number, line) in prose(text) {
        for target in links(line) {
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            if !path.is_empty() && !path.contains("://") && !is_there(path) {
                let what = format!("links to '{path}', which is not there");
                findings.push(finding("README.md", number, what));
            }
            if path.is_empty() && !anchors.contains(fragment) {
                let what = format!("links to the heading '#{fragment}', which is not there");
                findings.push(finding("README.md", number, what));
            }
        }
        for path in code(line).filter(|code| is_path(code)) {
            if !is_there(path) {
                let what = format!("names '{path}', which is not there");
                findings.push(finding("README.md", number, what));
            }
        }
    }
    findings
}

/// Lines outside of fenced blocks with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((at + 1, line))
    })
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(code: &str) -> bool {
    FOLDERS.iter().any(|folder| code.starts_with(folder))
        && !code.contains([' ', '*', '{', '<', '…'])
}

/// The anchor that is made of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_is_found() {
        let text = "# The hub, first\n[a](#the-hub-first) [b](#none) [c](LICENSE) [d](NONE)\n\
                    `src/lib.rs` `src/none.rs` `src/{a,b}` [e](https://x.y/z)\n\
                    ```\n[f](NONE) `src/none.rs`\n```\n";
        let is_there = |path: &str| ["LICENSE", "src/lib.rs"].contains(&path);
        let found: Vec<String> = findings(text, is_there)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "README.md:2: links to the heading '#none', which is not there",
                "README.md:2: links to 'NONE', which is not there",
                "README.md:3: names 'src/none.rs', which is not there",
            ]
        );
    }
}
