//! Environment files: `NAME=VALUE` lines, as systemd's `EnvironmentFile` has them. Pure.

/// The numbers, from 1, of all lines that are not `NAME=VALUE`, in order. The lines themselves are kept out of it, as
/// their values may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadLines(pub(super) Vec<usize>);

/// So many are named.
const NAMED: usize = 10;

impl BadLines {
    /// What is wrong with `file`: the place of each bad line, `file:line`, then why.
    pub(super) fn text(&self, file: &std::path::Path) -> String {
        let places: Vec<String> = self
            .0
            .iter()
            .take(NAMED)
            .map(|line| format!("{}:{line}", file.display()))
            .collect();
        let places = places.join(", ");
        match (self.0.len(), self.0.len().saturating_sub(NAMED)) {
            (1, _) => format!("{places}: the line is not NAME=VALUE"),
            (_, 0) => format!("{places}: these lines are not NAME=VALUE"),
            (_, more) => format!("{places} and {more} more: these lines are not NAME=VALUE"),
        }
    }
}

/// The variables of a file, in its order. Empty lines and those that begin with `#` or `;` are passed over; quotes
/// around a whole value are taken off.
///
/// # Errors
/// All lines that are something else.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, BadLines> {
    let mut variables = Vec::new();
    let mut bad = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match variable(line) {
            Some(variable) => variables.push(variable),
            None => bad.push(index + 1),
        }
    }
    if bad.is_empty() {
        Ok(variables)
    } else {
        Err(BadLines(bad))
    }
}

/// `NAME=VALUE`.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let letter = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(letter)
    {
        return None;
    }
    let value = value.trim();
    if value.contains('\0') {
        return None;
    }
    let bare = ['"', '\''].iter().find_map(|quote| {
        let inside = value.strip_prefix(*quote)?.strip_suffix(*quote)?;
        Some(inside)
    });
    Some((name.to_owned(), bare.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_comments_or_errors() {
        let read = parse("# c\n\nA=1\n export B = 'x y' \nC=\"\"\nD=a=b\n;c\nE='\n").unwrap();
        let pairs: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("A", "1"),
                ("B", "x y"),
                ("C", ""),
                ("D", "a=b"),
                ("E", "'")
            ]
        );
        for (text, line) in [
            ("x", 1),
            ("A=1\n=2", 2),
            ("1A=2", 1),
            ("A B=2", 1),
            ("A=\0", 1),
        ] {
            assert_eq!(parse(text), Err(BadLines(vec![line])), "{text:?}");
        }
    }

    #[test]
    fn all_bad_lines_are_told_at_once() {
        let bad = parse("x\nA=1\n\n1A=2\n").unwrap_err();
        let file = std::path::Path::new("/c/a.env");
        assert_eq!(
            bad.text(file),
            "/c/a.env:1, /c/a.env:4: these lines are not NAME=VALUE"
        );
        let many = parse(&"secret\n".repeat(12)).unwrap_err().text(file);
        assert!(many.ends_with("/c/a.env:10 and 2 more: these lines are not NAME=VALUE"));
        assert!(!many.contains("secret"));
    }
}
