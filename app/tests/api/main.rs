//! The API and the pages, asked over the real router with rows put into real databases.

mod access;
mod acts;
#[path = "../support/databases.rs"]
mod databases;
mod environments;
mod pages;
mod rest;
mod stream;
mod world;
