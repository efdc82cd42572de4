//! What people and programs can do: one verb, one function, in a file of its own. Comments, buttons, CLI, API and pages all call these.
