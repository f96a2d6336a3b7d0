//! mqttcore
fn main() {}
