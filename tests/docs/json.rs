//! `docs/json.md` against what the verbs print: every field printed is documented, every field
//! documented is printed, and is of the type that stands there.

use std::collections::BTreeMap;

use lun_core::model::{Health, Lun};
use serde_json::Value;

use super::document;
use crate::cli::{json, on, run};

/// A type as the page writes it.
#[derive(Debug, Clone)]
enum Type {
    /// Anything: `any`.
    Any,
    /// `string`, `number`, `boolean`, `null`.
    Scalar(String),
    /// `[T]`.
    List(Box<Type>),
    /// A section of the page.
    Named(String),
    /// `{"key": T}`, and the dotted fields of a table.
    Object(BTreeMap<String, Field>),
    /// `A or B`.
    Either(Vec<Type>),
    /// `A & B`: an object with the fields of both.
    Both(Vec<Type>),
}

#[derive(Debug, Clone)]
struct Field {
    kind: Type,
    /// `T, or absent`.
    may_be_absent: bool,
}

/// The page: what each verb prints, and the objects that are named.
struct Page {
    verbs: BTreeMap<String, Type>,
    named: BTreeMap<String, BTreeMap<String, Field>>,
}

fn parse(text: &str) -> Type {
    let mut rest = text.trim();
    let kind = either(&mut rest);
    assert!(rest.trim().is_empty(), "{text:?}: what is {rest:?}?");
    kind
}

fn either(rest: &mut &str) -> Type {
    let mut kinds = vec![both(rest)];
    while eat(rest, "or ") {
        kinds.push(both(rest));
    }
    one_or(kinds, Type::Either)
}

fn both(rest: &mut &str) -> Type {
    let mut kinds = vec![atom(rest)];
    while eat(rest, "& ") {
        kinds.push(atom(rest));
    }
    one_or(kinds, Type::Both)
}

fn one_or(mut kinds: Vec<Type>, several: impl Fn(Vec<Type>) -> Type) -> Type {
    match kinds.len() {
        1 => kinds.remove(0),
        _ => several(kinds),
    }
}

fn eat(rest: &mut &str, word: &str) -> bool {
    let found = rest.trim_start().strip_prefix(word);
    *rest = found.unwrap_or(rest);
    found.is_some()
}

fn atom(rest: &mut &str) -> Type {
    if eat(rest, "[") {
        let kind = either(rest);
        eat(rest, ", ...");
        assert!(eat(rest, "]"), "no end of a list before {rest:?}");
        return Type::List(Box::new(kind));
    }
    if eat(rest, "{") {
        let mut fields = BTreeMap::new();
        while !eat(rest, "}") {
            assert!(eat(rest, "\""), "no field in {rest:?}");
            let (name, after) = rest.split_once("\":").unwrap();
            *rest = after;
            let kind = either(rest);
            eat(rest, ", ");
            fields.insert(name.to_owned(), field(kind));
        }
        return Type::Object(fields);
    }
    let text = rest.trim_start();
    let end = text
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    match word {
        "any" => Type::Any,
        "string" | "number" | "boolean" | "null" => Type::Scalar(word.to_owned()),
        name if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase()) => {
            Type::Named(name.to_owned())
        }
        _ => panic!("no type: {text:?}"),
    }
}

fn field(kind: Type) -> Field {
    Field {
        kind,
        may_be_absent: false,
    }
}

/// The code spans of a cell.
fn spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

impl Page {
    fn read() -> Self {
        let text = document("docs/json.md");
        let mut page = Self {
            verbs: BTreeMap::new(),
            named: BTreeMap::new(),
        };
        let mut section = String::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut section);
            }
            let row = line.replace("\\|", "\u{1}");
            let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
            let names = spans(cells[0]);
            if !line.starts_with("| `") || cells.len() < 2 {
                continue;
            }
            if section == "Documents by verb" {
                let kind = parse(spans(cells[1])[0]);
                for name in names {
                    let name = name.replace('\u{1}', "|");
                    page.verbs.insert(name, kind.clone());
                }
            } else if section.chars().all(|c| c.is_ascii_uppercase()) {
                let fields = page.named.entry(section.clone()).or_default();
                let kind = cells[1].trim();
                let required = kind.strip_suffix(", or absent");
                let field = Field {
                    kind: parse(required.unwrap_or(kind)),
                    may_be_absent: required.is_some(),
                };
                names
                    .iter()
                    .for_each(|name| put(fields, name, field.clone()));
            }
        }
        page
    }

    /// The fields of an object type.
    fn fields(&self, kind: &Type) -> BTreeMap<String, Field> {
        match kind {
            Type::Object(fields) => fields.clone(),
            Type::Named(name) => self
                .named
                .get(name)
                .unwrap_or_else(|| panic!("no section {name}"))
                .clone(),
            Type::Both(kinds) => kinds.iter().flat_map(|kind| self.fields(kind)).collect(),
            other => panic!("no object: {other:?}"),
        }
    }

    /// Notes whatever of `value` is not as the page says.
    fn check(&self, value: &Value, kind: &Type, at: &str, wrong: &mut Vec<String>) {
        match (kind, value) {
            (Type::Any, _) => {}
            (Type::Either(kinds), _) => {
                let fitting = kinds.iter().find(|kind| same_kind(kind, value));
                match fitting {
                    Some(kind) => self.check(value, kind, at, wrong),
                    None => wrong.push(format!("{at}: {value} is none of {kinds:?}")),
                }
            }
            (Type::List(kind), Value::Array(values)) => {
                for value in values {
                    self.check(value, kind, &format!("{at}[]"), wrong);
                }
            }
            (Type::Object(_) | Type::Named(_) | Type::Both(_), Value::Object(map)) => {
                let fields = self.fields(kind);
                for (name, value) in map {
                    match fields.get(name) {
                        Some(field) => {
                            self.check(value, &field.kind, &format!("{at}.{name}"), wrong);
                        }
                        None => wrong.push(format!("{at}.{name}: not documented, {value}")),
                    }
                }
                for (name, field) in &fields {
                    if !field.may_be_absent && !map.contains_key(name) {
                        wrong.push(format!("{at}.{name}: documented and not printed"));
                    }
                }
            }
            (kind, value) if same_kind(kind, value) => {}
            (kind, value) => wrong.push(format!("{at}: {value} is no {kind:?}")),
        }
    }

    /// Checks the document of a verb.
    #[track_caller]
    fn holds(&self, verb: &str, value: &Value) {
        let kind = self
            .verbs
            .get(verb)
            .unwrap_or_else(|| panic!("docs/json.md says nothing of {verb}"));
        let mut wrong = Vec::new();
        self.check(value, kind, verb, &mut wrong);
        wrong.sort();
        wrong.dedup();
        assert!(wrong.is_empty(), "{:#?}\n{value:#}", wrong);
    }
}

