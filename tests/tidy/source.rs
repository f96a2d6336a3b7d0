//! Reads Rust source as tokens: functions with their lengths, attributes, paths, test code.
//!
//! Invariants: comments and strings are never taken for code; what a macro is given is read as well; lines count from 1.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::str::FromStr;

/// A function of the source.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where `fn` stands.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

/// A path with at least two parts, `a::b`; of a group each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Its parts.
    pub parts: Vec<String>,
    /// Where it begins.
    pub line: usize,
}

/// What is known of one file.
#[derive(Debug, Default)]
pub struct Source {
    /// Lines that do not belong to an item under `#[cfg(test)]`.
    pub lines_without_tests: usize,
    /// Functions outside of `#[cfg(test)]`.
    pub functions: Vec<Function>,
    /// Lines with the word `unsafe`.
    pub unsafe_at: Vec<usize>,
    /// Lines with an `allow` within an attribute.
    pub allow_at: Vec<usize>,
    /// Paths outside of `#[cfg(test)]`.
    pub paths: Vec<Path>,
    /// Modules it declares, outside of `#[cfg(test)]`.
    pub modules: BTreeSet<String>,
    /// Modules it declares under `#[cfg(test)]`.
    pub test_modules: BTreeSet<String>,
}

impl Source {
    /// Reads a file's text.
    pub fn read(text: &str) -> Result<Source, String> {
        // A `#!` line is not Rust, but lines must keep their numbers.
        let text = match text.strip_prefix("#!") {
            Some(rest) if !rest.starts_with('[') => format!("//{rest}"),
            Some(_) | None => text.to_owned(),
        };
        let tokens = TokenStream::from_str(&text).map_err(|error| error.to_string())?;
        let mut source = Source::default();
        let mut test_lines = BTreeSet::new();
        source.everywhere(tokens.clone());
        source.outside_tests(tokens, &mut test_lines);
        source.lines_without_tests = (1..=text.lines().count())
            .filter(|line| !test_lines.contains(line))
            .count();
        Ok(source)
    }

    fn everywhere(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "unsafe" => {
                    self.unsafe_at.push(word.span().start().line);
                }
                TokenTree::Group(group) => {
                    if is_attribute(&tokens, at) && allows(group.stream()) {
                        self.allow_at.push(group.span_open().start().line);
                    }
                    self.everywhere(group.stream());
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn outside_tests(&mut self, tokens: TokenStream, test_lines: &mut BTreeSet<usize>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let TokenTree::Group(group) = token {
                if is_attribute(&tokens, at) && is_cfg_test(group.stream()) {
                    let end = item_end(&tokens, at + 1);
                    let last = tokens.get(end).map_or(0, |last| last.span().end().line);
                    test_lines.extend(group.span_open().start().line..=last);
                    let item = tokens.get(at + 1..end).unwrap_or_default();
                    self.test_modules.extend(declared_module(item));
                    at = end + 1;
                    continue;
                }
                self.outside_tests(group.stream(), test_lines);
            }
            self.function(&tokens, at);
            self.modules.extend(declared_module(&tokens[at..]));
            at = self.path(&tokens, at);
        }
    }

    fn function(&mut self, tokens: &[TokenTree], at: usize) {
        let (true, Some(TokenTree::Ident(name))) =
            (is_word(tokens.get(at), "fn"), tokens.get(at + 1))
        else {
            return;
        };
        let Some(TokenTree::Group(body)) = tokens.get(item_end(tokens, at)) else {
            return;
        };
        let line = tokens[at].span().start().line;
        self.functions.push(Function {
            name: name.to_string(),
            line,
            lines: body.span_close().end().line + 1 - line,
        });
    }

    /// Takes in the path that begins at `at`, if one does; returns where to go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let Some(TokenTree::Ident(first)) = tokens.get(at) else {
            return at + 1;
        };
        let line = first.span().start().line;
        let mut parts = vec![first.to_string()];
        let mut at = at + 1;
        while is_colons(tokens, at) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(part)) => {
                    parts.push(part.to_string());
                    at += 3;
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.members(&parts, group);
                    return at + 3;
                }
                Some(_) | None => break,
            }
        }
        if parts.len() > 1 {
            self.paths.push(Path { parts, line });
        }
        at
    }

    /// The members of `prefix::{…}`.
    fn members(&mut self, prefix: &[String], group: &Group) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
        for member in tokens.split(is_comma) {
            let Some(TokenTree::Ident(first)) = member.first() else {
                continue;
            };
            let before = self.paths.len();
            self.path(member, 0);
            if self.paths.len() == before {
                self.paths.push(Path {
                    parts: vec![first.to_string()],
                    line: first.span().start().line,
                });
            }
            for path in &mut self.paths[before..] {
                path.parts.splice(0..0, prefix.iter().cloned());
            }
        }
    }
}

