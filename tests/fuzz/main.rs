//! Every parser of ours is given what nobody meant for it.
//!
//! Invariants: an input follows from `FUZZ_SEED`, its target and its number alone, and is shown when it fails; of whatever
//! is accepted the target says what must hold: at least that writing and reading it again changes nothing.
//!
//! `FUZZ_ROUNDS` is how many inputs a quick target gets; `make fuzz` runs for long.

#![expect(
    clippy::unwrap_used,
    reason = "in a test whatever does not go as expected is a finding"
)]

#[path = "../common/chance.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod chance;
mod secrets;
mod texts;
mod wire;

use chance::Chance;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// So many inputs by default for each target that is quick.
const ROUNDS: usize = 4_000;
/// Inputs that are changed and put together stay below this.
const MOST_BYTES: usize = 16 * 1024;
/// No input takes longer, even on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(2);

/// What a target begins with.
pub struct Corpus {
    /// Good and bad examples.
    pub seeds: Vec<Vec<u8>>,
    /// Pieces that mean something there.
    pub words: Vec<&'static [u8]>,
}

impl Corpus {
    /// From texts or bytes.
    pub fn of<S: AsRef<[u8]>>(
        seeds: impl IntoIterator<Item = S>,
        words: &[&'static str],
    ) -> Corpus {
        Corpus {
            seeds: seeds
                .into_iter()
                .map(|seed| seed.as_ref().to_vec())
                .collect(),
            words: words.iter().map(|word| word.as_bytes()).collect(),
        }
    }

    fn input(&self, chance: &mut Chance) -> Vec<u8> {
        let mut input = chance.of(&self.seeds).clone();
        if chance.once_in(16) {
            return (0..chance.below(64)).map(|_| chance.byte()).collect();
        }
        for _ in 0..chance.below(4) {
            match chance.below(4) {
                0 | 1 => chance.mutate(&mut input),
                2 if !self.words.is_empty() => {
                    let at = chance.below(input.len() + 1);
                    let to = (at + chance.below(4)).min(input.len());
                    let word = *chance.of(&self.words);
                    drop(input.splice(at..to, word.iter().copied()));
                }
                _ => {
                    let other = chance.of(&self.seeds);
                    let from = chance.below(other.len());
                    let to = (from + chance.below(200)).min(other.len());
                    let at = chance.below(input.len() + 1);
                    drop(input.splice(at..at, other[from..to].iter().copied()));
                }
            }
        }
        input.truncate(MOST_BYTES);
        input
    }
}

/// Runs a target with every seed and then with what becomes of them; one of `cost` gets as many fewer.
#[expect(clippy::print_stdout, reason = "a failed test shows it")]
pub fn run(target: &str, cost: usize, corpus: &Corpus, mut check: impl FnMut(&[u8])) {
    let seed = Chance::seed("FUZZ_SEED");
    let rounds = std::env::var("FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS) / cost;
    let name = target.bytes().fold(seed, |sum, byte| {
        sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    });
    let inputs = (0..rounds).map(|round| {
        let mut chance = Chance::new(name.wrapping_add(u64::try_from(round).unwrap() << 24));
        corpus.input(&mut chance)
    });
    for input in corpus.seeds.iter().cloned().chain(inputs) {
        let since = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            println!(
                "{target} fails with FUZZ_SEED={seed} for {}",
                input.escape_ascii()
            );
            resume_unwind(panic);
        }
        let took = since.elapsed();
        assert!(
            took < MOST_TIME,
            "{target} takes {took:?} for {}",
            input.escape_ascii()
        );
    }
}

/// A golden vector's text.
pub fn vectors(file: &str) -> serde_json::Value {
    let path = format!(
        "{}/tests/fixtures/vectors/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All texts in a golden vector, however deep.
pub fn texts_of(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        serde_json::Value::Object(items) => items.values().flat_map(texts_of).collect(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
            Vec::new()
        }
    }
}
