//! The rules of the house as tests. Each complaint names the file, the line and what to do.

mod arrows;
mod scan;

use std::fmt::Write as _;

use scan::{File, files, functions, layers, numbered, words};

/// Lines that no file exceeds, comments included.
const FILE_LINES: usize = 600;
/// Lines that no function's body exceeds, comments and empty lines not counted.
const FUNCTION_LINES: usize = 70;

/// What a check found.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// Notes that `what` stands in `path` at `line` (0: the file as a whole), and what to do.
    fn add(&mut self, path: &str, line: usize, what: &str, todo: &str) {
        self.0.push(format!("{path}:{line}: {what}\n    {todo}"));
    }

    /// Fails the test that broke `rule`, with everything found.
    fn none(self, rule: &str) {
        let mut text = String::new();
        for finding in &self.0 {
            let _ = writeln!(text, "  {finding}");
        }
        assert!(self.0.is_empty(), "rule: {rule}\n{text}");
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            let what = format!("{lines} lines");
            let todo = format!("split the file, {FILE_LINES} lines are the limit");
            findings.add(&file.path, lines, &what, &todo);
        }
        for function in functions(&file.text) {
            if function.lines > FUNCTION_LINES {
                let what = format!("fn {} has {} lines", function.name, function.lines);
                let todo = format!("split the function, {FUNCTION_LINES} lines are the limit");
                findings.add(&file.path, function.line, &what, &todo);
            }
        }
    }
    findings.none("no file past 600 lines, no function past 70");
}

#[test]
fn unsafe_stays_at_the_edge() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.is_rust()) {
        if file.path.starts_with("src/kernel/linux/") {
            continue;
        }
        for (line, text) in numbered(&layers(&file.text).code) {
            if words(text).any(|word| word == "unsafe") {
                let todo = "use the safe call of nix or std, or move it into src/kernel/linux";
                findings.add(&file.path, line, text.trim(), todo);
            }
        }
    }
    findings.none("unsafe code lies in src/kernel/linux alone");
}

/// Nouns of the md driver. (`degraded`, `frozen` and `spare` are plain English too: a ledger can be
/// degraded. They are left to the reader.)
const KERNEL_WORDS: &[&str] = &[
    "rdev",
    "mddev",
    "sync_action",
    "sync_completed",
    "array_state",
    "resync_start",
    "recovery_start",
    "mismatch_cnt",
    "raid_disks",
    "want_replacement",
];

/// Where kernel words are at home, and where they are turned into VDS words or into steps.
const KERNEL_HOME: &[&str] = &[
    "src/kernel/",
    "src/sim/",
    "src/core/facts",
    "src/core/action",
    "src/core/raid",
    "src/core/project",
    "src/core/plan/",
    "tests/",
    "vm/",
    "fuzz/",
];

#[test]
fn kernel_words_stay_with_the_kernel() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.is_rust()) {
        if KERNEL_HOME.iter().any(|home| file.path.starts_with(home)) {
            continue;
        }
        for (line, text) in numbered(&layers(&file.text).code) {
            for word in words(text).filter(|word| KERNEL_WORDS.contains(word)) {
                let todo = "read this from the model (src/core/project.rs makes it), in VDS words";
                findings.add(&file.path, line, word, todo);
            }
        }
    }
    findings.none("kernel words stay in kernel, sim, facts, project and the planner");
}

#[test]
fn only_the_port_reads_sysfs() {
    let mut findings = Findings::default();
    let outside = ["src/core/", "src/ipc/", "src/lund/", "src/lunctl/"];
    for file in files().iter().filter(|file| file.is_rust()) {
        if !outside.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        for (line, text) in numbered(&layers(&file.text).literals) {
            // /proc/sys holds limits, not facts of an array; anybody may read those.
            if text.replace("/proc/sys/", "").contains("/sys/") {
                let todo = "ask the port (src/kernel/lib.rs); only it opens files of the kernel";
                findings.add(&file.path, line, text.trim(), todo);
            }
        }
    }
    findings.none("only src/kernel reads sysfs");
}

#[test]
fn the_database_is_the_ledgers() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.is_rust()) {
        if file.path.starts_with("tests/") || file.path.starts_with("src/lund/ledger") {
            continue;
        }
        for (line, text) in numbered(&layers(&file.text).code) {
            if words(text).any(|word| word == "rusqlite") {
                let todo = "talk to the ledger's thread (src/lund/ledger); it alone owns the file";
                findings.add(&file.path, line, text.trim(), todo);
            }
        }
    }
    findings.none("only the ledger speaks SQL");
}

#[test]
fn nothing_is_left_for_later_without_a_number() {
    let later = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut findings = Findings::default();
    for file in &files() {
        let text = if file.is_rust() {
            layers(&file.text).comments
        } else {
            file.text.clone()
        };
        for (line, text) in numbered(&text) {
            let numbered = text
                .split('#')
                .skip(1)
                .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if words(text).any(|word| later.contains(&word)) && !numbered {
                findings.add(
                    &file.path,
                    line,
                    text.trim(),
                    "do it now, or open an issue and name it as #NNN",
                );
            }
        }
    }
    findings.none("what is left for later has an issue number");
}

#[test]
fn every_test_file_is_in_main() {
    let files = files();
    let mut findings = Findings::default();
    let main = files.iter().find(|file| file.path == "tests/main.rs");
    let listed: Vec<&str> = main
        .map_or("", |main| main.text.as_str())
        .lines()
        .filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(inside) = file.path.strip_prefix("tests/") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module != "main" && !listed.contains(&module) {
            let todo = format!("add `mod {module};` to tests/main.rs, or nobody ever runs it");
            findings.add(&file.path, 1, "this file is in no test binary", &todo);
        }
    }
    findings.none("every file in tests/ is part of the one test binary");
}

