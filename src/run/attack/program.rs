//! A program that cheats, as a text with gaps.

#[derive(Clone, Copy)]
pub(super) struct Program {
    pub class: &'static str,
    pub name: &'static str,
    /// Its text. What stands between two `@` is filled in for the file that it takes the place of.
    pub body: &'static str,
}

pub(super) const fn program(
    class: &'static str,
    name: &'static str,
    body: &'static str,
) -> Program {
    Program { class, name, body }
}
