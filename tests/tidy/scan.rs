//! What the checks look at: the files of the tree, and Rust text with its comments and literals
//! told apart from its code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders, relative to the root, whose content is made and not written.
const MADE: &[&str] = &[
    ".git",
    "target",
    "fuzz/target",
    "fuzz/corpus",
    "fuzz/artifacts",
];

/// A text file of the tree.
pub(super) struct File {
    /// Path relative to the root, with `/`.
    pub(super) path: String,
    /// Content.
    pub(super) text: String,
    /// Somebody may execute it.
    pub(super) executable: bool,
}

impl File {
    /// Whether it is Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is this rule book itself, which has to name what it forbids.
    pub(super) fn is_tidy(&self) -> bool {
        self.path.starts_with("tests/tidy")
    }
}

/// The root of the tree.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Every text file of the tree, by path.
pub(super) fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        for entry in entries.flatten() {
            let path = entry.path();
            let relative = match path.strip_prefix(&root) {
                Ok(relative) => relative.to_string_lossy().into_owned(),
                Err(_) => continue,
            };
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && !MADE.contains(&relative.as_str()) {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let executable = entry
                    .metadata()
                    .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
                found.push(File {
                    path: relative,
                    text,
                    executable,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        found.len() > 20,
        "found only {} files under {}",
        found.len(),
        root.display()
    );
    found
}

/// One text in three layers of equal shape: each has every line and column of the source, and
/// blanks where a character belongs to another layer.
pub(super) struct Layers {
    /// Code alone.
    pub(super) code: String,
    /// Comments alone.
    pub(super) comments: String,
    /// Inner text of string and character literals alone.
    pub(super) literals: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Tells code, comments and literals of a Rust text apart.
pub(super) fn layers(source: &str) -> Layers {
    let chars: Vec<char> = source.chars().collect();
    let mut kinds = vec![Kind::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = piece(&chars, at);
        for slot in kinds.iter_mut().take(end).skip(at) {
            *slot = kind;
        }
        at = end.max(at + 1);
    }
    let pick = |wanted: Kind| -> String {
        chars
            .iter()
            .zip(&kinds)
            .map(|(c, kind)| {
                if *kind == wanted || *c == '\n' {
                    *c
                } else {
                    ' '
                }
            })
            .collect()
    };
    Layers {
        code: pick(Kind::Code),
        comments: pick(Kind::Comment),
        literals: pick(Kind::Literal),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The piece that begins at `at`: what it is and where it ends.
fn piece(chars: &[char], at: usize) -> (Kind, usize) {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    match (get(at), get(at + 1)) {
        ('/', '/') => {
            let end = (at..chars.len())
                .find(|i| get(*i) == '\n')
                .unwrap_or(chars.len());
            (Kind::Comment, end)
        }
        ('/', '*') => (Kind::Comment, block_comment_end(chars, at)),
        ('"', _) => (Kind::Literal, quoted_end(chars, at, '"')),
        // 'x' and '\n' are characters, 'a without a second quote is a lifetime.
        ('\'', '\\') => (Kind::Literal, quoted_end(chars, at, '\'')),
        ('\'', _) if get(at + 2) == '\'' => (Kind::Literal, at + 3),
        (first, _) if is_word(first) => {
            let end = (at..chars.len())
                .find(|i| !is_word(get(*i)))
                .unwrap_or(chars.len());
            let word: String = chars.iter().take(end).skip(at).collect();
            if matches!(word.as_str(), "r" | "br" | "cr")
                && let Some(end) = raw_end(chars, end)
            {
                return (Kind::Literal, end);
            }
            (Kind::Code, end)
        }
        _ => (Kind::Code, at + 1),
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut i = at;
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => {
                depth += 1;
                i += 2;
            }
            (Some('*'), Some('/')) => {
                depth = depth.saturating_sub(1);
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while let Some(c) = chars.get(i) {
        match *c {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// End of a raw string whose `#` or `"` begins at `at`; [`None`] when it is none.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars.iter().skip(at).take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut i = at + hashes + 1;
    while i < chars.len() {
        let closing = chars
            .iter()
            .skip(i + 1)
            .take(hashes)
            .filter(|c| **c == '#')
            .count();
        if chars.get(i) == Some(&'"') && closing == hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(chars.len())
}

/// The words of a line.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty())
}

/// Lines with their numbers, from 1.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// A function with a body.
pub(super) struct Function {
    pub(super) name: String,
    /// Line of its `fn`.
    pub(super) line: usize,
    /// Lines between its braces that are neither empty nor comment.
    pub(super) lines: usize,
}

/// Every function with a body in a Rust text.
pub(super) fn functions(source: &str) -> Vec<Function> {
    let layers = layers(source);
    let busy: Vec<bool> = layers
        .code
        .lines()
        .zip(layers.literals.lines())
        .map(|(code, literal)| !code.trim().is_empty() || !literal.trim().is_empty())
        .collect();
    let chars: Vec<char> = layers.code.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    let mut word = String::new();
    let mut before = String::new();
    for (at, c) in chars.iter().enumerate() {
        if is_word(*c) {
            word.push(*c);
            continue;
        }
        if !word.is_empty() {
            if before == "fn"
                && let Some((open, close)) = body(&chars, at)
            {
                let first = line + newlines(&chars, at, open);
                let last = first + newlines(&chars, open, close);
                let lines = busy
                    .iter()
                    .take(last - 1)
                    .skip(first)
                    .filter(|is_busy| **is_busy)
                    .count();
                found.push(Function {
                    name: word.clone(),
                    line,
                    lines,
                });
            }
            before = std::mem::take(&mut word);
        }
        if !c.is_whitespace() {
            before.clear();
        }
        if *c == '\n' {
            line += 1;
        }
    }
    found
}

fn newlines(chars: &[char], from: usize, to: usize) -> usize {
    chars
        .iter()
        .take(to)
        .skip(from)
        .filter(|c| **c == '\n')
        .count()
}

/// Places of the braces of the body of a function whose name ends at `at`.
fn body(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let mut depth = 0_i32;
    let mut open = None;
    for (i, c) in chars.iter().enumerate().skip(at) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 && open.is_none() => return None,
            '{' => {
                if depth == 0 && open.is_none() {
                    open = Some(i);
                }
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0
                    && let Some(open) = open
                {
                    return Some((open, i));
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn tells_code_from_comments_and_literals() {
    let source = "let a = \"unsafe // no\"; // unsafe\nlet b: &'static str = r#\"fn \"x\" {\"#; /* { /* */ } */ let c = '{';\n";
    let layers = layers(source);
    assert_eq!(layers.code.matches("unsafe").count(), 0);
    assert_eq!(layers.comments.matches("unsafe").count(), 1);
    assert_eq!(layers.literals.matches("unsafe").count(), 1);
    assert!(layers.code.contains("'static str"));
    assert!(!layers.code.contains('{'));
    assert_eq!(layers.code.lines().count(), source.lines().count());
}

#[test]
fn counts_the_lines_of_a_function() {
    let source = "trait T { fn none(&self) -> [u8; 2]; }\nfn two(f: fn(u8)) {\n    // why\n\n    f(1);\n    if true { f(2); }\n}\nfn none() {}\n";
    let found: Vec<(String, usize, usize)> = functions(source)
        .into_iter()
        .map(|f| (f.name, f.line, f.lines))
        .collect();
    assert_eq!(found, [("two".to_owned(), 2, 2), ("none".to_owned(), 8, 0)]);
}
