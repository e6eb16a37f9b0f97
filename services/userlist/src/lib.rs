//! The userlist sample.
