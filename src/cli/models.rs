//! `krea models`: the flags, and what is printed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::completions::print;
use super::run::ProgressKind;
use crate::console::{Console, Messages};
use crate::error::{Error, Exit, Result};
use crate::models::consent;
use crate::models::manifest::Model;
use crate::models::{Environment, Library, Manifest, Options, Retry, State, Transfer, Verdict, bytes_in_words};
use crate::progress::Kind;

/// List, fetch, check and remove models
#[derive(Args)]
#[command(after_help = "`krea models --help` says where files lie and has examples.")]
#[command(after_long_help = "\
Files lie in the Hugging Face cache, in its layout, shared with other tools. HF_HOME, HF_HUB_CACHE,
HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and HF_HUB_DOWNLOAD_TIMEOUT are honoured; so is
SSL_CERT_FILE. A plain file in the folder KREA_MODELS_DIR (~/.local/share/krea/models) comes first.
What was pulled once is locked by its sha256 in ~/.local/state/krea/models.lock.json; a later
difference is an error.

Examples:
  krea models list
  krea models pull yolov8n-seg --accept-license
  krea models verify
  krea models import rfdetr-seg output/*.onnx")]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: Command,

    /// Another list of models than the built-in one
    #[arg(long, value_name = "FILE", env = "KREA_MODELS_MANIFEST", global = true, hide_short_help = true)]
    manifest: Option<PathBuf>,

    /// Only errors
    #[arg(short, long, global = true, help_heading = "Messages")]
    quiet: bool,

    /// More messages
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet", help_heading = "Messages")]
    verbose: u8,

    /// How progress is shown on standard error; auto is a bar on a terminal, else a line now and then
    #[arg(long, value_name = "HOW", default_value = "auto", global = true, help_heading = "Messages")]
    progress: ProgressKind,
}

#[derive(Subcommand)]
enum Command {
    /// What there is, and what of it is on this machine
    List {
        /// As JSON, with every file's path and checksum
        #[arg(long)]
        json: bool,
    },
    Pull(PullArgs),
    /// Read files again and compare them with their checksums
    #[command(after_help = "Examples:\n  krea models verify\n  krea models verify yolov8n-seg")]
    Verify {
        /// Without a name: everything that is here
        name: Option<String>,
    },
    /// Remove a model's files; the licence stays agreed to
    #[command(after_help = "Examples:\n  krea models rm taew2.1\n  krea models rm krea-14b && df -h")]
    Rm {
        name: String,
    },
    /// Print where a model's files are, one a line
    #[command(
        after_help = "Examples:\n  krea models path yolov8n-seg\n  cp \"$(krea models path taew2.1)\" /media/stick"
    )]
    Path {
        name: String,
    },
    /// Take a file that you have made or brought as a model's file
    #[command(after_help = "\
Examples:
  krea models import rfdetr-seg output/*.onnx
  krea models import yolov8n-seg /media/stick/yolov8n-seg.onnx")]
    Import {
        name: String,
        file: PathBuf,
    },
}

/// Fetch models, and what they need; goes on where it was cut off
#[derive(Args)]
#[command(after_help = "\
Examples:
  krea models pull wan-vae taew2.1
  krea models pull krea-14b --accept-license
  HF_ENDPOINT=https://hub.example krea models pull wan-vae")]
struct PullArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Agree to a licence that binds, without being asked
    #[arg(long, visible_alias = "accept-licence")]
    accept_license: bool,

    /// Take what the hub has now, not what was locked at the first pull
    #[arg(long)]
    update: bool,

    /// Without the models that the named ones need
    #[arg(long)]
    no_needs: bool,

    /// Ask nothing of the network
    #[arg(long)]
    offline: bool,

    /// Give up after so many failures in a row
    #[arg(long, value_name = "N", default_value_t = Retry::default().tries, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,

    /// First pause before trying again; each later one is twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = Retry::default().delay.as_secs_f64(), hide_short_help = true)]
    retry_delay: f64,
}

impl ModelsArgs {
    pub(super) fn run(self) -> Result<Exit> {
        let color = clap::ColorChoice::Auto;
        let console = Console::start(&Messages { quiet: self.quiet, verbose: self.verbose, filter: None, color })?;
        let kind = if self.quiet { Kind::None } else { Kind::for_stderr() };
        let mut progress = Transfer::new(self.progress.kind().unwrap_or(kind), console);
        let manifest = self.manifest.as_deref().map_or_else(|| Ok(Manifest::built_in()), Manifest::open)?;
        let library = Library::new(manifest, Environment::from_env());
        match self.command {
            Command::List { json: true } => print(listed_as_json(&library)?.as_bytes()),
            Command::List { json: false } => print(listed(&library)?.as_bytes()),
            Command::Pull(args) => args.pull(&library, &mut progress),
            Command::Verify { name } => verify(&library, name.as_deref(), &mut progress),
            Command::Rm { name } => {
                let freed = library.remove(library.model(&name)?)?;
                tracing::info!("{name}: {} freed", bytes_in_words(freed));
                Ok(Exit::Done)
            }
            Command::Path { name } => {
                let paths = library.require(&name)?;
                print(paths.iter().map(|p| format!("{}\n", p.display())).collect::<String>().as_bytes())
            }
            Command::Import { name, file } => {
                let path = library.import(library.model(&name)?, &file, &mut progress)?;
                tracing::info!("{name} is here: {}", path.display());
                Ok(Exit::Done)
            }
        }
    }
}

impl PullArgs {
    fn pull(&self, library: &Library, progress: &mut Transfer) -> Result<Exit> {
        let delay = Duration::try_from_secs_f64(self.retry_delay)
            .map_err(|e| Error::Usage(format!("--retry-delay {}: {e}", self.retry_delay)))?;
        let options = Options {
            offline: self.offline,
            update: self.update,
            needs: !self.no_needs,
            retry: Retry { tries: self.tries, delay },
        };
        let mut agrees = |model: &Model| if self.accept_license { Ok(true) } else { consent::to_licence(model) };
        library.pull(&self.names, &options, &mut agrees, progress)?;
        Ok(Exit::Done)
    }
}

fn verify(library: &Library, name: Option<&str>, progress: &mut Transfer) -> Result<Exit> {
    let models = match name {
        Some(name) => vec![library.model(name)?],
        None => library.manifest.models.iter().collect(),
    };
    let (mut report, mut damaged, mut missing) = (String::new(), Vec::new(), Vec::new());
    for model in models {
        for verdict in library.verify(model, progress)? {
            match verdict {
                Verdict::Sound { path, sha256 } => report += &format!("ok {sha256} {}\n", path.display()),
                Verdict::Unknown { path, sha256 } => report += &format!("unknown {sha256} {}\n", path.display()),
                Verdict::Damaged { path, expected, found } => {
                    report += &format!("damaged {found} {}\n", path.display());
                    damaged.push(format!("{}: {found}, not {expected}", path.display()));
                }
                Verdict::Missing { name: file } if name.is_some() => missing.push(file),
                Verdict::Missing { .. } => {}
            }
        }
    }
    print(report.as_bytes())?;
    if !damaged.is_empty() {
        let list = damaged.join("\n  ");
        return Err(Error::Model(format!("damaged:\n  {list}\nkrea models rm, then krea models pull, fetches anew")));
    }
    match missing.as_slice() {
        [] => Ok(Exit::Done),
        files => Err(Error::Model(format!("not on this machine: {}", files.join(", ")))),
    }
}

/// In one word, and the bytes if they are known.
fn word(state: &State) -> &'static str {
    match state {
        State::Here { .. } => "here",
        State::Partial { .. } => "partial",
        State::Damaged { .. } => "damaged",
        State::Missing => "missing",
    }
}

fn listed(library: &Library) -> Result<String> {
    let mut rows = vec![["NAME", "SIZE", "STATE", "LICENCE", "FOR"].map(str::to_owned)];
    for model in &library.manifest.models {
        let states = model.files.iter().map(|f| library.state(f)).collect::<Result<Vec<_>>>()?;
        let mut size = 0;
        let mut about = false;
        for (file, state) in model.files.iter().zip(&states) {
            let known = true_size(library, file, state)?;
            about |= known.is_none();
            size += known.unwrap_or(file.about_bytes);
        }
        let worst = ["damaged", "partial", "missing"].into_iter().find(|w| states.iter().any(|s| word(s) == *w));
        let size = format!("{}{}", if about { "~" } else { "" }, bytes_in_words(size));
        let state = worst.unwrap_or("here").to_owned();
        rows.push([model.name.clone(), size, state, model.licence.clone(), model.purpose.clone()]);
    }
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |r: &[String; 5]| {
        let cells: String = (0..4).map(|i| format!("{:w$}  ", r[i], w = widths[i])).collect();
        format!("{cells}{}\n", r[4])
    };
    Ok(rows.iter().map(line).collect())
}

/// The size of the file that is here, or that was locked.
fn true_size(library: &Library, file: &crate::models::manifest::File, state: &State) -> Result<Option<u64>> {
    Ok(match state {
        State::Here { path, .. } => std::fs::metadata(path).ok().map(|m| m.len()),
        _ => library.locked(file)?.map(|e| e.size),
    })
}

fn listed_as_json(library: &Library) -> Result<String> {
    let mut models = Vec::new();
    for model in &library.manifest.models {
        let mut files = Vec::new();
        for file in &model.files {
            let state = library.state(file)?;
            let size = true_size(library, file, &state)?;
            let locked = library.locked(file)?;
            let path = match &state {
                State::Here { path, .. } | State::Damaged { path, .. } => Some(path.display().to_string()),
                _ => None,
            };
            files.push(json!({
                "name": file.name,
                "from": file.from,
                "bytes": size.unwrap_or(file.about_bytes),
                "bytes_are_approximate": size.is_none(),
                "state": word(&state),
                "bytes_here": if let State::Partial { bytes } = state { Some(bytes) } else { None },
                "path": path,
                "commit": locked.as_ref().map(|e| e.commit.clone()).filter(|c| !c.is_empty()),
                "sha256": locked.map(|e| e.sha256).or_else(|| file.sha256.clone()),
            }));
        }
        models.push(json!({
            "name": model.name,
            "for": model.purpose,
            "licence": model.licence,
            "licence_binds": model.binding,
            "needs": model.needs,
            "export": model.export,
            "here": library.locate(model)?.is_some(),
            "files": files,
        }));
    }
    let text = serde_json::to_string_pretty(&json!({ "version": 1, "models": models }));
    Ok(text.map_err(|e| Error::Output(e.to_string()))? + "\n")
}
