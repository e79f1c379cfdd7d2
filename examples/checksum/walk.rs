//! Walks one tree, depth first, in the order of whole paths. Folders are listed on the pool, a
//! few ahead of the walk, so that it seldom waits.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use portage::JoinHandle;
use portage::bridge::exec_in_executor;

use crate::digest::reason;

/// How many folders are listed before their turn.
const AHEAD: usize = 8;

pub(crate) enum Step {
    File(PathBuf),
    /// A name and what is wrong with it.
    Trouble(PathBuf, String),
}

enum Item {
    File(PathBuf),
    Folder(PathBuf, Option<JoinHandle<Listing>>),
    Trouble(PathBuf, String),
}

impl Item {
    /// The path, and whether more paths follow from it.
    fn place(&self) -> (&Path, bool) {
        match self {
            Self::File(path) | Self::Trouble(path, _) => (path, false),
            Self::Folder(path, _) => (path, true),
        }
    }
}

type Listing = Vec<Item>;

pub(crate) struct Walk {
    /// What is still to come, the next one last.
    stack: Vec<Item>,
}

impl Walk {
    /// `root` may be anything; a folder is entered, also through a link.
    pub(crate) async fn from(root: PathBuf) -> Self {
        let path = root.clone();
        let item = match exec_in_executor(None, move || look(path)) {
            Ok(looking) => looking
                .await
                .unwrap_or_else(|e| Item::Trouble(root, e.to_string())),
            Err(refused) => Item::Trouble(root, refused.to_string()),
        };
        Self { stack: vec![item] }
    }

    pub(crate) async fn next(&mut self) -> Option<Step> {
        loop {
            match self.stack.pop()? {
                Item::File(path) => return Some(Step::File(path)),
                Item::Trouble(path, reason) => return Some(Step::Trouble(path, reason)),
                folder @ Item::Folder(..) => {
                    self.stack.push(folder);
                    if let Err(trouble) = self.enter().await {
                        return Some(trouble);
                    }
                }
            }
        }
    }

    /// Puts what is in the uppermost folder in its place.
    async fn enter(&mut self) -> Result<(), Step> {
        let refused = self.list_ahead().err().map(|refused| refused.to_string());
        let Some(Item::Folder(path, listing)) = self.stack.pop() else {
            return Ok(());
        };
        let Some(listing) = listing else {
            return Err(Step::Trouble(path, refused.unwrap_or_default()));
        };
        match listing.await {
            Ok(items) => self.stack.extend(items.into_iter().rev()),
            Err(failed) => return Err(Step::Trouble(path, failed.to_string())),
        }
        Ok(())
    }

    fn list_ahead(&mut self) -> Result<(), portage::SubmitError> {
        let folders = self.stack.iter_mut().rev().filter_map(|item| match item {
            Item::Folder(path, listing) => Some((path, listing)),
            _ => None,
        });
        for (path, listing) in folders.take(AHEAD) {
            if listing.is_none() {
                let path = path.clone();
                *listing = Some(exec_in_executor(None, move || list(&path))?);
            }
        }
        Ok(())
    }
}

fn look(path: PathBuf) -> Item {
    match fs::metadata(&path) {
        Ok(about) if about.is_dir() => Item::Folder(path, None),
        // what is wrong with it is seen, and said, where it is opened
        _ => Item::File(path),
    }
}

fn list(folder: &Path) -> Listing {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![unlisted(folder, &error)],
    };
    let mut items = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                items.push(unlisted(folder, &error));
                break;
            }
        };
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => items.push(Item::Folder(path, None)),
            // a link to a folder may lead back up: it is not entered
            Ok(kind) if kind.is_symlink() && path.is_dir() => {}
            _ => items.push(Item::File(path)),
        }
    }
    items.sort_by(|a, b| path_order(a.place(), b.place()));
    items
}

fn unlisted(folder: &Path, error: &std::io::Error) -> Item {
    Item::Trouble(
        folder.to_owned(),
        format!("cannot be listed: {}", reason(error)),
    )
}

/// The order in which the lines of a tree are sorted byte by byte: a folder counts with the
/// slash that follows it, so `a-b` stands before what is in `a`.
fn path_order(a: (&Path, bool), b: (&Path, bool)) -> Ordering {
    fn key((path, folder): (&Path, bool)) -> impl Iterator<Item = u8> {
        let bytes = path.as_os_str().as_encoded_bytes();
        bytes
            .iter()
            .copied()
            .chain((folder && !bytes.ends_with(b"/")).then_some(b'/'))
    }
    key(a).cmp(key(b))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::path::Path;

    use super::path_order;

    #[test]
    fn a_folder_is_ordered_by_what_is_in_it() {
        let order = |a: &str, a_folder, b: &str, b_folder| {
            path_order((Path::new(a), a_folder), (Path::new(b), b_folder))
        };
        assert_eq!(order("a", true, "a-b", false), Ordering::Greater);
        assert_eq!(order("a", true, "a.b", true), Ordering::Greater);
        assert_eq!(order("a", true, "a0", false), Ordering::Less);
        assert_eq!(order("a/", true, "a", true), Ordering::Equal);
        assert_eq!(order("a", false, "a", true), Ordering::Less);
    }
}
