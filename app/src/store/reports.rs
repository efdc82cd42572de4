//! What the forge should show and what it was told. (Filled in with the reporter.)
