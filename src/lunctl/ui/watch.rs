//! The live view: a board that is redrawn on a terminal, lines elsewhere, documents for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use anstream::{AutoStream, ColorChoice};
use lun_core::id::{LunId, OpId};
use lun_core::model::{Health, Lun, LunStatus, OpView, VdsEnum as _};
use lun_ipc::HostView;
use serde_json::{Value, json};

use super::drive::short;
use super::progress::{Shown, plain};
use super::table::render;
use super::{Ui, lun, op, paint, settle};
use crate::failure::Failure;
use crate::json as documents;

/// Columns of a bar.
const BAR: u32 = 20;
/// What stands where the service went away.
const AWAY: &str = "the service went away; waiting for it to come back";

/// Where and how the view is shown.
#[derive(Debug)]
pub(crate) struct View {
    ui: Ui,
    how: How,
    /// What was seen last.
    host: HostView,
    away: bool,
}

#[derive(Debug)]
enum How {
    Board(Screen),
    Lines(Lines),
    Documents(Option<Value>),
}

impl View {
    /// A board on a terminal, documents with `--json`, lines elsewhere.
    pub(crate) fn new(ui: &Ui) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let how = if ui.json() {
            How::Documents(None)
        } else if ui.interactive() && !dumb {
            How::Board(Screen::enter())
        } else {
            How::Lines(Lines::default())
        };
        Self {
            ui: ui.clone(),
            how,
            host: HostView::default(),
            away: false,
        }
    }

    /// Shows what is there now; `false`: nobody reads any more.
    pub(crate) fn show(&mut self, host: HostView) -> Result<bool, Failure> {
        let back = std::mem::take(&mut self.away);
        self.host = host;
        match &mut self.how {
            How::Board(_) => self.redraw(),
            How::Lines(lines) => {
                if back {
                    self.ui.note("the service is back");
                }
                for line in lines.changed(&self.host) {
                    if !self.ui.line(&line)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            How::Documents(last) => {
                let now = document(&self.host)?;
                if last.as_ref() == Some(&now) {
                    return Ok(true);
                }
                let read = self.ui.document_line(&now);
                *last = Some(now);
                read
            }
        }
    }

    /// Draws the board anew, as after a change of the terminal's size.
    pub(crate) fn redraw(&mut self) -> Result<bool, Failure> {
        let How::Board(screen) = &self.how else {
            return Ok(true);
        };
        let mut text = board(&self.host);
        text.push('\n');
        if self.away {
            text.push_str(&format!("{AWAY}.\n"));
        }
        text.push_str("Ctrl-C ends this view; operations go on.\n");
        screen.draw(&text).map(|()| true)
    }

    /// The service went away.
    pub(crate) fn away(&mut self) -> Result<bool, Failure> {
        if std::mem::replace(&mut self.away, true) {
            return Ok(true);
        }
        if matches!(self.how, How::Lines(_) | How::Documents(_)) {
            self.ui.note(AWAY);
        }
        self.redraw()
    }

    /// Ends the view; the last board stays on the terminal.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let Self { ui, how, host, .. } = self;
        if let How::Board(screen) = how {
            drop(screen);
            ui.text(&board(&host))?;
        }
        Ok(())
    }
}

/// The terminal's other screen, for as long as this lives.
#[derive(Debug)]
struct Screen;

impl Screen {
    fn enter() -> Self {
        // The other screen, no cursor, long lines cut. That it fails is told by the first drawing.
        drop(control("\x1b[?1049h\x1b[?25l\x1b[?7l"));
        Self
    }

    /// Draws as much of the text as fits.
    fn draw(&self, text: &str) -> Result<(), Failure> {
        let (rows, _) = console::Term::stdout().size();
        let text = match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => text.to_owned(),
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => paint::words(text),
        };
        settle(control(&frame(&text, usize::from(rows))))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing better can be done with a terminal that takes no more text.
        drop(control("\x1b[?7h\x1b[?25h\x1b[?1049l"));
    }
}

fn control(text: &str) -> io::Result<()> {
    let mut stream = io::stdout().lock();
    stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush())
}

