//! What the programs are made of, each in a module of its own.

pub mod config;
pub mod hubcli;
pub mod launcher;
pub mod paths;
