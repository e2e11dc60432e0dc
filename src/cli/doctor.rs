//! `krea doctor`: the flags, and what is printed.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::completions::print;
use crate::doctor::{self, Check, Finding, Verdict, isolation};
use crate::error::{Error, Exit, Result};

/// Say what is on this machine, what of it is really used, and what to do if it is not
#[derive(Args)]
#[command(after_help = "\
ok is there and works, -- is not there and can be done without, !! is wrong. Exit code 0 if backgrounds can be
removed, else 5.

Examples:
  krea doctor
  krea doctor --json | jq '.checks[] | select(.verdict == \"wrong\")'")]
pub(super) struct DoctorArgs {
    /// As one JSON object
    #[arg(long)]
    json: bool,

    /// Give a check up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, hide_short_help = true)]
    deadline: f64,

    /// Carry one check out in this process
    #[arg(long, value_name = "NAME", hide = true)]
    check: Option<String>,
}

impl DoctorArgs {
    pub(super) fn run(&self) -> Result<Exit> {
        let failed = |e: serde_json::Error| Error::Output(e.to_string());
        if let Some(name) = &self.check {
            isolation::die_with_parent();
            let finding = doctor::look(name).ok_or_else(|| Error::Usage(format!("'{name}' is not a check")))?;
            return print((serde_json::to_string(&finding).map_err(failed)? + "\n").as_bytes());
        }
        let deadline = Duration::try_from_secs_f64(self.deadline)
            .map_err(|e| Error::Usage(format!("--deadline {}: {e}", self.deadline)))?;
        let findings = doctor::examine(deadline);
        let exit = doctor::verdict(findings.iter().map(|(_, finding)| finding));
        let text = match self.json {
            true => serde_json::to_string_pretty(&as_json(&findings, exit)).map_err(failed)? + "\n",
            false => as_list(&findings, exit),
        };
        print(text.as_bytes()).map(|_| exit)
    }
}

fn as_json(findings: &[(&Check, Finding)], exit: Exit) -> serde_json::Value {
    let check = |(check, finding): &(&Check, Finding)| {
        json!({
            "name": check.name,
            "verdict": finding.verdict(),
            "lines": finding.lines,
            "facts": finding.facts,
        })
    };
    json!({
        "version": 1,
        "krea": env!("CARGO_PKG_VERSION"),
        "ready": exit == Exit::Done,
        "checks": findings.iter().map(check).collect::<Vec<_>>(),
    })
}

fn as_list(findings: &[(&Check, Finding)], exit: Exit) -> String {
    let width = findings.iter().map(|(check, _)| check.title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (check, finding) in findings {
        for (i, line) in finding.lines.iter().enumerate() {
            let mark = match line.verdict {
                Verdict::Ok => "ok",
                Verdict::Absent => "--",
                Verdict::Wrong => "!!",
            };
            let title = if i == 0 { check.title } else { "" };
            text += &format!("{mark}  {title:width$}  {}\n", line.text);
            if let Some(remedy) = &line.remedy {
                text += &format!("    {:width$}    {remedy}\n", "");
            }
        }
    }
    text += match exit {
        Exit::Done => "\nBackgrounds can be removed on this machine.\n",
        _ => "\nBackgrounds cannot be removed on this machine until what is marked !! is put right.\n",
    };
    text
}
