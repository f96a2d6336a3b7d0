//! A message on its way to those who will get it.
//!
//! Invariant: it says whom it is from, so that what its sender lets wait is told from what others do.

/// A message before it is routed.
#[derive(Debug, Clone, Copy)]
pub struct Coming<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Who sends it.
    pub by: By<'a>,
}

/// Who sends a message.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// The client with this MQTT client id: it is the last that came from there.
    Client(&'a str),
    /// The core; these are the message's number and size.
    Core(u64, usize),
}
