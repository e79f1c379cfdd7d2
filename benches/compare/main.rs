//! `cargo bench -p portage-benches`: see the library, which is apart so that it has tests.

fn main() -> std::process::ExitCode {
    portage_benches::run()
}