/// What draws a text over an older one without a flicker, `rows` lines of it at most.
fn frame(text: &str, rows: usize) -> String {
    let lines = text.lines().take(rows.saturating_sub(1));
    let lines: String = lines.map(|line| format!("{line}\x1b[K\r\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// Whether somebody should look after a LUN.
fn needs_care(lun: &Lun) -> bool {
    lun.health != Health::Healthy || lun.status != LunStatus::Online || lun.held
}

fn running(host: &HostView) -> Vec<&OpView> {
    host.ops.iter().filter(|op| op.is_running()).collect()
}

fn careful(host: &HostView) -> Vec<&Lun> {
    host.luns.iter().filter(|lun| needs_care(lun)).collect()
}

/// The whole view as text.
pub(crate) fn board(host: &HostView) -> String {
    let (ops, luns) = (running(host), careful(host));
    let mut text = summary(host);
    if !ops.is_empty() {
        let rows = ops.iter().map(|view| {
            vec![
                view.id.to_string(),
                view.lun_name.clone(),
                view.state.clone(),
                format!("{} {}", bar(view.percent), op::progress(view)),
            ]
        });
        text.push('\n');
        text.push_str(&render(&["OP", "LUN", "STATE", "PROGRESS"], rows.collect()));
    }
    if !luns.is_empty() {
        let luns: Vec<Lun> = luns.into_iter().cloned().collect();
        text.push('\n');
        text.push_str(&lun::table(&luns));
    }
    if let Some(why) = &host.ledger_degraded {
        text.push_str(&format!("\nledger: degraded: {why}\n"));
    }
    text
}

/// `1 operation runs, 2 of 7 LUNs need care.`
fn summary(host: &HostView) -> String {
    let ops = match running(host).len() {
        0 => "No operation runs".to_owned(),
        1 => "1 operation runs".to_owned(),
        more => format!("{more} operations run"),
    };
    let all = host.luns.len();
    let luns = match (all, careful(host).len()) {
        (0, _) => "there is no LUN".to_owned(),
        (1, 0) => "the one LUN is healthy".to_owned(),
        (_, 0) => format!("all {all} LUNs are healthy"),
        (_, 1) => format!("1 of {all} LUNs needs care"),
        (_, some) => format!("{some} of {all} LUNs need care"),
    };
    format!("{ops}, {luns}.\n")
}

/// `[========            ]`
fn bar(percent: u32) -> String {
    let full = (percent.min(100) * BAR / 100) as usize;
    format!("[{:<width$}]", "=".repeat(full), width = BAR as usize)
}

/// The view as a document.
fn document(host: &HostView) -> Result<Value, Failure> {
    let mut document = json!({
        "operations": documents::document(&running(host))?,
        "luns": documents::document(&careful(host))?,
    });
    documents::add_ledger(&mut document, host);
    Ok(document)
}

/// What was told of each object, for a view without a terminal.
#[derive(Debug, Default)]
struct Lines {
    begun: bool,
    progress: BTreeMap<OpId, Option<Shown>>,
    ended: BTreeSet<OpId>,
    luns: BTreeMap<LunId, (String, String)>,
    ledger: Option<String>,
}

impl Lines {
    /// A line for each thing that differs from what was told; at first the state of all.
    fn changed(&mut self, host: &HostView) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.begun {
            lines.push(summary(host).trim_end().to_owned());
            // What had ended before is history.
            let ended = host.ops.iter().filter(|op| !op.is_running());
            self.ended = ended.map(|op| op.id).collect();
            self.begun = true;
        }
        self.ops(host, &mut lines);
        self.luns(host, &mut lines);
        if self.ledger != host.ledger_degraded {
            lines.push(match &host.ledger_degraded {
                Some(why) => format!("ledger: degraded: {why}"),
                None => "ledger: ok".to_owned(),
            });
            self.ledger.clone_from(&host.ledger_degraded);
        }
        lines
    }

    fn ops(&mut self, host: &HostView, lines: &mut Vec<String>) {
        for view in &host.ops {
            let line = if view.is_running() {
                plain(view, self.progress.entry(view.id).or_default())
            } else if self.ended.insert(view.id) {
                self.progress.remove(&view.id);
                Some(op::ended(view))
            } else {
                None
            };
            lines.extend(line.map(|line| line.trim_end().to_owned()));
        }
    }

    fn luns(&mut self, host: &HostView, lines: &mut Vec<String>) {
        let there: BTreeSet<LunId> = host.luns.iter().map(|lun| lun.id).collect();
        self.luns.retain(|id, (name, _)| {
            let stays = there.contains(id);
            if !stays {
                lines.push(format!("{name}: gone"));
            }
            stays
        });
        for lun in &host.luns {
            let standing = standing(lun);
            match self.luns.get_mut(&lun.id) {
                Some((_, told)) if *told == standing => {}
                Some((_, told)) => {
                    lines.push(format!("{}: {standing}", lun.name));
                    *told = standing;
                }
                None if needs_care(lun) => {
                    lines.push(format!("{}: {standing}", lun.name));
                    self.luns.insert(lun.id, (lun.name.clone(), standing));
                }
                None => {}
            }
        }
    }
}

/// `ONLINE, FAILED_REDUNDANCY, 1 of 2 in sync, held`
fn standing(lun: &Lun) -> String {
    let count = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let held = if lun.held { ", held" } else { "" };
    format!(
        "{}, {}, {} of {} in sync{held}",
        short(lun.status.name()),
        short(lun.health.name()),
        count(lun.redundancy.members_in_sync),
        count(lun.redundancy.members_wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    fn host() -> HostView {
        let mut healthy = samples::degraded();
        healthy.id = LunId::weak("md1");
        healthy.name = "md1".to_owned();
        healthy.health = Health::Healthy;
        HostView {
            luns: vec![samples::degraded(), healthy],
            ops: vec![samples::running()],
            ..HostView::default()
        }
    }

    #[test]
    fn the_board_shows_what_runs_and_what_needs_care() {
        let text = board(&host());
        assert!(
            text.starts_with("1 operation runs, 1 of 2 LUNs needs care.\n"),
            "{text}"
        );
        assert!(
            text.contains("[========            ] rebuild 42%"),
            "{text}"
        );
        assert!(text.contains("REBUILDING"), "{text}");
        assert!(!text.contains("md1"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn nothing_to_see_is_said_in_words() {
        assert_eq!(
            board(&HostView::default()),
            "No operation runs, there is no LUN.\n"
        );
        let mut host = host();
        host.ops.clear();
        host.luns.remove(0);
        assert_eq!(board(&host), "No operation runs, the one LUN is healthy.\n");
        host.ledger_degraded = Some("disk full".to_owned());
        assert!(board(&host).contains("ledger: degraded: disk full"));
    }

    #[test]
    fn a_frame_never_scrolls() {
        let shown = frame("a\nb\nc\nd\n", 3);
        assert_eq!(shown, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn each_change_is_told_once() {
        let mut lines = Lines::default();
        let mut host = host();
        let first = lines.changed(&host);
        assert_eq!(first.len(), 3, "{first:?}");
        assert!(first[1].starts_with("operation 7: md0 running: rebuild 42%"));
        assert_eq!(first[2], "md0: ONLINE, REBUILDING, 1 of 2 in sync");
        assert_eq!(lines.changed(&host), Vec::<String>::new());

        host.ops = vec![samples::finished("succeeded", 0)];
        host.luns[0].health = Health::Healthy;
        let then = lines.changed(&host);
        assert_eq!(then.len(), 2, "{then:?}");
        assert!(then[0].contains("recovery of md0 succeeded"), "{then:?}");
        assert_eq!(then[1], "md0: ONLINE, HEALTHY, 1 of 2 in sync");

        host.luns.clear();
        assert_eq!(lines.changed(&host), ["md0: gone"]);
        host.ledger_degraded = Some("disk full".to_owned());
        assert_eq!(lines.changed(&host), ["ledger: degraded: disk full"]);
        assert_eq!(lines.changed(&host), Vec::<String>::new());
    }

    #[test]
    fn an_operation_that_ended_before_is_not_told() {
        let mut host = host();
        host.ops = vec![samples::finished("succeeded", 0)];
        let mut lines = Lines::default();
        let told = lines.changed(&host).concat();
        assert!(!told.contains("succeeded"), "{told}");
    }
}
