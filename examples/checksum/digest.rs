//! One file, read piece by piece. Runs on the pool.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use portage::cancel;
use sha2::{Digest, Sha256};

/// The most bytes of one file that are in memory.
pub(crate) const PIECE: usize = 256 * 1024;

pub(crate) struct Sum {
    pub(crate) sum: [u8; 32],
    pub(crate) bytes: u64,
}

/// Why there is no sum.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// For a person, without the name.
    Reason(String),
    /// The handle of this job was told to cancel.
    Cancelled,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Reason(reason(&error))
    }
}

/// Reads `path` to its end; `progress` follows every piece.
pub(crate) fn digest(path: &Path, progress: &AtomicU64) -> Result<Sum, Trouble> {
    let mut file = open(path).map_err(|error| explain(path, &error))?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(Trouble::Reason(format!("is {}, not a file", kind(&about))));
    }
    // one byte more, so that the end is seen in the same read
    let room = usize::try_from(about.len()).map_or(PIECE, |len| (len + 1).clamp(4096, PIECE));
    let mut piece = vec![0; room];
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        if cancel::is_cancelled() {
            return Err(Trouble::Cancelled);
        }
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&piece[..n]);
                bytes += n as u64;
                progress.fetch_add(n as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Sum {
        sum: hash.finalize().into(),
        bytes,
    })
}

/// Opens without waiting: a pipe that nobody writes to must not hold a worker.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Tells a link to nowhere from a file that went away since it was listed.
fn explain(path: &Path, error: &io::Error) -> Trouble {
    let what = fs::symlink_metadata(path);
    Trouble::Reason(match (error.kind(), what) {
        (ErrorKind::NotFound, Ok(about)) if about.is_symlink() => "is a dangling link".to_owned(),
        (ErrorKind::NotFound, _) => "is not there (any more)".to_owned(),
        // opening a socket says only that there is no such device
        (_, Ok(about)) if !about.is_file() && !about.is_symlink() => {
            format!("is {}, not a file", kind(&about))
        }
        _ => format!("cannot be opened: {}", reason(error)),
    })
}

fn kind(about: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = about.file_type();
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if about.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

/// The text of an error without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}
