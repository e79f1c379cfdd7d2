//! TODO(task)
