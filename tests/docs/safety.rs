//! `docs/safety.md` names tests: they must be there.

use std::collections::BTreeSet;
use std::path::Path;

use super::document;

#[test]
fn every_test_that_the_safety_page_names_is_there() {
    let page = document("docs/safety.md");
    let spans = page.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = spans
        .filter(|span| span.contains("::") && !span.ends_with("::"))
        .collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let (module, function) = name.rsplit_once("::").unwrap();
        let stem = format!("tests/{}", module.replace("::", "/"));
        let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
        let found = files.iter().filter(|file| house.join(file).exists());
        let text: String = found.map(|file| document(file)).collect();
        assert!(
            text.contains(&format!("fn {function}(")),
            "there is no test {name}"
        );
    }
}
