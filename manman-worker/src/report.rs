//! What `plan` and `doctor` hand to whoever prints it.

/// A finding, for programs and for people.
pub trait Report: serde::Serialize {
    /// Lines for people, each with its line feed.
    fn to_lines(&self) -> String;

    /// Whether nothing in it needs mending.
    fn is_sound(&self) -> bool {
        true
    }
}
