//! Data and the rules about it: ids, rows' types, and the one state machine. Nothing here does I/O.

pub mod ids;
pub mod role;
pub mod time;
