//! Why a simulation did not end well.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use crate::base::simulated::{Kind, Report};

/// Why a program of a simulation did not come to a good end.
///
/// Its text says which threads were left and what they wait for, which handles have no outcome,
/// and the choices that led there.
#[derive(Clone, Debug)]
pub struct Fault {
    report: Box<Report>,
    choices: Vec<u8>,
}

impl Fault {
    pub(super) fn new(report: Report, choices: Vec<u8>) -> Self {
        Self {
            report: Box::new(report),
            choices,
        }
    }

    /// Nobody could run, and no time that passes would have changed that.
    #[must_use]
    pub fn is_hang(&self) -> bool {
        self.report.kind == Kind::Hang
    }

    /// The program did not come to an end.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.report.kind == Kind::Endless
    }

    /// The program ended, and handles, jobs or tasks of it are still alive.
    #[must_use]
    pub fn is_leak(&self) -> bool {
        self.report.kind == Kind::Leak
    }

    /// The choices that led here: [`run`](super::run) with them does the same again.
    #[must_use]
    pub fn choices(&self) -> &[u8] {
        &self.choices
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        (self.report.kind, &self.choices) == (other.report.kind, &other.choices)
    }
}

impl Eq for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.report.kind {
            Kind::Hang => "nobody can go on",
            Kind::Endless => "there is no end",
            Kind::Leak => "what was made is still there",
        })?;
        for line in &self.report.actors {
            write!(f, "\n  thread {line}")?;
        }
        for line in &self.report.cells {
            write!(f, "\n  task {line}")?;
        }
        write!(f, "\n  choices {:?}", self.choices)
    }
}

impl Error for Fault {}
