//! TODO(task)

