//! The broker with a bug in it: a program of its own name, so that nobody takes it for the real
//! one. Only built with the feature `planted-bugs`; `THALWEG_TEST_PLANTED_BUG` names the bug.

#[path = "../../src/main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
