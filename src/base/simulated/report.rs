//! What a simulation says of a program that does not end well.

#![forbid(unsafe_code)]

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody can run, and no time that passes would change that.
    Hang,
    /// The program does not come to an end.
    Endless,
    /// The program has ended, and cells of it are still there.
    Leak,
}

/// What is wrong, and all that is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    /// One line for each actor that has not ended.
    pub(crate) actors: Vec<String>,
    /// One line for each cell that has no outcome, or has not been freed.
    pub(crate) cells: Vec<String>,
}
