//! Every setting as a flag, made from the table.

use super::load::Flags;
use super::table::{SETTINGS, Setting};
use clap::{Arg, ArgMatches, Command};
use std::sync::LazyLock;

/// The flags of commands that start a server.
#[derive(Debug, Clone, Default)]
pub struct SettingsArgs(pub Flags);

impl clap::FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for variable in variables() {
            if let Some(value) = matches.get_one::<String>(&variable) {
                self.0.0.insert(variable, value.clone());
            }
        }
        Ok(())
    }
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("RIVET_CONFIG").long("config").value_name("FILE").help("The settings file [rivet.toml]");
        let mut command = command.next_help_heading("Settings (each also as an environment variable)").arg(config);
        for (setting, names) in SETTINGS.iter().zip(NAMES.iter()) {
            let arg = Arg::new(setting.variable).long(names.flag.as_str()).value_name("VALUE").help(setting.help);
            // A secret on a command line can be read by everybody on the machine: it works, and is not offered.
            command = command.arg(arg.hide(setting.secret));
            if let Some(twin) = &names.twin {
                let arg = Arg::new(twin.as_str()).long(names.twin_flag.as_str()).value_name("FILE").help(setting.help);
                command = command.arg(arg);
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Names that are made from the table; clap wants them to live as long as the program.
struct Names {
    flag: String,
    twin: Option<String>,
    twin_flag: String,
}

static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let names = |setting: &Setting| {
        let flag = setting.flag();
        Names { twin: setting.file_variable(), twin_flag: format!("{flag}-file"), flag }
    };
    SETTINGS.iter().map(names).collect()
});

fn variables() -> impl Iterator<Item = String> {
    let settings = SETTINGS.iter().flat_map(|s| [Some(s.variable.to_owned()), s.file_variable()]);
    settings.flatten().chain([String::from("RIVET_CONFIG")])
}
