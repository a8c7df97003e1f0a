//! The interfaces: the introspection that is checked in is that of the living objects, each part of it
//! is explained, and `docs/dbus-api.md` shows every call, in blocks that are run here.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lun_sim::scenario;

use super::document;
use crate::rig::Rig;
use crate::rights::busctl;

/// Folder of the interfaces, one file for each.
const FOLDER: &str = "dist/interfaces";
/// Set to renew the files instead of comparing them.
const RENEW: &str = "LUND_RENEW";

fn introspect(rig: &Rig, path: &str) -> String {
    let words = [
        "call",
        "org.lund.Vds1",
        path,
        "org.freedesktop.DBus.Introspectable",
        "Introspect",
    ];
    let output = busctl(rig.address(), &words.map(str::to_owned));
    assert!(output.status.success(), "{path}: {output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["data"][0].as_str().unwrap().to_owned()
}

/// Our interfaces on all objects, each as it stands in the introspection.
fn interfaces(rig: &Rig) -> BTreeMap<String, String> {
    let tree = ["tree", "--list", "org.lund.Vds1"].map(str::to_owned);
    let tree = busctl(rig.address(), &tree);
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut found = BTreeMap::new();
    for path in tree
        .lines()
        .filter(|path| path.starts_with("/org/lund/Vds1"))
    {
        let xml = introspect(rig, path);
        // The objects below it follow, with all of theirs.
        let own = xml.split("<node name=\"").next().unwrap();
        for part in own.split("<interface name=\"").skip(1) {
            let (name, rest) = part.split_once('"').unwrap();
            let body = rest.split("</interface>").next().unwrap();
            if name.starts_with("org.lund.") {
                let text = format!("  <interface name=\"{name}\"{body}</interface>\n");
                found.insert(name.to_owned(), text);
            }
        }
    }
    found
}

/// A machine with an object of every kind.
fn rig() -> Rig {
    let rig = Rig::start(scenario::by_name("mirror").unwrap());
    crate::rig::block_on(async {
        let user = rig.client().await;
        user.recover("md0", None).await.unwrap();
    });
    rig
}

#[test]
fn the_interfaces_that_are_installed_are_those_of_the_objects() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = interfaces(&rig());
    assert_eq!(found.len(), 7, "{:?}", found.keys());
    for (name, body) in &found {
        let text = format!(
            "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
             \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n{body}</node>\n"
        );
        let path = house.join(FOLDER).join(format!("{name}.xml"));
        if std::env::var_os(RENEW).is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "{} is not what the service says: renew it with {RENEW}=1 cargo test --test all -- docs::bus",
            path.display()
        );
    }
    let kept = std::fs::read_dir(house.join(FOLDER)).unwrap().count();
    assert_eq!(kept, found.len(), "a file too many in {FOLDER}");
}

/// Every method, property and signal has a comment before it.
#[test]
fn every_part_of_an_interface_is_explained() {
    for (name, body) in interfaces(&rig()) {
        let mut explained = false;
        let mut bare = Vec::new();
        for line in body.lines().map(str::trim) {
            let starts = ["<method ", "<property ", "<signal "]
                .iter()
                .any(|tag| line.starts_with(tag));
            if starts && !explained {
                bare.push(line.to_owned());
            }
            if starts || line.starts_with("</") {
                explained = false;
            }
            explained |= line.ends_with("-->");
        }
        assert!(
            bare.is_empty(),
            "{name} has parts without a comment: {bare:#?}"
        );
    }
}

/// The blocks of the page, each with the machine that it is for.
fn blocks(page: &str) -> Vec<(String, String)> {
    page.split("<!-- bus: ")
        .skip(1)
        .map(|part| {
            let (machine, rest) = part.split_once(" -->").unwrap();
            let script = rest.split("```").nth(1).unwrap();
            (
                machine.to_owned(),
                script.trim_start_matches("sh\n").to_owned(),
            )
        })
        .collect()
}

#[test]
fn what_the_page_shows_can_be_typed() {
    let page = document("docs/dbus-api.md");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for (machine, script) in blocks {
        let rig = Rig::start(scenario::by_name(&machine).unwrap());
        rig.fast();
        // A line that ends so is refused by the service; every other one succeeds.
        let mut lines = String::new();
        for line in script.lines() {
            match line.strip_suffix("# refused") {
                Some(command) => lines.push_str(&format!("! {command} || exit 9\n")),
                None => lines.push_str(&format!("{line}\n")),
            }
        }
        let output = Command::new("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c"])
            .arg(format!(
                "busctl() {{ command busctl --address=\"$BUS\" \"$@\"; }}\n{lines}"
            ))
            .env("BUS", rig.address())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// No method and no signal is left out.
#[test]
fn the_page_shows_every_call() {
    let page = document("docs/dbus-api.md");
    let words: std::collections::BTreeSet<&str> =
        page.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for (object, method) in interfaces(&rig())
        .values()
        .flat_map(|body| crate::rights::methods(body))
    {
        assert!(
            words.contains(method.as_str()),
            "docs/dbus-api.md does not show {object}.{method}"
        );
    }
    assert!(words.contains("Notification"));
}
