//! Who works on the fixture: the provider, or the fake engine.

pub mod case;
pub mod events;
pub mod fake;
pub mod scripted;
