//! `hopbench completions`: what a shell needs to complete our commands, options and names.

use clap_complete::Shell;

use super::EXIT_OK;

/// Options of the completions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    source <(hopbench completions bash)            this shell, now\n  \
    hopbench completions bash > ~/.local/share/bash-completion/completions/hopbench\n  \
    hopbench completions zsh > ~/.zfunc/_hopbench  with ~/.zfunc in fpath\n  \
    hopbench completions fish > ~/.config/fish/completions/hopbench.fish")]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn completions(args: &Args) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "hopbench", &mut script);
    super::print(&String::from_utf8(script)?);
    Ok(EXIT_OK)
}
