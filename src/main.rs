//! Parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the sandbox's first process is this program again, and must have one thread.
    if let Some(code) = admit::sandbox::maybe_child(std::env::args_os()) {
        return ExitCode::from(code);
    }
    // And so must those that read what an agent left, and what a source's host sent.
    if let Some(code) = admit::run::reader::maybe_child(std::env::args_os()) {
        return ExitCode::from(code);
    }
    if let Some(code) = admit::git::confined::maybe_child(std::env::args_os()) {
        return ExitCode::from(code);
    }
    admit::host::raise_open_files();
    admit::host::outlive_file_size();
    ExitCode::from(admit::cli::main(std::env::args_os()))
}
