//! Opens an address in the person's browser.

use super::output;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

/// Opens `url` with `RIVET_BROWSER`, `BROWSER` or what the system offers. Away from a terminal nothing is opened: the
/// address was printed.
pub fn open(url: &str) {
    if !std::io::stderr().is_terminal() || !(url.starts_with("http://") || url.starts_with("https://")) {
        return;
    }
    let chosen = ["RIVET_BROWSER", "BROWSER"].iter().find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
    let system = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let program = chosen.unwrap_or_else(|| system.into());
    let started =
        Command::new(&program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        output::note(&format!("{} cannot be started ({error}); open the address yourself", program.display()));
    }
}
