//! The documents against what they speak of.

mod json;

use std::path::Path;

/// The text of a file of the repository.
fn document(path: &str) -> String {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(house.join(path)).unwrap()
}
