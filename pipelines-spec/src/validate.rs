//! From values as written to a [`crate::plan::Pipeline`], or everything that is wrong with them at once. Both front ends
//! come through here, so a mistake reads the same in Lua and in TOML.

mod checker;
mod graph;
mod inputs;
mod matrix;
mod pipeline;
mod services;
mod stage;
mod triggers;
pub(crate) mod values;

pub(crate) use pipeline::pipeline;
pub(crate) use stage::is_reviewer;
pub use values::{is_image, is_stage_name, parse_duration};

/// Stages of one plan, after expansion.
pub const STAGES_LIMIT: usize = crate::instantiate::MOST_STAGES;
/// Legs of one matrix.
pub const LEGS_LIMIT: usize = crate::matrix::MOST_LEGS;
/// Stages one stage may wait for.
pub const DEPENDENCIES_LIMIT: usize = 64;
/// Most problems told of one file.
const PROBLEMS_LIMIT: usize = 200;
/// Bytes of one plan's JSON.
pub const PLAN_LIMIT: usize = 1 << 20;

/// Which front end the values come from: the few words that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Lua,
    Toml,
}

impl Dialect {
    /// The key that holds the stages.
    pub fn stages(self) -> &'static str {
        match self {
            Self::Lua => "stages",
            Self::Toml => "steps",
        }
    }

    /// The key that holds a stage's condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Lua => "condition",
            Self::Toml => "if",
        }
    }
}

/// What the validation asks of Lua.
pub(crate) trait Language {
    /// What is wrong with a Lua expression, if anything.
    fn check_expression(&self, expression: &str) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use crate::lua::modules::{BUILDER_METHODS, class};
    use std::collections::BTreeSet;

    /// What the stubs offer and what a definition may have are told in two places, so they are held together here.
    #[test]
    fn the_stubs_offer_exactly_the_keys_there_are() {
        let of = |name: &str| class(name).unwrap().fields.iter().map(|field| field.name).collect::<BTreeSet<_>>();
        assert_eq!(of("rivet.Definition"), super::pipeline::LUA_KEYS.iter().copied().collect());
        assert_eq!(of("rivet.Triggers"), super::triggers::KEYS.iter().copied().collect());
        assert_eq!(of("rivet.Input"), super::inputs::KEYS.iter().copied().collect());
        let stage = super::stage::KEYS.iter().copied().chain(["name", "script", "condition"]).collect();
        assert_eq!(of("rivet.Stage"), stage);
        let methods: BTreeSet<&str> = BUILDER_METHODS.iter().map(|method| method.name).collect();
        assert_eq!(methods, crate::lua::builder_methods().chain(["build"]).collect());
    }
}
