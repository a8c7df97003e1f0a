//! Tables that fit into 80 columns.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// Columns of a terminal of which nothing is known.
const WIDTH: u16 = 80;
/// Columns between two columns of a table.
const GAP: u16 = 2;
/// The last column of a table holds prose; it is never made narrower than this.
const LAST: u16 = 11;

/// Lays a table out; no rows, no table.
pub(super) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    laid_out(header, rows, WIDTH)
}

fn laid_out(header: &[&str], rows: Vec<Vec<String>>, width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width + GAP) // the gap after the last column is trimmed
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    // Words such as FAILED_REDUNDANCY must not be broken: as long as there is room, only the last
    // column is wrapped.
    let widths = table.column_max_content_widths();
    let last = widths.len().saturating_sub(1);
    let fixed = widths.iter().take(last).fold(0_u16, |sum, width| {
        sum.saturating_add(*width).saturating_add(GAP)
    });
    let fits = fixed.saturating_add(LAST) <= width;
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if fits && number != last {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// The same, indented by two columns.
pub(super) fn indented(header: &[&str], rows: Vec<Vec<String>>) -> String {
    laid_out(header, rows, WIDTH - GAP)
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect()
}

/// One labelled line of a detailed view; the text is wrapped to fit.
pub(super) fn field(label: &str, text: &str) -> String {
    labelled(label, 14, text)
}

/// One line of a numbered list; the text is wrapped to fit.
pub(super) fn item(number: usize, text: &str) -> String {
    labelled(&format!("{number}."), 4, text)
}

/// A label of `width` columns, indented, and text wrapped beside it.
fn labelled(label: &str, width: usize, text: &str) -> String {
    let room = usize::from(WIDTH).saturating_sub(width + 2);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            let needed = line.chars().count() + 1 + word.chars().count();
            if line.is_empty() {
                line.push_str(word);
            } else if needed <= room {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    let mut shown = String::new();
    for (number, line) in lines.iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        shown.push_str(format!("  {label:<width$}{line}").trim_end());
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_80_columns() {
        let long = "word ".repeat(60);
        let rows = vec![
            vec!["x".to_owned(), long.clone()],
            vec![long, "y".to_owned()],
        ];
        let text = render(&["A", "B"], rows.clone()) + &indented(&["A", "B"], rows);
        let widest = text
            .lines()
            .max_by_key(|line| line.chars().count())
            .unwrap();
        assert!(widest.chars().count() <= 80, "{widest:?}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{text:?}");
    }

    #[test]
    fn only_the_last_column_is_wrapped() {
        let word = "W".repeat(60);
        let text = render(
            &["A", "B"],
            vec![vec![
                word.clone(),
                "one two three four five six seven".to_owned(),
            ]],
        );
        assert!(text.contains(&word), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_field_is_wrapped_under_itself() {
        assert_eq!(field("size", "1 GiB"), "  size          1 GiB\n");
        let text = field("message", &"word ".repeat(30));
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("                word"))
        );
    }
}
