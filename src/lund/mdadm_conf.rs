//! What `mdadm.conf` says of spares: arrays with the same `spare-group` help each other out
//! (mdadm.conf(5)). A line that cannot be understood is told and passed over, as mdadm does.

use std::path::{Path, PathBuf};

use lun_core::id::LunId;
use lun_core::policy::{GroupedArray, SpareGroup};
use lun_kernel::parse::{md_uuid, md_uuid_swapped};

use crate::config::{ConfigError, unreadable};

/// The folder that mdadm's configuration lies in.
pub const ETC: &str = "/etc";

/// Where mdadm looks, the first that there is; each has a folder `NAME.d` beside it.
const PLACES: [&str; 2] = ["mdadm/mdadm.conf", "mdadm.conf"];

/// Keywords that a line may begin with. Three letters are enough.
const KEYWORDS: [&str; 15] = [
    "ARRAY",
    "DEVICE",
    "MAILADDR",
    "MAILFROM",
    "PROGRAM",
    "CREATE",
    "HOMEHOST",
    "HOMECLUSTER",
    "AUTO",
    "POLICY",
    "PART-POLICY",
    "SYSFS",
    "MONITORDELAY",
    "ENCRYPTION_NO_VERIFY",
    "PROBING",
];

/// What an `ARRAY` line may have beside what is read here.
const OTHER_WORDS: [&str; 11] = [
    "super-minor",
    "level",
    "disks",
    "num-devices",
    "devices",
    "spares",
    "bitmap",
    "metadata",
    "auto",
    "container",
    "member",
];

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MdadmConf {
    /// Groups in the order in which they are first named.
    pub groups: Vec<SpareGroup>,
    /// Lines that were passed over, in whole or in part.
    pub warnings: Vec<ConfigError>,
}

/// Reads the files under this folder (`/etc`). With none, nothing is said.
#[must_use]
pub fn load(etc: &Path) -> MdadmConf {
    let mut found = MdadmConf::default();
    if let Some(path) = PLACES
        .iter()
        .map(|name| etc.join(name))
        .find(|p| p.exists())
    {
        found.read(&path);
    }
    for name in PLACES {
        for path in parts(&etc.join(format!("{name}.d")), &mut found.warnings) {
            found.read(&path);
        }
    }
    found
}

/// `*.conf` of a folder by name; a missing folder is an empty one.
fn parts(folder: &Path, warnings: &mut Vec<ConfigError>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warnings.push(unreadable(folder, &error));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => warnings.push(unreadable(folder, &error)),
        }
    }
    let hidden = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b".")
    };
    files.retain(|path| path.extension().is_some_and(|ext| ext == "conf") && !hidden(path));
    files.sort();
    files
}

impl MdadmConf {
    fn read(&mut self, path: &Path) {
        match std::fs::read(path) {
            Ok(bytes) => self.parse(path, &String::from_utf8_lossy(&bytes)),
            Err(error) => self.warnings.push(unreadable(path, &error)),
        }
    }

    fn warn(&mut self, path: &Path, line: usize, message: String) {
        self.warnings.push(ConfigError {
            path: path.to_owned(),
            line: Some(line),
            message,
        });
    }

    /// Takes in what one file says; `path` is for the warnings.
    pub fn parse(&mut self, path: &Path, text: &str) {
        let (lines, unclosed) = lines(text);
        for at in unclosed {
            self.warn(path, at, "a quotation mark is not closed".to_owned());
        }
        for (at, words) in lines {
            let Some((first, rest)) = words.split_first() else {
                continue;
            };
            match keyword(first) {
                Some("ARRAY") => self.array(path, at, rest),
                Some(_) => {}
                None => self.warn(path, at, format!("{first:?} is no keyword")),
            }
        }
    }

    fn array(&mut self, path: &Path, at: usize, words: &[String]) {
        let mut array = GroupedArray::default();
        let mut group = None;
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                array.names.push(word.clone());
                continue;
            };
            match key.to_ascii_lowercase().as_str() {
                // Of superblocks of version 0.90 mdadm prints another order of the bytes.
                "uuid" => match (md_uuid("UUID", value), md_uuid_swapped("UUID", value)) {
                    (Ok(uuid), Ok(swapped)) => array.ids = vec![LunId(uuid), LunId(swapped)],
                    (Err(_), _) | (_, Err(_)) => {
                        let why = format!("{value:?} is no UUID of 32 hexadecimal digits");
                        return self.warn(path, at, why);
                    }
                },
                "name" => {
                    let own = value.split_once(':').map_or(value, |(_, own)| own);
                    array.names.push(own.to_owned());
                }
                "spare-group" if value.is_empty() => {
                    return self.warn(path, at, "spare-group= names no group".to_owned());
                }
                "spare-group" => group = Some(value.to_owned()),
                other if OTHER_WORDS.contains(&other) => {}
                _ => self.warn(path, at, format!("{word:?} is not known on an ARRAY line")),
            }
        }
        let Some(name) = group else { return };
        if array.ids.is_empty() && array.names.is_empty() {
            let why = format!("it names no array that could be in the spare-group {name:?}");
            return self.warn(path, at, why);
        }
        match self.groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.arrays.push(array),
            None => self.groups.push(SpareGroup {
                name,
                arrays: vec![array],
            }),
        }
    }
}

fn keyword(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_uppercase();
    let begins = |known: &&&str| word.len() >= 3 && known.starts_with(&word);
    KEYWORDS.iter().find(begins).copied()
}

