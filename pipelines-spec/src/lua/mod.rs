//! The Lua front end: a hardened VM, the definition language on top of it, and the way back from a definition's name of a
//! stage to the function that is its script.

mod builder;
mod convert;
mod decide;
mod define;
pub mod failure;
mod load;
pub mod modules;
mod places;
mod require;
pub mod sandbox;
mod tokens;

#[cfg(test)]
pub(crate) use builder::builder_methods;
pub(crate) use decide::{axes, condition, condition_function, expression, validate};
pub use load::{Definition, load_definition};
pub(crate) use load::{Evaluation, LuaLanguage, check_sources, without_mark};
pub use modules::{ALIASES, BUILDER_METHODS, CLASSES, CORE_NAMES, Class, Field, Function, MODULES, Module, Scope};
pub use sandbox::{Mode, new_vm};
