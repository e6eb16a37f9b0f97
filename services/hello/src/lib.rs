//! The hello sample.
