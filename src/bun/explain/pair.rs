//! The same thing of two files.

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pair<T> {
    pub a: T,
    pub b: T,
}

impl<T> Pair<T> {
    pub(crate) fn new(a: T, b: T) -> Self {
        Self { a, b }
    }
}

impl<T: PartialEq> Pair<T> {
    pub fn same(&self) -> bool {
        self.a == self.b
    }
}
