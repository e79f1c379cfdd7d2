//! TODO(promise)