/// The module that is declared by the first item of these tokens, if by its first or second word.
fn declared_module(tokens: &[TokenTree]) -> Option<String> {
    match (is_word(tokens.first(), "mod"), tokens.get(1)) {
        (true, Some(TokenTree::Ident(name))) => Some(name.to_string()),
        (_, _) => None,
    }
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether the group at `at` is that of `#[…]` or `#![…]`.
fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let bracket = matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket);
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    bracket && (is_punct(before(1), '#') || (is_punct(before(1), '!') && is_punct(before(2), '#')))
}

fn allows(attribute: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = attribute.into_iter().collect();
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(word) => {
            word == "allow" && matches!(tokens.get(at + 1), Some(TokenTree::Group(_)))
        }
        TokenTree::Group(group) => allows(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn is_cfg_test(attribute: TokenStream) -> bool {
    attribute.to_string().replace(' ', "") == "cfg(test)"
}

/// Where the item that begins at or after `at` ends: its brace group or semicolon.
fn item_end(tokens: &[TokenTree], at: usize) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    tokens
        .iter()
        .skip(at)
        .position(is_end)
        .map_or(tokens.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::read(text).unwrap();
        source.paths.iter().map(|p| p.parts.join("::")).collect()
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = Source::read("/// Doc\npub fn a(\n) {\n    b();\n}\nfn c();\n").unwrap();
        let (name, line, lines) = ("a".to_owned(), 2, 4);
        assert_eq!(source.functions, [Function { name, line, lines }]);
    }

    #[test]
    fn test_code_counts_for_nothing() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    use x::y;\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::read(text).unwrap();
        assert_eq!(source.lines_without_tests, 2);
        assert_eq!(source.functions.len(), 2);
        assert!(source.paths.is_empty());
        assert!(source.modules.is_empty());
        assert!(source.test_modules.contains("tests"));
    }

    #[test]
    fn allow_is_found_in_attributes_only() {
        let text = "#![allow(dead_code)]\n#[cfg_attr(x, allow(y))]\n#[expect(z)]\nfn allow(a: u8) { allow(a) } // allow(\n";
        assert_eq!(Source::read(text).unwrap().allow_at, [1, 2]);
    }

    #[test]
    fn unsafe_is_found_in_macros_not_in_words() {
        let text = "// unsafe\nfn a() { \"unsafe\"; }\nm! { unsafe { b() } }\n";
        assert_eq!(Source::read(text).unwrap().unsafe_at, [3]);
    }

    #[test]
    fn paths_are_found_in_groups_calls_and_macros() {
        assert_eq!(
            paths("use a::{b, c::{d, e as f}, self};\nfn g() { h::i(j!(k::l::<M>())); n.o(); }"),
            ["a::b", "a::c::d", "a::c::e", "a::self", "h::i", "k::l"]
        );
    }

    #[test]
    fn broken_source_is_an_error() {
        assert!(Source::read("fn a( {").is_err());
    }
}
