//! A YAML document as a tree in which each node knows its place.
//!
//! Invariants: every map has each key once; no tree is deeper than [`MAX_DEPTH`]; there are no anchors, aliases and tags, so a
//! tree is never larger than its file. All that breaks these rules is reported, and what can be read is still in the tree,
//! so that the decoder finds the rest.

use super::problem::{KeyPath, Place, Problem};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};
use std::borrow::Cow;
use std::collections::HashMap;

/// How deep lists and maps may be nested; the configuration needs four.
const MAX_DEPTH: usize = 32;

/// What is expected where the parser gave up.
pub const GOOD_YAML: &str = "key: value lines, indented by spaces, with quotes and brackets closed";

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text that may also mean a number, a switch or nothing.
    Plain(String),
    /// Text in quotes or as a block: never anything but text.
    Quoted(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in order of the file.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

/// Reads a document; no node when the file is empty. The problems are in no order.
#[must_use]
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let stop = match event {
            Ok((event, span)) => builder.take(event, place(span.start)),
            Err(error) => {
                builder.broken(&error, text);
                true
            }
        };
        if stop {
            break;
        }
    }
    // What is still open when the reading stopped is closed, so that its complete parts are checked too.
    while !builder.open.is_empty() {
        builder.close();
    }
    (builder.root, builder.problems)
}

fn place(marker: Marker) -> Place {
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// A list or map that is being read.
#[derive(Debug)]
enum Open {
    List {
        place: Place,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        entries: Vec<Entry>,
        lines: HashMap<String, usize>,
        waiting: Waiting,
    },
}

/// What comes next in a map.
#[derive(Debug)]
enum Waiting {
    Key,
    Value {
        key: String,
        place: Place,
    },
    /// The key cannot be used; the value is read and forgotten.
    Forgotten,
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    problems: Vec<Problem>,
}

impl Builder {
    /// Takes an event; true = nothing sensible can follow.
    fn take(&mut self, event: Event<'_>, place: Place) -> bool {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => false,
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problem(place, "a second document begins here", "one document");
                }
                self.documents > 1
            }
            Event::Alias(_) => {
                self.problem(
                    place,
                    "aliases (*name) are not supported",
                    "the value itself",
                );
                self.finish(Node {
                    place,
                    value: Value::Plain(String::new()),
                });
                false
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.decorations(place, anchor, tag.is_some());
                self.finish(Node {
                    place,
                    value: scalar(text, style),
                });
                false
            }
            Event::SequenceStart(anchor, tag) => {
                self.decorations(place, anchor, tag.is_some());
                self.begin(Open::List {
                    place,
                    items: Vec::new(),
                })
            }
            Event::MappingStart(anchor, tag) => {
                self.decorations(place, anchor, tag.is_some());
                self.begin(Open::Map {
                    place,
                    entries: Vec::new(),
                    lines: HashMap::new(),
                    waiting: Waiting::Key,
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                false
            }
        }
    }

    fn decorations(&mut self, place: Place, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.problem(
                place,
                "anchors (&name) are not supported",
                "the value alone",
            );
        }
        if tagged {
            let expected = "the value alone, in quotes when it is text";
            self.problem(place, "tags (!name) are not supported", expected);
        }
    }

    fn begin(&mut self, open: Open) -> bool {
        let place = match &open {
            Open::List { place, .. } | Open::Map { place, .. } => *place,
        };
        if self.open.len() >= MAX_DEPTH {
            let expected = "at most 32 levels of lists and maps";
            self.problem(place, "is nested too deep", expected);
            return true;
        }
        self.open.push(open);
        false
    }

    fn close(&mut self) {
        let node = match self.open.pop() {
            Some(Open::List { place, items }) => Node {
                place,
                value: Value::List(items),
            },
            Some(Open::Map { place, entries, .. }) => Node {
                place,
                value: Value::Map(entries),
            },
            None => return,
        };
        self.finish(node);
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, node: Node) {
        let here = self.path();
        match self.open.last_mut() {
            None => {
                self.root.get_or_insert(node);
            }
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                entries,
                lines,
                waiting,
                ..
            }) => match std::mem::replace(waiting, Waiting::Key) {
                Waiting::Forgotten => {}
                Waiting::Value { key, place } => entries.push(Entry { key, place, node }),
                Waiting::Key => match key_of(node.value) {
                    Err(wrong) => {
                        *waiting = Waiting::Forgotten;
                        let (path, expected) = (here, "the name of a key");
                        self.add(node.place, path, wrong.to_owned(), expected.to_owned());
                    }
                    Ok(key) => match lines.get(&key) {
                        Some(first) => {
                            *waiting = Waiting::Forgotten;
                            let wrong = format!("is written twice, first in line {first}");
                            let path = here.key(&key);
                            self.add(node.place, path, wrong, "each key once".to_owned());
                        }
                        None => {
                            lines.insert(key.clone(), node.place.line);
                            *waiting = Waiting::Value {
                                key,
                                place: node.place,
                            };
                        }
                    },
                },
            },
        }
    }

    fn broken(&mut self, error: &ScanError, text: &str) {
        let at = place(*error.marker());
        let tab = Some(at.line)
            .filter(|_| error.info().contains("tab"))
            .and_then(|line| tab_in_indentation(text, line));
        if let Some(at) = tab {
            let expected = "indentation by spaces";
            return self.problem(at, "is indented by a tab", expected);
        }
        let wrong = format!("is not YAML: {}", error.info());
        self.add(at, self.path(), wrong, GOOD_YAML.to_owned());
    }

    fn problem(&mut self, place: Place, wrong: &str, expected: &str) {
        self.add(place, self.path(), wrong.to_owned(), expected.to_owned());
    }

    fn add(&mut self, place: Place, path: KeyPath, wrong: String, expected: String) {
        self.problems.push(Problem {
            place,
            path,
            wrong,
            expected,
            nearest: None,
        });
    }

    /// The path of what comes next.
    fn path(&self) -> KeyPath {
        self.open
            .iter()
            .fold(KeyPath::top(), |path, open| match open {
                Open::List { items, .. } => path.item(items.len()),
                Open::Map { waiting, .. } => match waiting {
                    Waiting::Value { key, .. } => path.key(key),
                    Waiting::Key | Waiting::Forgotten => path,
                },
            })
    }
}

/// The first tab that indents something, from a line on: the parser names the place where it began to matter.
fn tab_in_indentation(text: &str, from: usize) -> Option<Place> {
    let lines = text.split(['\n', '\r']).enumerate().skip(from - 1);
    let mut tabs = lines.filter_map(|(at, line)| {
        let indentation = line.find(|c: char| !matches!(c, ' ' | '\t'))?;
        let tab = line.get(..indentation)?.find('\t')?;
        Some(Place {
            line: at + 1,
            column: tab + 1,
        })
    });
    tabs.next()
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain => Value::Plain(text.into_owned()),
        ScalarStyle::SingleQuoted
        | ScalarStyle::DoubleQuoted
        | ScalarStyle::Literal
        | ScalarStyle::Folded => Value::Quoted(text.into_owned()),
    }
}

fn key_of(value: Value) -> Result<String, &'static str> {
    match value {
        Value::Plain(text) | Value::Quoted(text) if text.is_empty() => {
            Err("has a key without name")
        }
        Value::Plain(text) | Value::Quoted(text) => Ok(text),
        Value::List(_) => Err("has a list as key"),
        Value::Map(_) => Err("has a map as key"),
    }
}
