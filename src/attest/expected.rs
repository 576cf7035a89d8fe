//! What a signed statement must say.

use crate::record::ids::Digest;
use crate::record::statement::Statement;

/// A statement as admit makes it now, and the places (JSON pointers) in which a signed one may differ.
#[derive(Clone, Debug)]
pub struct Expected {
    pub statement: Statement,
    /// What depends on the moment and the program that made it.
    pub free: &'static [&'static str],
    /// Digest of the list of packages that a signed one may spell out.
    pub listed: Option<Digest>,
}

impl From<Statement> for Expected {
    fn from(statement: Statement) -> Self {
        Self { statement, free: &[], listed: None }
    }
}
