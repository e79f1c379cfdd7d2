//! TODO(promise)

