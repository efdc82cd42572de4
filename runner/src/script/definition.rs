//! The author's function, found again in the definition's file by its stage's name.

use super::failure::AuthorFiles;
use crate::attempt::job_error;
use mlua::{Function, Lua};
use pipelines_spec::lua::{Mode, load_definition};
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Job, JobError, JobKind};

/// Loads the file into a VM that has the core modules, and finds the stage's function.
pub(super) fn script(lua: &Lua, job: &Job) -> Result<Function, JobError> {
    lua.set_app_data(AuthorFiles::of(&job.sources));
    let loaded = load_definition(lua, &job.sources, &job.file, &job.event, Mode::Runtime);
    let definition = loaded.map_err(|problem| JobError {
        at: problem.at.as_ref().map(|at| format!("{}:{}", at.file, at.line)),
        ..job_error(ErrorClass::DefinitionError, format!("{}: {}", problem.code, problem.message))
    })?;
    let (found, what) = match job.kind {
        JobKind::Stage => (definition.script(&job.base), "script"),
        JobKind::Rollback => (definition.rollback(&job.base), "rollback"),
    };
    let missing = || format!("{} has no {what} for stage '{}'", job.file, job.base);
    found.ok_or_else(|| job_error(ErrorClass::DefinitionError, missing()))
}