#[test]
fn no_file_points_to_what_is_not_here() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| !file.is_tidy()) {
        for (line, text) in numbered(&file.text) {
            let elsewhere = ["kernel-md.md", "design.md", "vds-model.md"];
            if let Some(name) = elsewhere.into_iter().find(|name| text.contains(name)) {
                let todo = "say it in plain words, or point to docs/kernel-notes.md";
                findings.add(&file.path, line, name, todo);
            }
        }
    }
    findings.none("a text that a comment points to lies in the repository");
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let here = scan::root().to_string_lossy().into_owned();
    // A checkout directly under / (as in a container) has too short a name to search for.
    let here = if here.matches('/').count() > 1 {
        here
    } else {
        "\0".to_owned()
    };
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| !file.is_tidy()) {
        for (line, text) in numbered(&file.text) {
            let built = [
                "/work/",
                "/root/.cargo",
                "/root/.rustup",
                "/home/",
                here.as_str(),
            ]
            .into_iter()
            .find(|path| starts_a_path(text, path));
            if let Some(path) = built {
                let todo = "name it relative to the repository, or take it from the environment";
                findings.add(&file.path, line, path, todo);
            }
        }
    }
    findings.none("no path of a build machine");
}

/// Whether `path` stands in `text` where a path begins, not in the midst of one.
fn starts_a_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}$\"'*/".contains(c))
            || before.is_some_and(|c| matches!(c, '"' | '\'')) && !text.contains('$')
    })
}

/// Scripts that cannot be bash, and why.
const OTHER_SHELLS: &[(&str, &str)] = &[
    ("vm/guest/init", "busybox is all there is in the initrd"),
    ("dist/debian/postinst", "Debian's policy wants /bin/sh"),
    ("dist/debian/postrm", "Debian's policy wants /bin/sh"),
    ("dist/debian/prerm", "Debian's policy wants /bin/sh"),
];

#[test]
fn scripts_are_strict_bash() {
    let mut findings = Findings::default();
    for file in &files() {
        let first = file.text.lines().next().unwrap_or_default();
        if file.is_rust() || !first.starts_with("#!") {
            continue;
        }
        if OTHER_SHELLS.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        if first != "#!/usr/bin/env bash" {
            findings.add(&file.path, 1, first, "begin with #!/usr/bin/env bash");
        }
        let code = numbered(&file.text)
            .find(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .unwrap_or((1, ""));
        if code.1 != "set -euo pipefail" {
            findings.add(
                &file.path,
                code.0,
                code.1,
                "let `set -euo pipefail` be the first command",
            );
        }
        if !file.executable {
            findings.add(&file.path, 1, "not executable", "chmod +x it");
        }
    }
    findings.none("scripts are strict bash and executable");
}

/// Lines inside the fenced blocks of a Markdown text.
fn fenced(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in numbered(text) {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            found.push((number, line));
        }
    }
    found
}

#[test]
fn what_the_readme_says_to_type_exists() {
    let files = files();
    let mut findings = Findings::default();
    let readme = files.iter().find(|file| file.path == "README.md");
    for (line, text) in fenced(readme.map_or("", |readme| readme.text.as_str())) {
        for word in text
            .split(['#', '\t', ' '])
            .map(|word| word.trim_start_matches("./"))
        {
            let ours = ["scripts/", "dist/", "vm/", ".ci/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            if ours
                && !files
                    .iter()
                    .any(|file| file.path == word && file.executable)
            {
                findings.add(
                    "README.md",
                    line,
                    word,
                    "write the script, make it executable, or correct README",
                );
            }
        }
        let mut typed = text.split_whitespace().skip_while(|word| *word == "sudo");
        if typed.next() == Some("lunctl")
            && let Some(verb) = typed.next()
            && !verb.starts_with('-')
            && !has_verb(&files, verb)
        {
            findings.add(
                "README.md",
                line,
                text.trim(),
                "lunctl has no such verb (src/lunctl/cmd)",
            );
        }
    }
    findings.none("what README says to type can be typed");
}

fn has_verb(files: &[File], verb: &str) -> bool {
    let file = format!("src/lunctl/cmd/{verb}.rs");
    let folder = format!("src/lunctl/cmd/{verb}/");
    files
        .iter()
        .any(|known| known.path == file || known.path.starts_with(&folder))
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = scan::root();
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root
            .join(&file.path)
            .parent()
            .map_or_else(|| root.clone(), Into::into);
        for (line, text) in numbered(&file.text) {
            for target in text
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let path = target.split('#').next().unwrap_or_default();
                let outside = target.contains("://") || target.starts_with("mailto:");
                if !outside && !path.is_empty() && !folder.join(path).exists() {
                    findings.add(
                        &file.path,
                        line,
                        target,
                        "correct the link or write what it leads to",
                    );
                }
            }
        }
    }
    findings.none("links between documents lead somewhere");
}

#[test]
fn a_path_is_found_where_it_begins() {
    let machine = concat!("/wo", "rk/");
    assert!(starts_a_path(&format!("cd {machine}main"), machine));
    assert!(starts_a_path(&format!("\"{machine}main\""), machine));
    assert!(!starts_a_path(&format!("$dir{machine}tree"), machine));
}
