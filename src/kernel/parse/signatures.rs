//! What `wipefs --json` found on a device.

use lun_core::Error;
use serde::Deserialize;

use super::bad;

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The names of the signatures (`ext4`, `gpt`, `LVM2_member`, ...), sorted, each once. A GPT disk
/// has three: two tables and a protective MBR.
///
/// # Errors
/// When the text is not the tool's JSON. No text at all means no signature (util-linux before
/// 2.37 prints nothing then).
pub fn signatures(text: &str) -> Result<Vec<String>, Error> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let report: Report = serde_json::from_str(text)
        .map_err(|_| bad("wipefs --json", text, "an object with a list `signatures`"))?;
    let mut names: Vec<String> = report
        .signatures
        .into_iter()
        .map(|signature| signature.kind.unwrap_or_else(|| "unnamed".to_owned()))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}