/// The words of each line, with the number of its first one, and the lines with a quotation mark that is not
/// closed. A line that begins with a blank continues the last one; `#` at the beginning of a word begins a comment.
fn lines(text: &str) -> (Vec<(usize, Vec<String>)>, Vec<usize>) {
    let mut found: Vec<(usize, Vec<String>)> = Vec::new();
    let mut unclosed = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let (words, closed) = words(line);
        if !closed {
            unclosed.push(at);
        }
        let continues = line.starts_with([' ', '\t']);
        match found.last_mut().filter(|_| continues) {
            Some((_, last)) => last.extend(words),
            None if words.is_empty() => {}
            None => found.push((at, words)),
        }
    }
    (found, unclosed)
}

/// The words of one line, without the quotation marks that keep blanks in them, and whether all are closed.
fn words(line: &str) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_ascii_whitespace() => found.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    (found, quote.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "e7d3ac0f:84c2b5ba:01234567:89abcdef";

    fn parsed(text: &str) -> MdadmConf {
        let mut found = MdadmConf::default();
        found.parse(Path::new("/etc/mdadm/mdadm.conf"), text);
        found
    }

    fn warned(text: &str) -> Vec<String> {
        let found = parsed(text);
        assert_eq!(found.groups, Vec::new(), "{text}");
        found.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrays_of_a_group_are_known_by_uuid_or_name() {
        let text = format!(
            "# mdadm.conf\nDEVICE partitions\nHOMEHOST <system>\nMAILADDR root\n\
             ARRAY /dev/md/0 metadata=1.2 UUID={UUID}\n   spare-group=shelf # the first\n\
             array md1 spares=1 SPARE-GROUP='shelf' name=host:home\nARR /dev/md2 spare-group=\"the other\"\n\
             ARRAY /dev/md3 level=raid1\nPOLICY domain=x action=include\n"
        );
        let found = parsed(&text);
        assert_eq!(found.warnings, Vec::new());
        let names: Vec<&str> = found
            .groups
            .iter()
            .map(|group| group.name.as_str())
            .collect();
        assert_eq!(names, ["shelf", "the other"]);
        let [first, second] = &found.groups[0].arrays[..] else {
            panic!("{found:?}")
        };
        let id = LunId(uuid::Uuid::from_u128(
            0xe7d3_ac0f_84c2_b5ba_0123_4567_89ab_cdef,
        ));
        assert_eq!(first.ids.first(), Some(&id));
        assert!(first.is(id, ["whatever"]));
        assert!(
            !first.is(LunId::weak("other"), ["/dev/md/0"]),
            "its UUID is another"
        );
        assert!(second.is(LunId::weak("other"), ["md1"]));
        assert!(second.is(LunId::weak("other"), ["home"]));
        assert!(!second.is(LunId::weak("other"), ["md0"]));
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_its_line() {
        let at = |line: u32, what: &str| vec![format!("/etc/mdadm/mdadm.conf:{line}: {what}")];
        assert_eq!(
            warned("\nARRAY md0 UUID=1234 spare-group=a\n"),
            at(2, "\"1234\" is no UUID of 32 hexadecimal digits")
        );
        assert_eq!(
            warned("ARRAY md0 spare-group=\n"),
            at(1, "spare-group= names no group")
        );
        assert_eq!(
            warned("ARRAY spare-group=a\n"),
            at(
                1,
                "it names no array that could be in the spare-group \"a\""
            )
        );
        assert_eq!(
            warned("AR md0 spare-group=a\n"),
            at(1, "\"AR\" is no keyword")
        );
        assert_eq!(
            warned("ARRAY md0 'colour=red\n"),
            [
                at(1, "a quotation mark is not closed"),
                at(1, "\"colour=red\" is not known on an ARRAY line")
            ]
            .concat()
        );
    }

    #[test]
    fn the_first_file_and_the_parts_of_both_are_read_by_name() {
        let etc = tempfile::tempdir().unwrap();
        assert_eq!(load(etc.path()), MdadmConf::default());
        let write = |name: &str, array: &str| {
            let path = etc.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("ARRAY {array} spare-group=g\n")).unwrap();
        };
        write("mdadm.conf", "second");
        write("mdadm.conf.d/b.conf", "part-b");
        write("mdadm.conf.d/a.conf", "part-a");
        write("mdadm.conf.d/a.conf.old", "none");
        write("mdadm.conf.d/.a.conf", "none");
        let arrays = || {
            let found = load(etc.path());
            assert_eq!(found.warnings, Vec::new());
            let arrays = found.groups.into_iter().flat_map(|group| group.arrays);
            arrays.flat_map(|array| array.names).collect::<Vec<_>>()
        };
        assert_eq!(arrays(), ["second", "part-a", "part-b"]);
        write("mdadm/mdadm.conf", "first");
        assert_eq!(arrays(), ["first", "part-a", "part-b"]);
        let folder = etc.path().join("mdadm/mdadm.conf.d");
        std::fs::write(&folder, "").unwrap();
        let told = load(etc.path()).warnings;
        assert!(matches!(&told[..], [one] if one.path == folder), "{told:?}");
    }

    /// Whatever is in it: no panic, each warning has a line that there is, and each group an array.
    #[test]
    fn any_text_is_taken() {
        use proptest::prelude::*;
        let piece = prop_oneof![
            4 => prop::sample::select(vec![
                "ARRAY", "array", "PART", "\n", "\n  ", " ", "\t", "#", "\"", "'", "=", "spare-group=", "UUID=",
                "/dev/md0", "name=", ":", UUID, "POLICY", "\r\n", "<ignore>",
            ]).prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        let text = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
        proptest!(|(text in text)| {
            let found = parsed(&text);
            let last = text.lines().count();
            for warning in &found.warnings {
                prop_assert!(warning.line.is_some_and(|line| (1..=last).contains(&line)));
            }
            for group in &found.groups {
                prop_assert!(!group.name.is_empty() && !group.arrays.is_empty());
            }
        });
    }
}
