//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
SHA-256 of every file under each PATH (default: the current directory), as sha256sum writes it.

usage: checksum [--sorted] [--] [PATH ...]

  --sorted     lines in the order of their paths; without it, as files are done
  -h, --help   this text

Links to files are read, links to folders are not entered. At most 64 MiB of files are in memory.
Each PATH is a request; diagnostics are `checksum[N]: file: reason`, N counts the PATHs from 1.

exit code: 0 all is well; 1 something was not read, or has a name that other tools may misread
(it is listed all the same); 2 usage; 130 Ctrl-C; 141 nobody reads the output
";

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) sorted: bool,
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Run(Options),
    Help,
    Wrong(String),
}

pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Command {
    let mut options = Options {
        sorted: false,
        paths: Vec::new(),
    };
    let mut only_paths = false;
    for arg in args {
        match arg.to_str() {
            Some("--") if !only_paths => only_paths = true,
            Some("--sorted") if !only_paths => options.sorted = true,
            Some("-h" | "--help") if !only_paths => return Command::Help,
            Some(flag) if !only_paths && flag.starts_with('-') => {
                return Command::Wrong(format!("there is no option {flag}"));
            }
            _ => options.paths.push(PathBuf::from(arg)),
        }
    }
    if options.paths.is_empty() {
        options.paths.push(PathBuf::from("."));
    }
    Command::Run(options)
}

#[cfg(test)]
mod tests {
    use super::{Command, Options, read};

    fn of(args: &[&str]) -> Command {
        read(args.iter().map(|arg| (*arg).into()))
    }

    fn run(sorted: bool, paths: &[&str]) -> Command {
        Command::Run(Options {
            sorted,
            paths: paths.iter().map(|path| (*path).into()).collect(),
        })
    }

    #[test]
    fn the_default_is_the_current_directory() {
        assert_eq!(of(&[]), run(false, &["."]));
        assert_eq!(of(&["--sorted"]), run(true, &["."]));
    }

    #[test]
    fn after_two_dashes_everything_is_a_path() {
        assert_eq!(
            of(&["a", "--", "--sorted", "--"]),
            run(false, &["a", "--sorted", "--"])
        );
    }

    #[test]
    fn what_is_no_option_is_said() {
        assert_eq!(of(&["a", "-h"]), Command::Help);
        assert!(matches!(of(&["--fast"]), Command::Wrong(why) if why.contains("--fast")));
    }
}