/// Puts a field, dotted or not, into its place.
fn put(fields: &mut BTreeMap<String, Field>, name: &str, inner: Field) {
    let Some((outer, rest)) = name.split_once('.') else {
        fields.insert(name.to_owned(), inner);
        return;
    };
    let object = fields
        .entry(outer.to_owned())
        .or_insert_with(|| field(Type::Object(BTreeMap::new())));
    match &mut object.kind {
        Type::Object(fields) => put(fields, rest, inner),
        other => panic!("{name} is in {other:?}"),
    }
}

fn same_kind(kind: &Type, value: &Value) -> bool {
    match (kind, value) {
        (Type::Any, _)
        | (Type::List(_), Value::Array(_))
        | (Type::Object(_) | Type::Named(_) | Type::Both(_), Value::Object(_)) => true,
        (Type::Scalar(name), value) => match name.as_str() {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => value.is_null(),
        },
        _ => false,
    }
}

#[test]
fn every_verb_prints_what_the_page_says() {
    on("mirror-degraded", async |rig, user| {
        let page = Page::read();
        assert!(page.named.len() >= 15, "{:?}", page.named.keys());
        // The line, the row of the page that speaks of it, and the exit code.
        for (line, verb, code) in [
            ("list", "list", 0),
            ("show md0", "show LUN", 0),
            ("show md7", "any", 3),
            ("why md0", "why LUN", 0),
            ("spare add sdc", "spare add DRIVE", 0),
            ("spare list", "spare list", 0),
            ("drives", "drives", 0),
            ("recover md0 --dry-run", "recover --dry-run", 0),
            ("why md0", "why LUN", 0),
            ("recover md0", "recover", 0),
            ("list", "list", 0),
            ("ops", "ops", 0),
            ("why md0", "why LUN", 0),
            ("cancel md0 --release-spare", "cancel OP|LUN", 0),
            ("recover md0 --spare sdc", "recover", 0),
            ("cancel md0", "cancel OP|LUN", 0),
            ("status md0", "status OP|LUN", 0),
            ("show md0", "show LUN", 0),
            ("release md0", "release LUN", 0),
            ("hints md0 --rebuild-priority 12", "hints", 0),
        ] {
            page.holds(verb, &json(rig, line).await.exits(code).json());
            if verb == "recover" {
                // What follows finds it under way.
                let begun = |lun: &Lun| lun.health == Health::Rebuilding;
                user.until_lun("md0", "rebuilding", begun).await;
            }
        }
        // Released, the kernel goes on by itself.
        rig.fast();
        user.until("the end", |view| {
            view.luns.iter().all(|lun| lun.health == Health::Healthy)
                && view.ops.iter().all(|op| !op.is_running())
        })
        .await;
        for (line, verb) in [
            ("wait 1", "wait OP|LUN"),
            ("verify md0 --wait", "verify"),
            ("wait 1 2 --timeout 1", "wait OP|LUN OP|LUN ..."),
            ("refresh", "refresh"),
            ("reenumerate", "reenumerate"),
            ("ops --all", "ops"),
            ("history md0", "history [LUN]"),
            ("status 1", "status OP|LUN"),
        ] {
            let run = json(rig, line).await;
            page.holds(verb, &run.json());
        }
        for line in run(rig, "events --json").await.exits(0).stdout.lines() {
            page.holds("events", &serde_json::from_str(line).unwrap());
        }
    });
}

#[test]
fn replacing_and_the_pool_print_what_the_page_says() {
    on("mirror", async |rig, _user| {
        let page = Page::read();
        rig.fast();
        for (line, verb) in [
            ("spare add sdc", "spare add DRIVE"),
            ("replace md0 sdb --dry-run", "replace --dry-run"),
            ("replace md0 sdb --wait", "replace"),
            ("spare list", "spare list"),
            ("list", "list"),
            ("drives", "drives"),
        ] {
            page.holds(verb, &json(rig, line).await.exits(0).json());
        }
    });
    on("zoo", async |rig, _user| {
        let page = Page::read();
        for line in ["list", "refresh", "reenumerate"] {
            page.holds(line, &json(rig, line).await.exits(0).json());
        }
        page.holds("drives", &json(rig, "drives").await.exits(0).json());
        for lun in 0..6 {
            let why = json(rig, &format!("why md{lun}")).await.exits(0).json();
            page.holds("why LUN", &why);
        }
    });
}
