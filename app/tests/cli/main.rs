//! The command line as people and scripts meet it: the real program, its words, its streams, its exit codes.

mod exec;
mod local;
mod program;
mod remote;
