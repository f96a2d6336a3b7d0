//! Makes plugin output harmless for a terminal (spec §11).

use std::fmt::Write as _;

/// Appends `bytes` to `out` so that no terminal acts on them: control characters (C0 but tab, DEL, C1), line and paragraph
/// separators and characters that turn the direction of writing become `\n`, `\r`, `\x1b` or `\u{202e}`; what is not
/// UTF-8 becomes `\xff`. All else, a backslash too, stays as it is, since the text is for people and not to be parsed.
pub fn escape_into(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push('\t'),
                c if c.is_ascii_control() => push_byte(out, c as u8),
                c if c.is_control() || steers(c) => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_byte(out, *byte);
        }
    }
}

/// [`escape_into`] as a new text.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text.as_bytes());
    out
}

fn push_byte(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

/// Not control characters by Unicode's category, but they change how the text around them is shown.
fn steers(c: char) -> bool {
    matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_gets_nothing_to_act_on() {
        let mut out = String::new();
        escape_into(
            &mut out,
            b"a\tb\x1b[31m\r\n\x7f\xff\xc2\x9b \xe2\x80\xae \xc3\xa4 \\",
        );
        assert_eq!(out, "a\tb\\x1b[31m\\r\\n\\x7f\\xff\\u{9b} \\u{202e} ä \\");
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(bytes: Vec<u8>) {
            let mut out = String::new();
            escape_into(&mut out, &bytes);
            prop_assert!(out.chars().all(|c| c == '\t' || !c.is_control()), "{out:?}");
        }
    }
}
