//! What Go's parser says of a text that is not JSON.
//!
//! Invariant: only words are made here; whether a text is JSON was decided by the parser.

use serde_json::error::{Category, Error};

/// Go's text for `error`, which the parser reported for `text`.
pub(super) fn in_the_words_of_go(text: &str, error: &Error) -> String {
    if error.classify() == Category::Eof {
        return "unexpected end of JSON input".to_owned();
    }
    let reported = error.to_string();
    let Some(byte) = offending(text, error.line(), error.column()) else {
        return "unexpected end of JSON input".to_owned();
    };
    let place = if reported.starts_with("expected value") {
        "looking for beginning of value"
    } else if reported.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if reported.starts_with("trailing comma") {
        if byte == b'}' {
            "looking for beginning of object key string"
        } else {
            "looking for beginning of value"
        }
    } else if reported.starts_with("expected `:`") {
        "after object key"
    } else if reported.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if reported.starts_with("expected `,` or `]`") {
        "after array element"
    } else if reported.starts_with("trailing characters") {
        "after top-level value"
    } else if reported.starts_with("control character") {
        "in string literal"
    } else if reported.starts_with("invalid escape") {
        "in string escape code"
    } else if reported.starts_with("invalid number") {
        "in numeric literal"
    } else if reported.starts_with("expected ident") {
        "in literal"
    } else {
        // Nesting and numbers beyond the parser's bounds: its own words say it best.
        let end = reported.find(" at line").unwrap_or(reported.len());
        return reported.get(..end).unwrap_or_default().to_owned();
    };
    format!("invalid character {} {place}", quoted(byte))
}

/// The byte at a place of the text as the parser counts: lines from 1, columns in bytes from 1.
fn offending(text: &str, line: usize, column: usize) -> Option<u8> {
    let mut rest = text.as_bytes();
    for _ in 1..line {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        rest = rest.get(end + 1..)?;
    }
    // After a line feed the parser starts to count at 0, which stands for that line feed.
    let Some(at) = column.checked_sub(1) else {
        return Some(b'\n');
    };
    rest.get(at).copied()
}

/// A byte as Go's scanner quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
