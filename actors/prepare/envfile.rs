//! Environment files: `NAME=VALUE` lines, as systemd's `EnvironmentFile` has them. Pure.

use thiserror::Error;

/// Why a line is none of an environment file. The values are kept out of it, as they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} is not NAME=VALUE")]
pub(super) struct EnvFileError {
    /// From 1.
    pub(super) line: usize,
}

/// The variables of a file, in its order. Empty lines and those that begin with `#` or `;` are passed over; quotes
/// around a whole value are taken off.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let error = EnvFileError { line: index + 1 };
        let (name, value) = line.split_once('=').ok_or(error.clone())?;
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        let letter = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(letter)
        {
            return Err(error);
        }
        let value = value.trim();
        if value.contains('\0') {
            return Err(error);
        }
        let bare = ['"', '\''].iter().find_map(|quote| {
            let inside = value.strip_prefix(*quote)?.strip_suffix(*quote)?;
            Some(inside)
        });
        variables.push((name.to_owned(), bare.unwrap_or(value).to_owned()));
    }
    Ok(variables)
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
            assert_eq!(parse(text), Err(EnvFileError { line }), "{text:?}");
        }
    }
}
