//! New passwords: typed without echo, read from standard input, or generated.
//!
//! Invariant: none is ever taken from the command line, where every user of the machine can see it.

use super::exit::Failure;
use super::people::Passwords;
use creds::Secret;
use rand::Rng;
use std::io::{self, BufRead, IsTerminal};

/// The longest line that is read; the core takes 72 bytes.
const LONGEST: u64 = 1024;
/// Characters of a generated one: some 93 bits.
const LENGTH: usize = 16;
/// No two of these look alike.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Passwords of people at a terminal, or of the program that runs this one.
pub(super) struct Asked;

impl Passwords for Asked {
    async fn ask(&self, id: &str) -> Result<Secret, Failure> {
        let id = id.to_owned();
        // The connection is kept alive meanwhile.
        let asked = tokio::task::spawn_blocking(move || {
            if io::stdin().is_terminal() {
                typed(&id)
            } else {
                line(io::stdin().lock())
            }
        });
        asked
            .await
            .unwrap_or_else(|error| Err(cannot_read(&error.to_string())))
    }

    fn generate(&self) -> Secret {
        let mut chance = rand::rng();
        let letter = |_| char::from(LETTERS[chance.random_range(0..LETTERS.len())]);
        Secret::new((0..LENGTH).map(letter).collect())
    }
}

/// Asks twice, as nobody sees what is typed.
fn typed(id: &str) -> Result<Secret, Failure> {
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt).map_err(|error| cannot_read(&error.to_string()))
    };
    // What is asked for is told apart by name, and a name may hold anything.
    let first = ask(format!("New password of {}: ", super::say::escaped(id)))?;
    if first.is_empty() {
        return Err(none());
    }
    if ask("The same again: ".to_owned())? != first {
        return Err(Failure::failed(
            "the two passwords are not the same",
            "nothing was changed: try again",
        ));
    }
    Ok(Secret::new(first))
}

/// The first line, without its end.
fn line(from: impl BufRead) -> Result<Secret, Failure> {
    let mut bytes = Vec::new();
    from.take(LONGEST)
        .read_until(b'\n', &mut bytes)
        .map_err(|error| cannot_read(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot_read("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(none());
    }
    Ok(Secret::new(text.to_owned()))
}

fn none() -> Failure {
    Failure::usage(
        "no password was given",
        "type it on a terminal, give it as a line of standard input, or have one generated: hubcli password --generate ID",
    )
}

fn cannot_read(why: &str) -> Failure {
    Failure::failed(
        format!("the password cannot be read: {why}"),
        "nothing was changed: give it as a line of standard input",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_its_end() {
        for text in ["secret", "secret\n", "secret\r\n", "secret\nmore\n"] {
            assert_eq!(line(text.as_bytes()).unwrap().expose(), "secret");
        }
        assert_eq!(line(" a b \n".as_bytes()).unwrap().expose(), " a b ");
        for none in ["", "\n", "\r\n"] {
            assert_eq!(
                line(none.as_bytes()).unwrap_err().text,
                "no password was given"
            );
        }
        assert!(line(&b"\xff\n"[..]).is_err());
        let endless = "x".repeat(1 << 16);
        assert_eq!(line(endless.as_bytes()).unwrap().expose().len(), 1024);
    }

    #[test]
    fn generated_ones_differ_and_can_be_typed() {
        let [first, second] = [(); 2].map(|()| Asked.generate());
        assert_ne!(first, second);
        assert_eq!(first.expose().len(), LENGTH);
        assert!(first.expose().bytes().all(|byte| LETTERS.contains(&byte)));
    }
}
