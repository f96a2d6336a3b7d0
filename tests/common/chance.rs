//! Choices that follow from a seed.
//!
//! Invariant: the same seed makes the same choices; a test prints it, and takes it from its variable.

/// A small generator, good enough to choose (splitmix64).
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The seed of a variable, or another one each time; printed for whoever wants the same run again.
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    pub fn seed(variable: &str) -> u64 {
        let given = std::env::var(variable)
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            u64::from(std::process::id()) << 20
                | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos())
        });
        println!("{variable}={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound` - 1; 0 when there is no room.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Once in `of`.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// Changes bytes here and there: others, more, fewer, twice, or cut off.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let length = self.below(8) + 1;
            let to = (at + length).min(bytes.len());
            match self.below(9) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.byte(),
                2 if !bytes.is_empty() => {
                    bytes[at] = *self.of(&[0, 1, 0x7f, 0x80, 0xc0, 0xed, 0xfe, 0xff]);
                }
                3 => drop(bytes.drain(at..to)),
                4 => bytes.truncate(at),
                5 => {
                    let piece = bytes[at..to].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
                6 => {
                    let piece: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                    drop(bytes.splice(at..at, piece));
                }
                7 => {
                    let from = self.below(bytes.len());
                    let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                    drop(bytes.splice(at..to, piece));
                }
                // What stands for an end, a beginning or a level in one or another text.
                _ => bytes.insert(at, *self.of(b"/+#$.:-_=\"\\{}[], \n\t\0&*!|>%'")),
            }
        }
    }
}
