//! hubcli
fn main() {}
