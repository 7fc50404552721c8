//! `hopbench man`: the manual pages, from what `--help` says.

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use super::{EXIT_OK, usage};

/// Options of the manual.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench man run | man -l -                               read the page of a command\n  \
    hopbench man --write ~/.local/share/man/man1              install all; then: man hopbench-run")]
pub(crate) struct Args {
    /// Of which command, such as `run` or `credentials wireguard-user`; without one, of hopbench
    command: Vec<String>,
    /// Instead of printing, write the pages of all commands into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    write: Option<PathBuf>,
}

/// Prints a page, or writes all.
pub(crate) fn man(args: &Args) -> anyhow::Result<u8> {
    let mut root = super::command().disable_help_subcommand(true);
    // Gives each command its full name, and what is global to all.
    root.build();
    if let Some(folder) = &args.write {
        let written =
            std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(root, folder));
        written.with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        return Ok(EXIT_OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(find(root, &args.command).map_err(usage)?).render(&mut page)?;
    super::print(&String::from_utf8(page)?);
    Ok(EXIT_OK)
}

/// The command beneath `root` of that name.
fn find(root: clap::Command, names: &[String]) -> anyhow::Result<clap::Command> {
    let mut found = root;
    for name in names {
        let below = found.find_subcommand(name).cloned();
        found = below.ok_or_else(|| {
            let commands = found
                .get_subcommands()
                .filter(|command| !command.is_hide_set());
            let known: Vec<&str> = commands.map(clap::Command::get_name).collect();
            anyhow!(
                "{} has no command {name:?}; there are: {}",
                found.get_name(),
                known.join(", ")
            )
        })?;
    }
    Ok(found)
}
