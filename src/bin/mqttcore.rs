//! mqttcore: the embedded core of a HiveOT hub. See the crate `mqttcore`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mqttcore::run(std::env::args_os())
}
