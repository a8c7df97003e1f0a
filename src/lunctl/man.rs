//! `dist/man/lunctl.1` is made from the definitions of the command line: this test compares it, and
//! with `LUND_BLESS` in the environment writes it anew.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cmd::Cli;

/// Apostrophes that are not curved: the renderer writes them as this string.
const HEAD: &str = "\
.\\\" Made from the program (src/lunctl/man.rs): do not edit.
.ie \\n(.g .ds Aq \\(aq
.el .ds Aq '
";
const TAIL: &str = "\
.SH ENVIRONMENT
.TP
\\fBLUND_BUS\\fR
Bus to look for the service on, as \\fB\\-\\-bus\\fR.
.TP
\\fBNO_COLOR\\fR
No colours, on a terminal either, when it is set and not empty.
.SH FILES
.TP
\\fI/etc/lund/lund.toml\\fR
Configuration of the service, see \\fBlund.toml\\fR(5).
.SH SEE ALSO
\\fBlund\\fR(8), \\fBlund.toml\\fR(5), \\fBmdadm\\fR(8), \\fBmd\\fR(4)
";

/// The whole page: the program, then a section for each verb.
fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let man = Man::new(cli.clone())
        .title("LUNCTL")
        .section("1")
        .date("")
        .source(format!("lund {}", env!("CARGO_PKG_VERSION")))
        .manual("lund");
    let mut page = HEAD.to_owned();
    page.push_str(&part(|out| man.render_title(out)));
    page.push_str(
        ".SH NAME\nlunctl \\- show and recover Linux md arrays through the lund service\n",
    );
    page.push_str(&part(|out| man.render_synopsis_section(out)));
    page.push_str(&part(|out| man.render_description_section(out)));
    page.push_str(&part(|out| man.render_options_section(out)));
    page.push_str(".SH VERBS\n");
    for verb in cli
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        let inner: Vec<&Command> = verb
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
            .collect();
        if inner.is_empty() {
            page.push_str(&section(verb));
        }
        for verb in inner {
            page.push_str(&section(verb));
        }
    }
    page.push_str(TAIL);
    page
}

/// A verb: how it is called, what it does, its arguments. What is common to all is told once.
fn section(verb: &Command) -> String {
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    let own = verb.clone().mut_args(|arg| {
        let id = arg.get_id().as_str();
        let common = matches!(id, "json" | "bus" | "host" | "help" | "version");
        arg.hide(common)
    });
    let man = Man::new(own);
    let body = [
        part(|out| man.render_synopsis_section(out)),
        format!(".PP\n{}", part(|out| man.render_description_section(out))),
        part(|out| man.render_options_section(out)),
    ]
    .concat();
    let lines = body.lines().filter(|line| !line.starts_with(".SH"));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    format!(".SS \"{name}\"\n{text}")
}

/// A part of a page without the definition of apostrophes, which the page has once.
fn part(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let body = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.starts_with(".ie") && !line.starts_with(".el") && !line.is_empty());
    body.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_man_page_is_that_of_this_program() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/man/lunctl.1");
    let made = page();
    if std::env::var_os("LUND_BLESS").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    let differs = made
        .lines()
        .zip(kept.lines())
        .find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "dist/man/lunctl.1 is not that of this program, first at {differs:?}: run \
         `LUND_BLESS=1 cargo test -p lunctl man`"
    );
}

#[test]
fn the_man_page_has_every_verb_and_option() {
    let page = page().replace("\\-", "-");
    let mut cli = Cli::command();
    cli.build();
    let mut verbs: Vec<&Command> = cli.get_subcommands().collect();
    verbs.extend(cli.get_subcommands().flat_map(Command::get_subcommands));
    for verb in verbs {
        let name = verb.get_bin_name().unwrap();
        if verb.has_subcommands() || name.split(' ').any(|word| word == "help") {
            continue;
        }
        let (_, rest) = page
            .split_once(&format!(".SS \"{name}\"\n"))
            .unwrap_or_else(|| panic!("no section {name}"));
        let own = rest.split(".SS ").next().unwrap();
        for arg in verb.get_arguments().filter(|arg| !arg.is_global_set()) {
            if let Some(long) = arg
                .get_long()
                .filter(|long| !matches!(*long, "help" | "version"))
            {
                assert!(
                    own.contains(&format!("--{long}")),
                    "{name} --{long}:\n{own}"
                );
            }
        }
    }
}
